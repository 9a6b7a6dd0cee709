"""`python -m tests.campaign`: the whole campaign, or a part of it; one table on standard output.

Exit code 1 if anything was bought twice, lost, or otherwise not as it should be; what is needed to look into it stays.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.campaign import points
from tests.campaign.scenarios import MADE, scenarios
from tests.campaign.table import complaints, table
from tests.campaign.trial import Trial, carry_out

AT_ONCE = 4 * (os.cpu_count() or 1)  # most of a trial is waiting

RunContext = Callable[[Path], Trial]


def chosen(runs: int, seed: int, only: str | None) -> list[RunContext]:
    """The trials asked for, in the order of the table."""
    work: list[RunContext] = []
    if only is None or only in MADE:
        listed = sorted(scenarios(runs, seed, only), key=lambda each: list(MADE).index(each.name))
        work += [lambda folder, scenario=each: carry_out(scenario, folder) for each in listed]  # type: ignore[misc]
    if only is None or only in points.ROWS:
        work += [lambda folder, point=each: points.die_at(point, folder) for each in points.points(only)]  # type: ignore[misc]
    elif only.partition(" #")[0] in points.ROWS:
        work.append(lambda folder: points.die_at(points.one(only), folder))
    return work


def perform(work: Sequence[RunContext], folder: Path) -> list[Trial]:
    """Carry the trials out, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        begun = {threads.submit(each, folder / f"{number:03}"): number for number, each in enumerate(work)}
        trials: dict[int, Trial] = {}
        for done in as_completed(begun):
            trial = trials[begun[done]] = done.result()
            mark = "" if trial.passed else "  ← " + trial.books.surprises[0][:150]
            told = f"{len(trials)}/{len(work)}  {trial.name}: {trial.kills} kills, {trial.seconds:.1f} s{mark}"
            print(told, file=sys.stderr, flush=True)
    return [trials[number] for number in sorted(trials)]


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="scenarios besides the crash points (200)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same scenarios (1)")
    parser.add_argument("--only", metavar="NAME", help="one row of the table, or one crash point: 'ROW #N'")
    asked = parser.parse_args()
    work = chosen(asked.runs, asked.seed, asked.only)
    if not work:
        parser.error(f"there is no row {asked.only!r}; there are:\n  " + "\n  ".join((*MADE, *points.ROWS)))
    folder = Path(tempfile.mkdtemp(prefix="batchgen-campaign-"))
    began = time.monotonic()
    trials = perform(work, folder)
    print(table(trials))
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    kills = sum(trial.kills for trial in trials)
    print(f"\n{len(trials)} runs and {kills} kills in {minutes} min {seconds} s, seed {asked.seed}", file=sys.stderr)
    if told := complaints(trials):
        print(told, file=sys.stderr)
        return 1
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
