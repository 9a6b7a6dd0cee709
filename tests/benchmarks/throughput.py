"""What the runner itself costs a job: an instant service, small videos, durable commits; beside no table at all."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Figure, run
from tests.conftest import simulator_process

JOBS = 2_000
HEAD = """\
limits: {submits_per_minute: 60000, polls_per_minute: 60000, in_flight: 1000, downloads: 8}
defaults: {model: kling-video/v2.1/standard/image-to-video, image_url: "https://example.com/a.jpg"}
jobs:
"""
INSTANT = ("--instant", "--speed", "100000")


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = folder / "many.yaml"
        jobs = "".join(f"- {{id: j{each}, prompt: number {each}}}\n" for each in range(JOBS))
        manifest.write_text(HEAD + jobs)
        with simulator_process(folder, *INSTANT, ledger=False) as service:
            began = time.perf_counter()
            run(sys.executable, "-m", "batchgen", "run", str(manifest), **service.environment)
            ours = time.perf_counter() - began
        with simulator_process(folder, *INSTANT, ledger=False) as service:
            told = run(sys.executable, "-m", "tests.benchmarks.bare", service.base_url, str(JOBS)).stdout
            bare = float(re.findall(r"[\d.]+", told)[0])
    yield Figure(
        f"{JOBS:,} jobs with an instant service, whole process",
        f"{JOBS / ours:.0f} jobs/s, {bare / ours:.2f} ×",
        f"the same requests without a table: {JOBS / bare:.0f} jobs/s",
    )
