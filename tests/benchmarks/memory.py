"""How the memory of a run grows with the jobs that it delivers: 30,000 jobs end to end, an instant service."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measure import MEGABYTE, Figure, fail, python_process, sized, write_manifest
from tests.benchmarks.throughput import INSTANT
from tests.conftest import simulator_process
from tests.waiting import rows

JOBS = sized(30_000, 12)
MILESTONES = (JOBS // 3, 2 * JOBS // 3, JOBS)
BOUND = 1.10
"""The memory at the last milestone, over that at the first."""
SAMPLE_SECONDS = 0.1
DELIVERED = "SELECT count(*) AS n FROM jobs WHERE state = 'done'"


class Sample(NamedTuple):
    """The resident memory of the run when so many jobs had been delivered."""

    delivered: int
    megabytes: float


def figures() -> Iterator[Figure]:
    what = f"resident memory over {JOBS:,} jobs end to end"
    if sys.platform != "linux":
        yield Figure(what, "measured on Linux only: it is read from /proc", "")
        return
    samples, seconds = run_sampled()
    memory = [memory_at(samples, milestone) for milestone in MILESTONES]
    growth = memory[-1] / memory[0]
    points = ", ".join(
        f"{megabytes:.0f} MB at {milestone:,}" for megabytes, milestone in zip(memory, MILESTONES, strict=True)
    )
    yield Figure(
        what,
        f"{points}: {growth:.2f} ×; {JOBS / seconds:.0f} jobs/s",
        f"≤ {BOUND:.2f} × from {MILESTONES[0]:,} to {JOBS:,} delivered",
        growth <= BOUND,
    )


def run_sampled() -> tuple[list[Sample], float]:
    """Run the batch; its samples, and the seconds it took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(folder / "many.yaml", JOBS)
        with simulator_process(folder, *INSTANT, ledger=False) as service:
            began = time.perf_counter()
            with python_process("-m", "batchgen", "run", str(manifest), **service.environment) as (process, output):
                samples = list(sample(process, folder / "batchgen.db"))
                if process.returncode:
                    fail(f"the run ended with {process.returncode}", output)
            return samples, time.perf_counter() - began


def sample(process: subprocess.Popen[bytes], database: Path) -> Iterator[Sample]:
    """Samples of a process until it ends."""
    while process.poll() is None:
        counted = rows(database, DELIVERED)
        megabytes = resident_megabytes(process.pid)
        if counted and megabytes:
            yield Sample(counted[0]["n"], megabytes)
        time.sleep(SAMPLE_SECONDS)


def resident_megabytes(pid: int) -> float:
    """The resident memory of a process; 0 once it has ended."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def memory_at(samples: list[Sample], milestone: int) -> float:
    """The memory in the last sample before the milestone was passed."""
    return [sample.megabytes for sample in samples if sample.delivered <= milestone][-1]
