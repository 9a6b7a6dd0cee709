"""What it takes to check a manifest of very many jobs, beside the YAML library merely loading the file."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.batches import TEXT_MODEL
from tests.benchmarks.measure import Figure

JOBS = 100_000
TIMES = 3
LOAD = "import sys, yaml; yaml.load(open(sys.argv[1], encoding='utf-8'), yaml.CSafeLoader)"
MEGABYTE = 1_000_000


class Taken(NamedTuple):
    """What a process took: wall time, and the most memory that was resident in it."""

    seconds: float
    megabytes: float


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.yaml"
        write(path)
        # In turn, so that whatever else the machine does falls on both.
        rounds = [(taken("-c", LOAD, str(path)), taken("-m", "batchgen", "check", str(path))) for _ in range(TIMES)]
    floor, ours = (middle(each) for each in zip(*rounds, strict=True))
    yield Figure(
        f"`batchgen check` of {JOBS:,} jobs",
        f"{ours.seconds:.1f} s, {ours.seconds / floor.seconds:.2f} × of CSafeLoader; {ours.megabytes:.0f} MB resident",
        f"≤ 0.5 ×, < 250 MB; CSafeLoader: {floor.seconds:.1f} s, {floor.megabytes:.0f} MB",
    )


def write(path: Path) -> None:
    """A manifest of jobs written out one by one, five keys each."""
    with path.open("w", encoding="utf-8") as file:
        file.write("jobs:\n")
        for number in range(JOBS):
            file.write(
                f"  - id: clip-{number:06}\n"
                f"    model: {TEXT_MODEL}\n"
                f"    prompt: A slow dolly shot along the shore, take {number}\n"
                f"    duration: {5 if number % 2 else 10}\n"
                f'    aspect_ratio: "16:9"\n'
            )


def middle(several: Sequence[Taken]) -> Taken:
    """The median of the times, and the most of the memory."""
    return Taken(statistics.median(each.seconds for each in several), max(each.megabytes for each in several))


def taken(*arguments: str) -> Taken:
    """A fresh process, waited for; the kernel keeps its account of memory until then."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        streams = [(os.POSIX_SPAWN_DUP2, said.fileno(), number) for number in (1, 2)]
        child = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=streams)
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - began
        if status:
            said.seek(0)
            sys.exit(f"{' '.join(arguments)} ended with {status}\n{said.read().decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Taken(seconds, usage.ru_maxrss * unit / MEGABYTE)
