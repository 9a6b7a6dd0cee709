"""Whether a run is alive: it holds a lock on a file beside the database, and the system drops the lock when it dies.

However it dies: kill -9, a power cut, a container that is thrown away. No process ids, no heartbeats to wait for. A
database without a file (PostgreSQL) has no such locks; there a run is believed alive until its lease ends.
"""

from __future__ import annotations

import glob
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def here() -> str:
    """This machine's name, for the table of runs."""
    return platform.node() or "unknown"


def lock_of(database: Path, run: str) -> Path:
    return database.with_name(f"{database.name}.run-{run}")


@contextmanager
def present(database: Path | None, run: str) -> Iterator[None]:
    """Be alive, for other runs to see, until the block ends."""
    if database is None:
        yield
        return
    path = lock_of(database, run)
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def dead(database: Path | None, holders: Mapping[str, str]) -> list[str]:
    """Which of these runs (id → host) are certainly dead. One that cannot be judged from here is not among them."""
    if database is None:
        return []
    return [run for run, host in holders.items() if gone(lock_of(database, run), host)]


def sweep(database: Path | None) -> None:
    """Remove the lock files that dead runs left beside the database."""
    if database is not None:
        for path in database.parent.glob(f"{glob.escape(database.name)}.run-*"):
            gone(path, here())


def gone(path: Path, host: str) -> bool:
    if not path.exists():
        return host == here()  # on another machine's share the file may be one that we cannot see
    try:
        with FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
    except Timeout:
        return False
    return True
