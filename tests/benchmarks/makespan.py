"""How close a run comes to a perfect scheduler, which notices every generation the moment it ends.

The perfect schedule has the generation times that the simulated service drew, in the order in which it accepted the
jobs, in as many slots. The service runs at a speed at which the runner's own work is small in comparison.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import heapify, heapreplace
from pathlib import Path

from tests.benchmarks.measure import Figure, run, sized
from tests.conftest import simulator_process
from tests.waiting import rows

JOBS, IN_FLIGHT = sized(500, 20), sized(50, 5)
SIGMA = 0.18  # of the logarithm; the median is the model's own, 210 s
SPEED = sized(32, 200)
BOUND = 1.03
"""Of the time of a perfect scheduler."""
LIMITS = {"submits_per_minute": 60_000, "in_flight": IN_FLIGHT, "polls_per_minute": 60_000}
HEAD = f"""\
limits: {json.dumps(LIMITS)}
defaults: {{model: kling-video/v2.1/standard/image-to-video, image_url: "https://example.com/a.jpg"}}
jobs:
"""


def perfect(times: Sequence[float], slots: int) -> float:
    """When the last of `times` ends, if every one begins the moment a slot is free."""
    free = [0.0] * slots
    heapify(free)
    for seconds in times:
        heapreplace(free, free[0] + seconds)
    return max(free)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = folder / "many.yaml"
        manifest.write_text(HEAD + "".join(f"- {{id: j{index}, prompt: number {index}}}\n" for index in range(JOBS)))
        options = ("--instant", "--speed", str(SPEED), "--sigma", str(SIGMA))
        with simulator_process(folder, *options) as service:
            run(sys.executable, "-m", "batchgen", "run", str(manifest), **service.environment)
            created = rows(service.ledger, "SELECT created_at, finishes_at FROM generations ORDER BY created_at")
            polls = len(rows(service.ledger, "SELECT n FROM requests WHERE kind = 'fetch'"))
        delivered = rows(folder / "batchgen.db", "SELECT max(delivered_at) AS at FROM jobs")[0]["at"]
    moments = [
        (datetime.fromisoformat(row["created_at"]), datetime.fromisoformat(row["finishes_at"])) for row in created
    ]
    best = perfect([(ends - begins).total_seconds() for begins, ends in moments], IN_FLIGHT)
    ours = (datetime.fromisoformat(delivered) - moments[0][0]).total_seconds()
    yield Figure(
        f"{JOBS} jobs, {IN_FLIGHT} in flight, lognormal times (210 s, sigma {SIGMA}), first submit to last delivery",
        f"{ours * SPEED:,.0f} s, {ours / best:.3f} ×, {polls / JOBS:.1f} polls a video",
        f"≤ {BOUND} × of a perfect scheduler ({best * SPEED:,.0f} s)",
        ours <= BOUND * best,
    )
