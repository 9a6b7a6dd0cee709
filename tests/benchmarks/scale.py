"""The cost of 100,000 jobs: to check them, to send the first, and to resume, relative to loading their YAML."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.batches import TEXT_MODEL
from tests.benchmarks.arrival import Taken, taken, until_first_request
from tests.benchmarks.measure import Figure

JOBS = 100_000
FEW = 100
TIMES = 3
LOAD = "import sys, yaml; yaml.load(open(sys.argv[1], encoding='utf-8'), yaml.CSafeLoader)"


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many" / "m.yaml", Path(folder) / "few" / "m.yaml"
        write(many, JOBS)
        write(few, FEW)
        # All commands in turn: other load on the machine then affects all of them alike.
        rounds = [measure_all(many, few) for _ in range(TIMES)]
    loaded, checked, fresh, small, again, small_again = (median(takes) for takes in zip(*rounds, strict=True))
    loader = f"CSafeLoader: {loaded.seconds:.1f} s, {loaded.megabytes:.0f} MB"
    yield Figure(
        f"`batchgen check` of {JOBS:,} jobs",
        f"{checked.seconds:.1f} s, {checked.seconds / loaded.seconds:.2f} × of CSafeLoader;"
        f" {checked.megabytes:.0f} MB resident",
        f"≤ 0.55 ×, < 250 MB; {loader}",
    )
    yield Figure(
        f"`batchgen run` of {JOBS:,} new jobs, to the first create request",
        f"{fresh.seconds:.1f} s, {fresh.seconds / loaded.seconds:.2f} × of CSafeLoader;"
        f" {fresh.megabytes:.0f} MB resident",
        f"≤ 0.8 ×, < 250 MB; of {FEW} jobs: {small.seconds:.1f} s",
    )
    yield Figure(
        f"the same again on {JOBS:,} rows, to the next create request",
        f"{again.seconds:.2f} s, {again.seconds - small_again.seconds:+.2f} s; {again.megabytes:.0f} MB resident",
        f"< 0.5 s over the same on {FEW} rows: {small_again.seconds:.2f} s",
    )


def measure_all(many: Path, few: Path) -> tuple[Taken, ...]:
    """Load the YAML, check, run, and run again."""
    for manifest in (many, few):
        for path in manifest.parent.glob("batchgen.db*"):
            path.unlink()
    return (
        taken("-c", LOAD, str(many)),
        taken("-m", "batchgen", "check", str(many)),
        until_first_request(many),
        until_first_request(few),
        until_first_request(many),
        until_first_request(few),
    )


def write(path: Path, jobs: int) -> None:
    """Write a manifest of that many entries with five keys each."""
    path.parent.mkdir()
    with path.open("w", encoding="utf-8") as file:
        file.write("jobs:\n")
        for number in range(jobs):
            file.write(
                f"  - id: clip-{number:06}\n"
                f"    model: {TEXT_MODEL}\n"
                f"    prompt: A slow dolly shot along the shore, take {number}\n"
                f"    duration: {5 if number % 2 else 10}\n"
                f'    aspect_ratio: "16:9"\n'
            )


def median(takes: Sequence[Taken]) -> Taken:
    """The median of the times, and the maximum of the memory."""
    return Taken(statistics.median(take.seconds for take in takes), max(take.megabytes for take in takes))
