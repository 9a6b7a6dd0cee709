"""What happens to a cluster: each fault is a function that begins it, and returns when it has ended."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.campaign.postgres.cluster import Cluster, Worker
from tests.campaign.postgres.server import cut, sessions, slow_down

FAULT_SECONDS = 15.0
LEASE_SECONDS = 6.0
"""The lease where a fault is to outlast it. batchgen's own is five minutes."""
SHORT_LEASE = {
    "batchgen.stage.LEASE": LEASE_SECONDS,
    "batchgen.runs.upkeep.RENEW_SECONDS": LEASE_SECONDS / 5,
    "batchgen.jobtable.leases.ON_WIRE": 2 * LEASE_SECONDS,
}
"""The lease, its renewal, and for how long a create of a run that is cut off may be on the wire: two leases."""
FLUSH_MICROSECONDS = 100_000
"""Added to each flush of the write-ahead log: the longest that PostgreSQL allows."""
REPLY_SECONDS = (0.02, 0.3)
"""The least and the most by which a worker's replies are late."""
CLOCK_SECONDS = 120.0
START_SECONDS = 2.0
"""Between two workers that start again: about as long as a start takes."""
WORKERS_AFFLICTED = 2
"""Of the cluster, by a fault that not all can have: the others go on."""

Strike = Callable[[Cluster, random.Random, float], None]
"""Called with the seconds for which a fault lasts that has no length of its own."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the table: what it does, and what the cluster needs for it."""

    strike: Strike
    share: int = 1
    """Rounds of it in one round of all."""
    has_proxies: bool = False
    has_short_lease: bool = False


def kill_workers(cluster: Cluster, chance: random.Random, seconds: float) -> None:
    """A worker dies about every second, and is started again at once."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        cluster.kill(chance.choice(cluster.workers))
        cluster.pause(chance.uniform(0.4, 1.2))
    cluster.wait_until_back()


def restart_server(cluster: Cluster, chance: random.Random, _seconds: float) -> None:
    """The server crashes, and is stopped in order, with a pause between."""
    modes = ["immediate", "fast"]
    chance.shuffle(modes)
    for mode in modes:
        cluster.server.restart(mode)
        cluster.pause(chance.uniform(2, 6))
    cluster.server.restart("immediate")


def cut_connections(cluster: Cluster, chance: random.Random, seconds: float) -> None:
    """The server ends a session in the middle of its work, some three a second."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if pids := sessions(cluster.server, cluster.database):
            cut(cluster.server, chance.choice(pids))
        cluster.pause(chance.uniform(0.1, 0.5))


def slow_disk(cluster: Cluster, _chance: random.Random, seconds: float) -> None:
    """Every commit takes a tenth of a second longer."""
    slow_down(cluster.server, FLUSH_MICROSECONDS)
    cluster.pause(seconds)
    slow_down(cluster.server, 0)


def delay_replies(cluster: Cluster, chance: random.Random, seconds: float) -> None:
    """The server's replies come late, to each worker by another time."""
    for worker in cluster.workers:
        set_delay(worker, chance.uniform(*REPLY_SECONDS))
    cluster.pause(seconds)
    for worker in cluster.workers:
        set_delay(worker, 0.0)


def set_delay(worker: Worker, seconds: float) -> None:
    assert worker.proxy
    worker.proxy.reply_delay = seconds


def stop_past_lease(cluster: Cluster, chance: random.Random, _seconds: float) -> None:
    """Workers are stopped until others have taken over their jobs, and then go on in the middle of what they did."""
    for _ in range(2):
        stopped = [worker for worker in chance.sample(cluster.workers, WORKERS_AFFLICTED) if worker.is_running]
        for worker in stopped:
            worker.send(signal.SIGSTOP)
            cluster.pause(chance.uniform(0, 0.2))
        cluster.pause(1.5 * LEASE_SECONDS)
        for worker in stopped:
            worker.send(signal.SIGCONT)


def lose_network(cluster: Cluster, chance: random.Random, _seconds: float) -> None:
    """The database is silent to some workers for longer than their leases; then their bytes arrive, or a reset does."""
    lost = chance.sample(cluster.workers, WORKERS_AFFLICTED)
    for worker in lost:
        assert worker.proxy
        worker.proxy.hold()
        cluster.pause(chance.uniform(0, 0.2))
    cluster.pause(2 * LEASE_SECONDS)
    for worker in lost:
        assert worker.proxy
        if chance.random() < 0.5:
            worker.proxy.cut()
        worker.proxy.release()


def shift_clocks(cluster: Cluster, chance: random.Random, _seconds: float) -> None:
    """Every worker starts again on a machine whose clock is wrong by up to two minutes, and stays there."""
    for number, worker in enumerate(cluster.workers):
        # The first two are the farthest apart.
        worker.clock = (CLOCK_SECONDS, -CLOCK_SECONDS, chance.uniform(-CLOCK_SECONDS, CLOCK_SECONDS))[min(number, 2)]
        cluster.kill(worker)
        cluster.pause(START_SECONDS)
    cluster.wait_until_back()


FAULTS: dict[str, Fault] = {
    "workers killed": Fault(kill_workers, share=6),
    "the server restarted": Fault(restart_server),
    "its connections cut": Fault(cut_connections),
    "its disk slow": Fault(slow_disk),
    "its replies delayed": Fault(delay_replies, has_proxies=True),
    "workers stopped past their lease": Fault(stop_past_lease, has_short_lease=True),
    "clocks ±2 minutes": Fault(shift_clocks),
    "a worker's network gone": Fault(lose_network, has_proxies=True, has_short_lease=True),
}
"""The rows of the table, in their order."""
