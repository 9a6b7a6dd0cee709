"""Run the benchmarks named, or all, and print one table."""

from __future__ import annotations

import importlib
import os
import sys

from tests.benchmarks.measure import Figure, table

NAMES = ("startup", "demo", "throughput", "downloads", "polling", "limits", "makespan", "scale", "million")


def main() -> None:
    chosen = sys.argv[1:] or NAMES
    if unknown := set(chosen) - set(NAMES):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has been compiled
    figures: list[Figure] = []
    for name in chosen:
        print(f"measuring {name} …", file=sys.stderr)
        figures += importlib.import_module(f"tests.benchmarks.{name}").figures()
    print(table(figures))


if __name__ == "__main__":
    main()
