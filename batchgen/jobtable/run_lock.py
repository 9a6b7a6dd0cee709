"""Whether a run is alive: it holds a lock that the system releases when the run dies, however it dies.

In SQLite that is a lock on a file beside the database (`files/liveness.py`). In PostgreSQL it is an advisory lock of a
session that a run keeps for nothing else: the server releases it when the connection ends. No heartbeat is needed.

The same session listens for `NOTIFY`, a hint that rows have moved. A hint that is lost costs the usual pause.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, text

from batchgen import clock
from batchgen.errors import StorageError
from batchgen.files import liveness
from batchgen.jobtable.database import Database
from batchgen.jobtable.engine import HINTS, connect_args, shown

if TYPE_CHECKING:
    import psycopg

LOG = logging.getLogger("batchgen.jobtable")

KEY_BITS = 48
"""Of the id of a run: twelve hexadecimal digits. They are the lower bits of its lock's key."""
KEY_PREFIX = 0x6267
"""The upper bits of such a key ("bg"), which no other lock of batchgen has."""
TAKE_AGAIN_SECONDS = 0.1
"""Between two tries to take the lock again after its connection was lost: far less than `CONFIRM`."""
CLOSE_SECONDS = 0.25
"""How long the end of a run waits at most for the thread that listens."""
POOLER_TRIES = 4
"""How often two connections are compared."""
CONFIRM = timedelta(seconds=0.9)
"""How long a run must be seen without its lock before it counts as dead. One whose connection was cut takes the lock
again meanwhile. With the pause between two checks it is less than the two seconds of a takeover."""
RESTART = timedelta(seconds=3)
"""After this run has lost its own lock, no other one is judged for so long: the server has probably restarted, and all
runs have lost theirs."""
ENDED_STATES = ("Z", "X")
"""Of a process in /proc: a zombie, dead."""
SERVER_OPTIONS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "11000",
}
"""With them the server notices within eleven seconds that the machine of a run has vanished, and releases its lock."""
POOLED = (
    "PostgreSQL is reached through a pooler in transaction mode, where a run can hold no lock: if it dies, other runs"
    " take its jobs over only when their leases end, after five minutes. With the address of the server itself, or a"
    " pooler in session mode, it is two seconds"
)


class Owner(NamedTuple):
    """Where a run is, or was, at work."""

    host: str
    pid: int
    holds_lock: bool
    """False for a run that cannot hold a lock: only its leases show that it is alive."""


@contextmanager
def lock_held(database: Database, run_id: str, on_hint: Callable[[], None]) -> Iterator[RunLock]:
    """Show other runs that this one is alive, until the block ends. Raises `StorageError`.

    `on_hint` is called, in another thread, when another process has moved rows; only with PostgreSQL.
    """
    if database.path is not None:
        with liveness.file_lock_held(database.path, run_id) as file_lock:
            yield file_lock
        return
    lock = SessionLock(database, run_id, on_hint)
    lock.open()
    try:
        yield lock
    finally:
        lock.close()


class SessionLock:
    """An advisory lock of PostgreSQL, in a session of its own. A thread takes it again when the session is lost."""

    def __init__(self, database: Database, run_id: str, on_hint: Callable[[], None]) -> None:
        self.database, self.on_hint = database, on_hint
        self.key = KEY_PREFIX << KEY_BITS | int(run_id, 16)
        self.stays = False
        """A trace of it is kept at the end, for the next run to see. A session leaves none."""
        self.is_possible = True
        """Whether the run can hold a lock at all."""
        self.taken_at: datetime | None = None
        """When the lock was last taken again after a loss, by the machine's clock."""
        self.is_lost = False
        self.closing = threading.Event()
        self.thread: threading.Thread | None = None

    @property
    def can_judge(self) -> bool:
        """Whether the lock of another run, if it is missing, says that the run is dead."""
        return not self.is_lost and (self.taken_at is None or clock.machine_now() - self.taken_at >= RESTART)

    def record(self) -> None:
        """The row of the run is the record."""

    def open(self) -> None:
        """Take the lock the first time. Raises `StorageError`."""
        import psycopg

        try:
            connection = self.connect()
            if self.is_pooled(connection):  # first: a lock would stay with a session of the pooler
                LOG.warning(POOLED, extra={"is_sentence": True})
                self.is_possible = False
                connection.close()
                return
            self.take(connection)
        except psycopg.Error as error:
            reason = str(error).strip()
            raise StorageError(f"{shown(self.database.url)}: the lock of this run cannot be taken: {reason}") from error
        self.thread = threading.Thread(target=self.serve, args=[connection], name="batchgen-run-lock", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        if self.thread:
            self.thread.join()

    def connect(self) -> psycopg.Connection:
        """A new connection, for nothing but the lock. Raises `psycopg.Error`."""
        import psycopg

        url = self.database.url
        args, params = url.get_dialect()().create_connect_args(url)
        return psycopg.connect(*args, **{**params, **connect_args(url)}, autocommit=True)

    def take(self, connection: psycopg.Connection) -> None:
        """Take the lock and listen; closes the connection if that fails. Raises `psycopg.Error`."""
        import psycopg

        try:
            for name, value in SERVER_OPTIONS.items():
                connection.execute("SELECT set_config(%s, %s, false)", [name, value])
            connection.execute(f"LISTEN {HINTS}")
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [self.key]).fetchone()
            if row != (True,):  # the server has not noticed yet that the session before is gone
                raise psycopg.OperationalError("another session holds the lock of this run")
        except BaseException:
            connection.close()
            raise

    def is_pooled(self, connection: psycopg.Connection) -> bool:
        """Whether the connection has no session of its own: a pooler has one for it during a transaction only.

        Then two transactions of one connection are in two sessions, or those of two connections in one. A pooler may
        choose among its sessions by chance, or in turn.
        """
        own = session_of(connection)
        for _ in range(POOLER_TRIES):
            others = (self.database.read_now(session_id), session_of(connection), session_of(connection))
            if others[0] == own or others[1:] != (own, own):
                return True
        return False

    def serve(self, connection: psycopg.Connection | None) -> None:
        """Listen, and take the lock again when its session is lost."""
        import psycopg

        while not self.closing.is_set():
            try:
                if connection is None:
                    connection = self.connect()
                    self.take(connection)
                    self.taken_at, self.is_lost = clock.machine_now(), False
                    LOG.info("run_lock.taken_again")
                for _ in connection.notifies(timeout=CLOSE_SECONDS):
                    self.on_hint()
            except psycopg.Error as error:
                LOG.info("run_lock.lost", extra={"reason": str(error).strip()})
                self.is_lost = True
                if connection is not None:
                    connection.close()
                connection = None
                self.closing.wait(TAKE_AGAIN_SECONDS)
        if connection is not None:
            connection.close()


RunLock = liveness.FileLock | SessionLock


def session_of(connection: psycopg.Connection) -> int:
    """The process of the server in which the connection's last transaction ran."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row
    return int(row[0])


def session_id(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def locked_runs(connection: Connection) -> set[str]:
    """The runs that hold their lock, of this database of PostgreSQL."""
    keys = connection.execute(HELD_KEYS).scalars()
    return {f"{key & (1 << KEY_BITS) - 1:0{KEY_BITS // 4}x}" for key in keys if key >> KEY_BITS == KEY_PREFIX}


def dead_runs(database: Database, owners: Mapping[str, Owner]) -> list[str]:
    """Those of the runs that are not at work. One that cannot be judged from here is left out.

    In SQLite the lock files of the dead runs are removed. With PostgreSQL a run that takes its lock again may count as
    dead for a moment, so nothing may be lost by that.
    """
    if database.path is not None:
        return liveness.remove_dead_runs(database.path, {run_id: owner.host for run_id, owner in owners.items()})
    candidates = {run_id for run_id, owner in owners.items() if owner.holds_lock}
    return sorted(candidates - database.read_now(locked_runs)) if candidates else []


class Neighbours:
    """The other runs on a job table, as one run sees them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.own_lock: RunLock | None = None
        self.missing_since: dict[str, datetime] = {}
        """When runs were first seen without their lock, by the machine's clock."""

    def dead(self, owners: Mapping[str, Owner]) -> tuple[list[str], list[str]]:
        """The runs that count as dead: those whose processes are gone for certain, and those that hold no lock.

        The latter may still be alive, cut off from the server, and have a request on the wire. Raises `UnsafePath`, see
        `liveness.remove_dead_runs`.
        """
        missing = dead_runs(self.database, owners)
        if self.database.path is not None:
            return missing, []
        if isinstance(self.own_lock, SessionLock) and not self.own_lock.can_judge:
            missing = []
        ended = [run_id for run_id in missing if has_ended(owners[run_id])]
        now = clock.machine_now()
        self.missing_since = {run_id: self.missing_since.get(run_id, now) for run_id in missing}
        lost = [
            run_id for run_id, since in self.missing_since.items() if now - since >= CONFIRM and run_id not in ended
        ]
        return ended, lost


def has_ended(owner: Owner) -> bool:
    """Whether the process of a run on this machine is gone. Its sockets are closed then, too."""
    if owner.host != liveness.host_name() or os.name != "posix":
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    with suppress(OSError, IndexError):  # On Linux, a process that nobody has waited for yet still has its number.
        status = Path(f"/proc/{owner.pid}/stat").read_text("utf-8", "replace")
        return status.rpartition(")")[2].split()[0] in ENDED_STATES
    return False


HELD_KEYS = text("""
    SELECT CAST(classid AS bigint) << 32 | CAST(objid AS bigint) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")
