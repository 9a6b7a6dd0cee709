"""Reconcile books with planted discrepancies, and print how it went.

Exit code 1 if a plant was not named, or something was named that was not planted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.books.trial import Trial, run_trial
from tests.conftest import simulator_process
from tests.readme_blocks import machine, write_block

ATTEMPTS, EVERY = 100_000, 250
README = Path(__file__).with_name("README.md")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.books", description=__doc__)
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help=f"in the books ({ATTEMPTS:,})")
    parser.add_argument("--every", type=int, default=EVERY, help=f"one in so many has each of the plants ({EVERY})")
    parser.add_argument("--write", action="store_true", help="put the table into tests/books/README.md")
    options = parser.parse_args()
    limits = ("--limits", '{"log_requests_per_minute": null}')
    with tempfile.TemporaryDirectory(prefix="batchgen-books-") as name:
        folder = Path(name)
        with simulator_process(folder, "--speed", "100000", "--instant", *limits) as simulator:
            os.environ.update(simulator.environment)
            began = time.monotonic()
            trial = run_trial(folder, simulator.ledger, simulator.environment, options.attempts, options.every)
    print(table(trial), f"\nin {time.monotonic() - began:.0f} s, filling the books included", file=sys.stdout)
    for problem in trial.problems[:20]:
        print(problem, file=sys.stderr)
    if trial.problems:
        return 1
    if options.write:
        write_block(README, "books", f"{table(trial)}\n\nMeasured {machine()}.")
    return 0


def table(trial: Trial) -> str:
    """The plants with what was said of them, as Markdown."""
    head = (
        f"{trial.attempts:,} attempts and {trial.transactions:,} transactions, reconciled in {trial.seconds:.0f} s"
        f" ({trial.cpu_seconds:.0f} s of CPU time) with {trial.megabytes:.0f} MB of memory; a second time: the same"
        f" lines, and nothing changed.\n\n| planted | number | settlement | named | others called so |\n"
        "| --- | ---: | --- | ---: | ---: |"
    )
    rows = [
        f"| {kind} | {row.planted:,} | {row.settlement} | {row.found:,} | {row.false:,} |"
        for kind, row in trial.rows.items()
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    sys.exit(main())
