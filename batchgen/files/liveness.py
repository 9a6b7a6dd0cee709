"""Whether a run is alive: it holds a lock on a file beside the database, which the system releases when the run dies.

That holds however a run dies: kill -9, a power cut, a container that is thrown away. It needs no process ids and no
heartbeats. A database without a file (PostgreSQL) has no such locks: there a run counts as alive until its lease ends.
"""

from __future__ import annotations

import glob
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def host_name() -> str:
    """The name of this machine."""
    return platform.node() or "unknown"


def lock_file(database: Path, run: str) -> Path:
    return database.with_name(f"{database.name}.run-{run}")


@contextmanager
def lock_held(database: Path | None, run: str) -> Iterator[None]:
    """Show other runs that this one is alive, until the block ends."""
    if database is None:
        yield
        return
    path = lock_file(database, run)
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def dead(database: Path | None, hosts: Mapping[str, str]) -> list[str]:
    """The runs (id → host) that are certainly dead. One that cannot be judged from this machine is left out."""
    if database is None:
        return []
    return [run for run, host in hosts.items() if remove_if_dead(lock_file(database, run), host)]


def sweep(database: Path | None) -> None:
    """Remove the lock files that dead runs left beside the database."""
    if database is not None:
        for path in database.parent.glob(f"{glob.escape(database.name)}.run-*"):
            remove_if_dead(path, host_name())


def remove_if_dead(path: Path, host: str) -> bool:
    """Whether nobody holds this lock file; if so, it is removed."""
    if not path.exists():
        # A run removes its lock file as it ends. One on another machine may have a file that is not visible here.
        return host == host_name()
    try:
        with FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
    except Timeout:
        return False
    return True
