"""What people use in place of batchgen, each a process: `python -m tests.benchmarks.peers.threads BASE_URL JOBS`.

What a package of their own has to be there for is installed with the extra `bench`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple


class Peer(NamedTuple):
    """Somebody who does the same requests: its module, what a crash leaves of its jobs, the package it needs."""

    what: str
    module: str
    durable: str
    package: str = "httpx2"

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None


BARE = Peer("a bare asyncio script", "tests.benchmarks.bare", "not durable")
PEERS = (
    BARE,
    Peer("a script in a thread pool", "tests.benchmarks.peers.threads", "not durable"),
    Peer(
        "huey on SQLite",
        "tests.benchmarks.peers.huey_sqlite",
        "its queue is durable, and a crash loses the jobs it was in",
        "huey",
    ),
    Peer(
        "DBOS on SQLite",
        "tests.benchmarks.peers.dbos_sqlite",
        "durable, and a crash sends the create it was in again",
        "dbos",
    ),
)
