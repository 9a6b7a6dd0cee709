"""Render the corpus, measure each clip as a run does, and print what was noticed and what it took.

Exit code 1 if fewer than 99 % of the defects are noticed, or more than 0.5 % of the sound clips are called wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.clips.corpus import DEFECTS, recipes, render
from tests.clips.judging import Judgement, judge
from tests.clips.timing import Timing, timings
from tests.readme_blocks import machine, write_block

README = Path(__file__).with_name("README.md")
IMAGES, DEFECTS_EACH = 84, 15
RECALL_MIN, FALSE_ALARMS_MAX = 0.99, 0.005


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.clips", description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"two sound clips of each ({IMAGES})")
    parser.add_argument("--defects", type=int, default=DEFECTS_EACH, help=f"clips of each defect ({DEFECTS_EACH})")
    parser.add_argument("--seed", type=int, default=1, help="another one draws another corpus (1)")
    parser.add_argument("--folder", type=Path, help="keep the clips here, and render only those that are not there")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that render")
    parser.add_argument("--write", action="store_true", help="put the figures into tests/clips/README.md")
    options = parser.parse_args()
    if options.write and (options.images < IMAGES or options.defects < DEFECTS_EACH):
        parser.error(f"only figures of at least {IMAGES} images and {DEFECTS_EACH} clips of each defect are written")
    items = recipes(options.images, options.defects, options.seed)
    with tempfile.TemporaryDirectory(prefix="batchgen-clips-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        cases = render(folder, items, options.processes)
        judgements, seconds = judge(folder, cases)
        times = timings(Path(name))
    summary, is_good = figures(judgements, seconds)
    for block in (summary, by_kind(judgements), time_table(times)):
        print(block, end="\n\n")
    for judgement in judgements:
        if judgement.is_missed or judgement.is_false_alarm:
            names = (sorted(judgement.case.problems) or "nothing", sorted(judgement.problems) or "nothing")
            print(f"{judgement.case.id}: planted {names[0]}, noticed {names[1]}", file=sys.stderr)
    if options.write:
        write_block(README, "figures", f"{summary}\n\n{by_kind(judgements)}\n\n{machine()}.")
        write_block(README, "times", f"{time_table(times)}\n\n{machine()}.")
    return 0 if is_good else 1


def figures(judgements: Sequence[Judgement], seconds: float) -> tuple[str, bool]:
    """Recall and false alarms in a sentence, and whether they are good enough."""
    planted = [judgement for judgement in judgements if judgement.case.problems]
    sound = [judgement for judgement in judgements if not judgement.case.problems]
    noticed = sum(not judgement.is_missed for judgement in planted)
    alarms = sum(judgement.is_false_alarm for judgement in sound)
    text = (
        f"Of {len(planted)} planted defects, {noticed} are noticed ({noticed / len(planted):.1%});"
        f" of {len(sound)} sound clips, {alarms} are called wrong ({alarms / len(sound):.1%}). A clip takes"
        f" {1e3 * seconds / len(judgements):.0f} ms of CPU time on average, comparisons of look-alikes included."
    )
    return text, noticed >= RECALL_MIN * len(planted) and alarms <= FALSE_ALARMS_MAX * len(sound)


def by_kind(judgements: Sequence[Judgement]) -> str:
    """A table: how many of each scene and each defect, and how many were judged wrongly."""
    lines = ["| clips | number | judged wrongly |", "| --- | ---: | ---: |"]
    for kind in dict.fromkeys(judgement.case.kind for judgement in judgements):
        of_kind = [judgement for judgement in judgements if judgement.case.kind == kind]
        wrong = sum(judgement.is_missed or judgement.is_false_alarm for judgement in of_kind)
        name = f"defect: {kind}" if kind in DEFECTS else f"sound: {kind}"
        lines.append(f"| {name} | {len(of_kind)} | {wrong} |")
    return "\n".join(lines)


def time_table(times: Sequence[Timing]) -> str:
    """A table of milliseconds."""
    lines = [
        "| clip of 5 s at 24 frames a second | MB | check, ms | measures, ms | decoded whole, ms |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for timing in times:
        numbers = f"{timing.check:.0f} | {timing.measure:.0f} | {timing.whole:.0f}"
        lines.append(f"| {timing.height}p, {timing.scene} | {timing.megabytes:.1f} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
