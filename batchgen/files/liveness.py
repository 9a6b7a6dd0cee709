"""Whether a run is alive: it holds a lock on a file beside the database, which the system releases when the run dies.

That holds however a run dies: kill -9, a power cut, a container that is thrown away. It needs no process ids and no
heartbeats. A database without a file (PostgreSQL) has locks of its own (`jobtable/run_lock.py`).

When a run has been written to the job table, its lock file gets one sentence (`RECORDED`). If such a file exists and
the table does not, the table was moved, deleted or replaced, and a run on a new one would pay again.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from batchgen.errors import StorageError, os_reason
from batchgen.files.lock import try_lock
from batchgen.files.safe_open import Directory, UnsafePath, open_directory

RUN_ID = re.compile(r"[0-9a-f]{12}")
RECORDED = b"A run of batchgen is or was at work on the job table of this name.\n"
LOCK_TRIES = 100  # of a new lock file, which another run may take for a dead one's and remove


def host_name() -> str:
    return platform.node() or "unknown"


def lock_name(database: Path, run_id: str) -> str:
    return f"{database.name}.run-{run_id}"


class FileLock:
    """The lock file of a live run."""

    is_possible = True
    """Every run on a database with a file holds a lock: without one it does not begin."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.stays = False
        """The file is kept at the end, for the next run to see."""

    def record(self) -> None:
        """Write that the job table knows this run."""
        os.write(self.descriptor, RECORDED)


@contextmanager
def file_lock_held(database: Path, run_id: str) -> Iterator[FileLock]:
    """Show other runs that this one is alive, until the block ends. Raises `StorageError`."""
    name = lock_name(database, run_id)
    try:
        directory = open_directory(database.parent)
    except OSError as error:
        raise StorageError(f"{database.parent}: {os_reason(error)}") from error
    with directory:
        descriptor = make_lock_file(directory, name)
        lock = FileLock(descriptor)
        try:
            yield lock
        finally:
            if lock.stays:
                # Whoever took the table may have taken this file as well: the next run must see that one was here.
                with suppress(OSError, UnsafePath):
                    directory.make(name, RECORDED)
            remove_locked(directory, None if lock.stays else name, descriptor)


def make_lock_file(directory: Directory, name: str) -> int:
    """A new lock file, locked. Raises `StorageError`."""
    try:
        for _ in range(LOCK_TRIES):
            try:
                descriptor = directory.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:  # another run is removing the last one
                continue
            if try_lock(descriptor) and directory.has(name, descriptor):
                return descriptor
            os.close(descriptor)
        reason = "something else has its name"
    except OSError as error:
        reason = os_reason(error)
    raise StorageError(
        f"{directory.path / name}: the lock of this run cannot be made ({reason}). Choose another --db, in a folder"
        " that can be written, on a disk whose file system has locks"
    )


def remove_locked(directory: Directory, name: str | None, descriptor: int) -> None:
    """Remove a file under its lock, then release the lock. Windows removes no file that is open."""
    try:
        if name and os.name == "posix":
            directory.unlink(name)
    finally:
        os.close(descriptor)
    if name and os.name != "posix":
        directory.unlink(name)


def remove_dead_runs(database: Path, hosts: Mapping[str, str]) -> list[str]:
    """Remove the lock files of those of the runs (id → host) that are certainly dead, and return the ids of these runs.

    A run that cannot be judged from here is left out. Raises `UnsafePath` for another file with a lock file's name.
    """
    if not hosts:
        return []
    with open_directory(database.parent) as directory:
        return [run_id for run_id, host in hosts.items() if remove_if_dead(directory, database, run_id, host)]


def remove_if_dead(directory: Directory, database: Path, run_id: str, host: str) -> bool:
    """Remove the lock file of a run if nobody holds it. Returns whether the run is dead."""
    name = lock_name(database, run_id)
    if not RUN_ID.fullmatch(run_id) or directory.stat(name) is None:
        # A run removes its lock file as it ends. One on another machine may have a file that is not visible here.
        return host == host_name()
    return remove_if_unlocked(directory, name)


def remove_if_unlocked(directory: Directory, name: str) -> bool:
    """Remove a lock file that nobody holds, if nothing but a run has written to it. Returns whether nobody holds it."""
    try:
        descriptor = directory.open(name, os.O_RDWR)
    except FileNotFoundError:
        return True
    is_lock_file = False
    try:
        is_held = not try_lock(descriptor)
        is_lock_file = not is_held and os.read(descriptor, len(RECORDED) + 1) in (b"", RECORDED)
        return not is_held
    finally:
        remove_locked(directory, name if is_lock_file else None, descriptor)


def remove_leftover_locks(database: Path | None) -> None:
    """Remove the lock files that dead runs left beside the database. What others have put there stays."""
    if database is not None:
        with open_directory(database.parent) as directory:
            for run_id in runs_with_files(directory, database):
                with suppress(OSError, UnsafePath):
                    remove_if_unlocked(directory, lock_name(database, run_id))


def are_dead(database: Path) -> dict[str, bool]:
    """Whether each run whose lock file lies beside the database is dead. Removes nothing."""
    return judge_lock_files(database, os.O_RDWR, try_lock)


def recorded_runs(database: Path) -> list[str]:
    """The runs, dead or alive, that are in the job table of this name, by their lock files."""
    is_recorded = judge_lock_files(
        database, os.O_RDONLY, lambda descriptor: os.read(descriptor, len(RECORDED)) == RECORDED
    )
    return [run_id for run_id in is_recorded if is_recorded[run_id]]


def judge_lock_files(database: Path, flags: int, judge: Callable[[int], bool]) -> dict[str, bool]:
    """What `judge` says of the open lock file of each run; those that cannot be opened or judged are left out."""
    judgements = {}
    with open_directory(database.parent) as directory:
        for run_id in runs_with_files(directory, database):
            name = lock_name(database, run_id)
            with suppress(OSError, UnsafePath), os.fdopen(directory.open(name, flags), "rb") as file:
                judgements[run_id] = judge(file.fileno())
    return judgements


def runs_with_files(directory: Directory, database: Path) -> list[str]:
    prefix = lock_name(database, "")
    names = os.listdir(directory.place)  # noqa: PTH208  a Path has no handle
    runs = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return sorted(run_id for run_id in runs if RUN_ID.fullmatch(run_id))
