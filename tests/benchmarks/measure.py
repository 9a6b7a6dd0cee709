"""What every benchmark shares: a figure, its size in a quick run, and a process measured from outside."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

QUICK_VARIABLE = "BATCHGEN_BENCHMARKS_QUICK"
QUICK = bool(os.environ.get(QUICK_VARIABLE))
"""Set by `--quick`: tiny sizes, which show that a benchmark works and measure nothing."""
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of a table: what was measured, the result, the bound, and whether the result is within it."""

    what: str
    value: str
    bound: str
    holds: bool | None = None
    """None where there is no bound."""


class Usage(NamedTuple):
    """What a process used: wall time, CPU time (user and system, its ended children included), peak resident memory."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def figures_of(part: str) -> list[Figure]:
    """Measure one part of the benchmarks: the figures of its module."""
    return list(importlib.import_module(f"tests.benchmarks.{part}").figures())


def sized(full: int, quick: int) -> int:
    """A number of jobs, files or rounds: `full`, or `quick` in a quick run."""
    return quick if QUICK else full


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """The median wall time of `work`, in seconds."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. A command that fails ends the benchmark with its output."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


@contextmanager
def python_process(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A Python interpreter with `arguments`, and the file with its output. It is killed if it still runs at the end."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, **environment}, stdout=output, stderr=output
        )
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


def run_python(*arguments: str, **environment: str) -> Usage:
    """Run a Python interpreter to its end, and measure it. One that fails ends the benchmark with its output."""
    began = time.perf_counter()
    with python_process(*arguments, **environment) as (process, output):
        usage = wait(process)
        seconds = time.perf_counter() - began
        if process.returncode:
            fail(f"{' '.join(arguments)} ended with {process.returncode}", output)
    return usage._replace(seconds=seconds)


def wait(process: subprocess.Popen[bytes]) -> Usage:
    """Wait for the end of a process; what it used, with no wall time. The kernel keeps the account until the wait."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Usage(0.0, usage.ru_utime + usage.ru_stime, peak_bytes / MEGABYTE)


def fail(reason: str, output: IO[bytes]) -> None:
    """End the benchmark with a reason and the output of the process."""
    output.seek(0)
    sys.exit(f"{reason}\n{output.read().decode(errors='replace')}")


def write_manifest(path: Path, jobs: int, in_flight: int = 1000) -> Path:
    """A manifest of image-to-video jobs that differ in their prompts, with limits that do not slow a run."""
    lines = "".join(f"- {{id: j{number}, prompt: number {number}}}\n" for number in range(jobs))
    path.write_text(
        f"limits: {{submits_per_minute: 60000, polls_per_minute: 60000, in_flight: {in_flight}, downloads: 8}}\n"
        'defaults: {model: kling-video/v2.1/standard/image-to-video, image_url: "https://example.com/a.jpg"}\n'
        f"jobs:\n{lines}"
    )
    return path
