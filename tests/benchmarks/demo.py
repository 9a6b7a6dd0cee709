"""How long the demo takes, from nothing."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Figure, median_seconds, run

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
BOUND_SECONDS = 15
CLIPS = 8


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "manifests"
        shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("*.db*", "simulated"))
        seconds = median_seconds(lambda: run(sys.executable, "-m", "batchgen", "run", str(copy / "demo.yaml")), 1)
        clips = len(list(copy.rglob("*.mp4")))
    yield Figure(
        "`batchgen run manifests/demo.yaml`, from nothing",
        f"{seconds:.1f} s for {clips} clips",
        f"≤ {BOUND_SECONDS} s",
        seconds <= BOUND_SECONDS and clips == CLIPS,
    )
