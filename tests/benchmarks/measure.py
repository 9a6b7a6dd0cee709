"""One measured figure, and the table of them."""

from __future__ import annotations

import importlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table: what was measured, how it came out, and what it is held against."""

    what: str
    value: str
    bound: str


def figures_of(name: str) -> list[Figure]:
    """What one of the benchmarks measures."""
    print(f"measuring {name} …", file=sys.stderr)
    return list(importlib.import_module(f"tests.benchmarks.{name}").figures())


def median_seconds(work: Callable[[], object], times: int) -> float:
    """The median wall time of `work`, in seconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process, waited for; its output is kept for the message if it fails."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def table(figures: Sequence[Figure]) -> str:
    """Markdown, as it stands in the README."""
    machine = f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}"
    rows = [
        ("what", f"measured ({machine})", "held against"),
        *((each.what, each.value, each.bound) for each in figures),
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "| --- | --- | --- |", *lines[1:]])
