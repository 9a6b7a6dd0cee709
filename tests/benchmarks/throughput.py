"""What the runner itself costs a job: an instant service, small videos, durable commits; beside what others use.

Every contestant is measured as a whole process, against a service process of its own, in turn and in rounds.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.arrival import Taken, taken
from tests.benchmarks.measure import Figure
from tests.benchmarks.peers import BARE, PEERS, Peer
from tests.benchmarks.peers.job import SPEED
from tests.conftest import simulator_process

JOBS, FEW = 2_000, 500
ROUNDS = 3
HEAD = """\
limits: {submits_per_minute: 60000, polls_per_minute: 60000, in_flight: 1000, downloads: 8}
defaults: {model: kling-video/v2.1/standard/image-to-video, image_url: "https://example.com/a.jpg"}
jobs:
"""
INSTANT = ("--instant", "--speed", str(SPEED))


def figures() -> Iterator[Figure]:
    there = [peer for peer in PEERS if peer.is_installed]
    few, ours, *theirs = zip(*((run(FEW), run(JOBS), *map(compete, there)) for _ in range(ROUNDS)), strict=True)
    took = dict(zip(there, theirs, strict=True))
    yield Figure(
        f"{JOBS:,} jobs with an instant service, whole process: `batchgen run`",
        f"{rate(ours)}, {times(took[BARE], ours)} of bare; durable;"
        f" {megabytes(few)} resident at {FEW} jobs, {megabytes(ours)} at {JOBS:,}",
        "≥ 0.80 ×",
    )
    for peer in PEERS:
        told = f"{rate(took[peer])}, {times(took[BARE], took[peer])} of bare; {peer.durable}" if peer in took else None
        yield Figure(
            f"the same requests by {peer.what}",
            told or 'not installed: `pip install -e ".[bench]"`',
            f"batchgen: {times(took[peer], ours)} of it" if told else "",
        )


def run(jobs: int) -> Taken:
    """`batchgen run` of so many jobs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = folder / "many.yaml"
        manifest.write_text(HEAD + "".join(f"- {{id: j{each}, prompt: number {each}}}\n" for each in range(jobs)))
        with simulator_process(folder, *INSTANT, ledger=False) as service:
            return taken("-m", "batchgen", "run", str(manifest), **service.environment)


def compete(peer: Peer) -> Taken:
    """The same number of jobs by somebody else."""
    with simulator_process(Path(), *INSTANT, ledger=False) as service:
        return taken("-m", peer.module, service.base_url, str(JOBS))


def rate(several: Sequence[Taken]) -> str:
    return f"{JOBS / statistics.median(each.seconds for each in several):.0f} jobs/s"


def times(longer: Sequence[Taken], shorter: Sequence[Taken]) -> str:
    """How many times as fast the second is, by the median of the rounds: what slows a round slows both."""
    ratios = [one.seconds / other.seconds for one, other in zip(longer, shorter, strict=True)]
    return f"{statistics.median(ratios):.2f} ×"


def megabytes(several: Sequence[Taken]) -> str:
    return f"{max(each.megabytes for each in several):.0f} MB"
