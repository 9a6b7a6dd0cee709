"""Run the benchmarks named, or all, and print one table."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.benchmarks.measure import figures_of, table

NAMES = ("startup", "demo", "throughput", "downloads", "polling", "limits", "makespan", "scale", "million")


def main() -> None:
    chosen = sys.argv[1:] or NAMES
    if unknown := set(chosen) - set(NAMES):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has been compiled
    # Each in a process of its own: memory is told as the most that a process, or its parent, ever had.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        figures = [figure for found in alone.map(figures_of, chosen) for figure in found]
    print(table(figures))


if __name__ == "__main__":
    main()
