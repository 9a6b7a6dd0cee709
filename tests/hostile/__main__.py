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

ANSWERS, FILES = 20_000, 1_000
PROBLEMS_SHOWN = 20


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same answers and files (1)")
    parser.add_argument("--answers", type=int, default=ANSWERS, help=f"at least so many ({ANSWERS})")
    parser.add_argument("--files", type=int, default=FILES, help=f"so many videos and images ({FILES})")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batchgen-hostile-") as name:
        answers, files = Path(name) / "answers", Path(name) / "files"
        answers.mkdir()
        files.mkdir()
        result = run_answers(options.answers, options.seed, answers)
        refused, problems = run_files(options.files, options.seed, files)
    outcomes = ", ".join(f"{number} {kind}" for kind, number in sorted(result.outcomes.items()))
    print(f"{result.answers} answers: {outcomes} of create requests; {result.accepted} ids taken")
    print(f"{options.files} files: refused {', '.join(f'{number} {kind}' for kind, number in sorted(refused.items()))}")
    problems = result.problems + problems
    print(f"{len(problems)} problems in {time.monotonic() - began:.0f} s, seed {options.seed}")
    for problem in problems[:PROBLEMS_SHOWN]:
        print(f"\n{problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
