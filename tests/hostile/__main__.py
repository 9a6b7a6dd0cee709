"""Draw hostile answers and files, hand them to the real stages, and print what came of them.

Exit code 1 if anything was raised, an id was wrong, or the key stood anywhere.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.answers import run_answers
from tests.hostile.files import run_files
from tests.hostile.kinds import table_of_variants
from tests.readme_blocks import machine, write_block

README = Path(__file__).with_name("README.md")
ANSWERS, FILES = 20_000, 1_000
PROBLEMS_SHOWN = 20


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same answers and files (1)")
    parser.add_argument("--answers", type=int, default=ANSWERS, help=f"at least so many ({ANSWERS})")
    parser.add_argument("--files", type=int, default=FILES, help=f"so many videos and images ({FILES})")
    parser.add_argument("--write", action="store_true", help="put both tables into tests/hostile/README.md")
    options = parser.parse_args()
    if options.write and (options.answers < ANSWERS or options.files < FILES):
        parser.error(f"only at least {ANSWERS} answers and {FILES} files are written")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batchgen-hostile-") as name:
        answers, files = Path(name) / "answers", Path(name) / "files"
        answers.mkdir()
        files.mkdir()
        result = run_answers(options.answers, options.seed, answers)
        refused, problems = run_files(options.files, options.seed, files)
    outcomes = ", ".join(f"{number} {kind}" for kind, number in sorted(result.outcomes.items()))
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(refused.items()))
    problems = result.problems + problems
    lines = (
        f"{result.answers:,} answers, {options.files:,} files: {len(problems)} problems.\n",
        f"- Of the create requests: {outcomes}. Ids taken: {result.accepted:,}, each from its own answer.",
        f"- Of the files, refused: {kinds}.",
    )
    print(*lines, sep="\n")
    print(f"{time.monotonic() - began:.0f} s, seed {options.seed}", file=sys.stderr)
    for problem in problems[:PROBLEMS_SHOWN]:
        print(f"\n{problem}", file=sys.stderr)
    if problems:
        return 1
    if options.write:
        kinds_table = table_of_variants()
        if kinds_table is None:
            return 1
        write_block(README, "drawn", "\n".join((*lines, f"\nSeed {options.seed}, {machine()}.")))
        write_block(README, "kinds", kinds_table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
