"""What a thousand videos in flight cost, at real speed.

A batch of 1,000 jobs runs against a service that takes the documented time, 210 s in the median. Polls are spread
unevenly over the life of a video, so no part of a run would be fair: the CPU time of the whole run, submits, polls and
downloads, is divided by the time that its videos were in flight. 1,000 times that is the load of a run that always has
1,000 in flight. What a clip shows is measured by another process, when the processor has nothing else to do; its time
is given for itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tests.benchmarks.delivery import deliver
from tests.benchmarks.measure import Figure, sized, write_manifest
from tests.conftest import simulator_process
from tests.waiting import rows

JOBS = sized(1_000, 20)
SPEED = sized(1, 100)
BOUND = 0.10
"""Of one core."""


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(folder / "many.yaml", JOBS, in_flight=JOBS)
        with simulator_process(folder, "--instant", "--speed", str(SPEED)) as service:
            run = deliver(manifest, JOBS, **service.environment)
            generations = rows(service.ledger, "SELECT created_at, finishes_at FROM generations")
            polls = len(rows(service.ledger, "SELECT n FROM requests WHERE kind = 'fetch'"))
    in_flight_seconds = sum(
        (datetime.fromisoformat(row["finishes_at"]) - datetime.fromisoformat(row["created_at"])).total_seconds()
        for row in generations
    )
    load = JOBS * run.usage.cpu_seconds / in_flight_seconds
    yield Figure(
        f"{JOBS:,} videos in flight, 210 s each",
        f"{load:.1%} of one core; {polls / JOBS:.1f} polls a video; {run.usage.megabytes:.0f} MB resident",
        f"≤ {BOUND:.0%} of one core; measuring the clips beside it: {run.measuring_ms:.1f} ms a clip",
        load <= BOUND,
    )
