"""Waiting for a job table that another program has locked, or whose server restarts: who holds it, and for how long."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from batchgen import clock
from batchgen.errors import TableLocked

LOG = logging.getLogger("batchgen.jobtable")
T = TypeVar("T")

RETRY_SECONDS = 0.25
"""SQLite's busy time-out, during which a thread is deaf to signals, and the pause between two tries."""
NOTICED_TRIES = 12
"""Tries after which a person is told: for three seconds and more, no neighbour holds the lock in passing."""
REMINDER_TRIES = 1_200
"""Tries between two reminders: some ten minutes."""
PATIENCE_TRIES = 40
"""Tries of a command that somebody waits for: ten seconds at least. A run waits for as long as the lock is held."""
OUTAGE = timedelta(minutes=30)
"""How long a run waits for a server that does not answer: its restart and its maintenance take minutes."""
WRITE_LOCK_BYTE = 120
"""The byte of the file `-shm` that a writer locks (the WAL-index of SQLite's file format)."""
LOCK_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
LOCK_STATES = frozenset({"55P03", "40001", "40P01"})  # of PostgreSQL: lock not available, serialization, deadlock
QUERY_CANCELED = "57014"
"""Of PostgreSQL: a statement took longer than a bound. Where it takes the write lock, the bound is the server's own
`statement_timeout`, which is shorter than the wait for the lock."""
TAKES_LOCK = "pg_advisory_xact_lock"
"""What the text of that statement has, and no other."""
RESTART_STATES = frozenset({"57P01", "57P02", "57P03"})  # of PostgreSQL: shutdown, crash, still starting up


def code_of(error: BaseException) -> int | str | None:
    """The primary error code of SQLite, or the SQLSTATE of PostgreSQL; None where the driver names neither."""
    origin = getattr(error, "orig", None) or error
    code = getattr(origin, "sqlite_errorcode", None)
    return getattr(origin, "sqlstate", None) if code is None else code & 0xFF


class TableLock:
    """How one database waits for other programs.

    `patience` is a number of tries; None waits until `impatient` is set. Shared by the threads that read and write.
    """

    def __init__(self, shown: str, path: Path | None, patience: int | None) -> None:
        self.shown, self.path, self.patience = shown, path, patience
        self.impatient = threading.Event()
        """Set once nobody waits any more for a lock that another program holds."""
        self.reconnects = False
        """Whether a server that has gone is waited for: not before it has answered once."""
        self.waiting: dict[int, int] = {}
        """The tries so far of each thread that waits, by the thread's id."""
        self.warned_at = 0
        """The tries after which a person was told last, since the table was free."""
        self.is_gone = False
        """Whether the last failure was of a server that did not answer, and not of a lock."""
        self.refusal = ""
        """Why that server lets nobody in, in its own words; empty where it says nothing."""

    @property
    def is_held(self) -> bool:
        """Whether a thread has tried in vain more than once."""
        return any(tries > 1 for tries in list(self.waiting.values()))

    @property
    def notice(self) -> str:
        """What a person should know about the lock; empty where it is free, or held in passing."""
        return self.reason() if any(tries >= NOTICED_TRIES for tries in list(self.waiting.values())) else ""

    def wait_for(self, action: Callable[[], T]) -> T:
        """The result of `action`, which is tried again while the table is locked or its server gone.

        Raises `TableLocked` where that lasts for longer than anybody waits. An action that is tried again must have
        changed nothing: a transaction whose COMMIT may have succeeded is judged first (`writer.py`).
        """
        thread, began_at = threading.get_ident(), clock.machine_now()
        try:
            while True:
                try:
                    return action()
                except (DBAPIError, PoolTimeout) as error:
                    if not self.is_transient(error):
                        raise
                    tries = self.waiting[thread] = self.waiting.get(thread, 0) + 1
                    is_given_up = self.is_gone and clock.machine_now() - began_at >= OUTAGE
                    if self.impatient.is_set() or is_given_up or (self.patience and tries >= self.patience):
                        then = "once it does" if self.is_gone else "once it is free"
                        raise TableLocked(f"{self.reason()}; the same command goes on {then}") from error
                if tries % REMINDER_TRIES == NOTICED_TRIES and tries > self.warned_at:
                    self.warned_at = tries  # several threads may wait, and one of them says so
                    LOG.warning(f"{self.reason()}; waiting {self.longest_wait()}", extra={"is_sentence": True})
                self.impatient.wait(RETRY_SECONDS)
        finally:
            self.waiting.pop(thread, None)
            if not self.waiting:
                self.warned_at = 0

    def longest_wait(self) -> str:
        """How long the table is waited for, in words."""
        if self.patience is not None:
            return f"for {self.patience * RETRY_SECONDS:.0f} seconds"
        return f"for up to {OUTAGE.seconds // 60} minutes" if self.is_gone else "until it is free"

    def is_transient(self, error: DBAPIError | PoolTimeout) -> bool:
        """Whether the same may succeed a moment later: of a lock, or of a server that restarts or hangs."""
        if isinstance(error, PoolTimeout):  # an earlier read still waits for the server's answer
            self.is_gone, self.refusal = self.reconnects, ""
            return True
        state = code_of(error)
        if self.path is not None:
            return state in LOCK_CODES
        # psycopg names no state where it finds no server at all.
        no_server = isinstance(error, OperationalError) and str(state or "08").startswith("08")
        is_gone = error.connection_invalidated or state in RESTART_STATES or no_server
        self.is_gone = self.reconnects and is_gone
        self.refusal = " ".join(str(error.orig).partition("FATAL: ")[2].split())
        is_wait = state == QUERY_CANCELED and TAKES_LOCK in (error.statement or "")
        return self.is_gone or is_wait or state in LOCK_STATES

    def reason(self) -> str:
        if self.path is None:
            reply = f"lets nobody in ({self.refusal})" if self.refusal else "does not answer"
            gone, locked = f"the server of the job table {reply}", "the job table is locked by another session"
            return f"{self.shown}: {gone if self.is_gone else locked}"
        holder = " and ".join(lock_holders(self.path)) or "another program"
        hint = "" if "batchgen" in holder else ", perhaps a database browser with an edit that is not saved"
        return f"{self.shown}: the job table is locked by {holder}{hint}"


def lock_holders(path: Path) -> list[str]:
    """The other processes that keep a database from being written, as Linux lists them, in words."""
    holders: dict[str, str] = {}
    with suppress(OSError, ValueError, AttributeError):
        for pid in lock_owners(path):
            if int(pid) not in (os.getpid(), 0, -1):
                command = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
                holders[pid] = f"process {pid} ({command!a})"
    return list(holders.values())


def lock_owners(path: Path) -> Iterator[str]:
    """The process ids of whoever has a write lock on the database itself, or on the write-ahead log's index."""
    journal = path.with_name(f"{path.name}-shm")
    inodes = {str(file.stat().st_ino): file for file in (path, journal) if file.exists()}
    for line in Path("/proc/locks").read_text("utf-8").splitlines():
        _, kind, _, access, pid, file, first, last, *_ = line.split()
        locked = inodes.get(file.rpartition(":")[2])
        if kind != "POSIX" or access != "WRITE" or locked is None:
            continue
        if locked == path or int(first) <= WRITE_LOCK_BYTE <= (int(last) if last.isdigit() else WRITE_LOCK_BYTE):
            yield pid
