"""What 100,000 jobs cost before their first request, beside a load of their YAML by PyYAML's C parser."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.batches import TEXT_MODEL
from tests.benchmarks.first_request import run_to_first_request
from tests.benchmarks.measure import Figure, Usage, run_python, sized

JOBS = sized(100_000, 200)
ROUNDS = sized(3, 1)
LOAD = "import sys, yaml; yaml.load(open(sys.argv[1], encoding='utf-8'), yaml.CSafeLoader)"
CHECK_BOUND, RUN_BOUND = 0.55, 0.8
"""Of the time of CSafeLoader."""
MEGABYTES_BOUND = 250


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        manifest = write_manifest(Path(name) / "many.yaml")
        rounds = [measure_round(manifest) for _ in range(ROUNDS)]
    load, check, create, resume = (summary(column) for column in zip(*rounds, strict=True))
    for what, usage, bound in (
        (f"`batchgen check` of {JOBS:,} jobs", check, CHECK_BOUND),
        (f"`batchgen run` of {JOBS:,} new jobs, to the first create request", create, RUN_BOUND),
        (f"the same again on {JOBS:,} rows, to the next create request", resume, RUN_BOUND),
    ):
        yield Figure(
            what,
            f"{usage.seconds:.1f} s, {usage.seconds / load.seconds:.2f} ×; {usage.megabytes:.0f} MB resident",
            f"≤ {bound} × of CSafeLoader ({load.seconds:.1f} s, {load.megabytes:.0f} MB); < {MEGABYTES_BOUND} MB",
            usage.seconds <= bound * load.seconds and usage.megabytes < MEGABYTES_BOUND,
        )


def measure_round(manifest: Path) -> tuple[Usage, ...]:
    """Load, check, run and run again, from a new job table."""
    for path in manifest.parent.glob("batchgen.db*"):
        path.unlink()
    return (
        run_python("-c", LOAD, str(manifest)),
        run_python("-m", "batchgen", "check", str(manifest)),
        run_to_first_request(manifest),
        run_to_first_request(manifest),
    )


def write_manifest(path: Path) -> Path:
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
    return path


def summary(rounds: Sequence[Usage]) -> Usage:
    """The median of the times, and the most of the memory."""
    seconds = statistics.median(usage.seconds for usage in rounds)
    cpu_seconds = statistics.median(usage.cpu_seconds for usage in rounds)
    return Usage(seconds, cpu_seconds, max(usage.megabytes for usage in rounds))
