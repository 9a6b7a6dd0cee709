"""What the runner adds to the requests of a job: an instant service, tiny videos, durable commits.

Every contestant is a whole process with a service process of its own. All take part in each round, one after another.
batchgen ends with its last delivery: see `delivery.py`.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.delivery import Delivery, deliver
from tests.benchmarks.measure import Figure, Usage, run_python, sized, write_manifest
from tests.benchmarks.peers import BARE, PEERS, Peer
from tests.benchmarks.peers.job import SPEED
from tests.conftest import simulator_process

JOBS = sized(2_000, 20)
ROUNDS = sized(3, 1)
INSTANT = ("--instant", "--speed", str(SPEED))
RATE_BOUND = 0.6
"""Of the rate of the bare script, which keeps no table, syncs nothing and checks no video."""
OWN_CPU_BOUND_MS = 5.0


def figures() -> Iterator[Figure]:
    installed = [peer for peer in PEERS if peer.is_installed]
    runs, *columns = zip(*((run_batchgen(), *map(run_peer, installed)) for _ in range(ROUNDS)), strict=True)
    ours = [run.usage for run in runs]
    theirs = dict(zip(installed, columns, strict=True))
    bare = theirs[BARE]
    own = [1000 * (one.cpu_seconds - other.cpu_seconds) / JOBS for one, other in zip(ours, bare, strict=True)]
    yield Figure(
        "CPU time of the runner a job, beyond that of its requests",
        f"{statistics.median(own):.1f} ms",
        f"≤ {OWN_CPU_BOUND_MS:.0f} ms; the same requests by the bare script: {cpu_ms(bare):.1f} ms",
        statistics.median(own) <= OWN_CPU_BOUND_MS,
    )
    measured = sum(run.measured for run in runs)
    yield Figure(
        "CPU time of the child process that measures a delivered clip, beside that",
        f"{1000 * sum(run.measuring_seconds for run in runs) / max(1, measured):.1f} ms a clip",
        f"none: it yields to everything else; {measured / ROUNDS / JOBS:.0%} were measured by the last delivery",
    )
    yield Figure(
        f"`batchgen run` of {JOBS:,} jobs, an instant service",
        f"{rate(ours):.0f} jobs/s, {speed_up(bare, ours):.2f} × of the bare script; crash-safe",
        f"≥ {RATE_BOUND} ×",
        speed_up(bare, ours) >= RATE_BOUND,
    )
    for peer in PEERS:
        yield peer_figure(peer, ours, bare, theirs.get(peer))


def peer_figure(peer: Peer, ours: Sequence[Usage], bare: Sequence[Usage], theirs: Sequence[Usage] | None) -> Figure:
    what = f"the same requests by {peer.what}"
    if theirs is None:
        return Figure(what, 'not installed: `pip install -e ".[bench]"`', "")
    value = f"{rate(theirs):.0f} jobs/s, {speed_up(bare, theirs):.2f} × of the bare script; {peer.after_crash}"
    ahead = speed_up(theirs, ours)
    if not peer.is_crash_safe:
        return Figure(what, value, f"none, it is not crash-safe; batchgen: {ahead:.2f} × of it")
    return Figure(what, value, f"batchgen is ahead: {ahead:.2f} × of it", ahead > 1)


def run_batchgen() -> Delivery:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(folder / "many.yaml", JOBS)
        with simulator_process(folder, *INSTANT, ledger=False) as service:
            return deliver(manifest, JOBS, **service.environment)


def run_peer(peer: Peer) -> Usage:
    with simulator_process(Path(), *INSTANT, ledger=False) as service:
        return run_python("-m", peer.module, service.base_url, str(JOBS))


def rate(rounds: Sequence[Usage]) -> float:
    """Jobs a second."""
    return JOBS / statistics.median(usage.seconds for usage in rounds)


def cpu_ms(rounds: Sequence[Usage]) -> float:
    """CPU time a job, in milliseconds."""
    return 1000 * statistics.median(usage.cpu_seconds for usage in rounds) / JOBS


def speed_up(slower: Sequence[Usage], faster: Sequence[Usage]) -> float:
    """How many times as fast the second is: the median of the rounds, since what slows a round slows both."""
    return statistics.median(one.seconds / other.seconds for one, other in zip(slower, faster, strict=True))
