"""What people use in place of batchgen, each as a process: `python -m tests.benchmarks.peers.threads BASE_URL JOBS`.

The packages that they need are installed with the extra `bench`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple


class Peer(NamedTuple):
    """A program that makes the same requests: its module, what a crash does to its jobs, the package it needs."""

    what: str
    module: str
    after_crash: str
    is_crash_safe: bool = False
    package: str = "httpx2"

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None


BARE = Peer("a bare asyncio script", "tests.benchmarks.bare", "a crash loses all jobs")
PEERS = (
    BARE,
    Peer("a script in a thread pool", "tests.benchmarks.peers.threads", "a crash loses all jobs"),
    Peer(
        "huey on SQLite",
        "tests.benchmarks.peers.huey_sqlite",
        "its queue is durable, but a crash loses the jobs in its workers",
        package="huey",
    ),
    Peer(
        "DBOS on SQLite",
        "tests.benchmarks.peers.dbos_sqlite",
        "crash-safe, but a crash sends the create in progress again",
        is_crash_safe=True,
        package="dbos",
    ),
)
