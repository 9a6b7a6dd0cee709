"""Measure all parts, or those named, and print their tables.

Exit code 1 if a figure is outside its bound.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.benchmarks import readme
from tests.benchmarks.measure import QUICK_VARIABLE, figures_of

PARTS = (
    "startup",
    "demo",
    "throughput",
    "memory",
    "downloads",
    "polling",
    "limits",
    "makespan",
    "scale",
    "million",
    "machines",
    "review",
)
"""The modules of this package that measure, in the order of the README."""


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all, or some of: {', '.join(PARTS)}")
    parser.add_argument("--write", action="store_true", help="put the tables into tests/benchmarks/README.md")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that a part works, measures nothing")
    options = parser.parse_args()
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.quick and options.write:
        parser.error("figures of a quick run mean nothing and are not written")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed batchgen has been compiled
    if options.quick:
        os.environ[QUICK_VARIABLE] = "1"
    missed = 0
    # Each part has a process of its own: the kernel's peak memory of a child starts at that of its parent.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for part in options.parts or PARTS:
            print(f"measuring {part} …", file=sys.stderr)
            figures = processes.submit(figures_of, part).result()
            print(f"{readme.table(figures)}\n", flush=True)
            missed += sum(figure.holds is False for figure in figures)
            if options.write:
                readme.write(part, figures)
    if options.quick:
        print("a quick run: the sizes were tiny, and the figures mean nothing", file=sys.stderr)
        return 0
    if missed:
        print(f"{missed} figures are outside their bounds", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
