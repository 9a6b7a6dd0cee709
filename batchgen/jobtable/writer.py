"""The one writer of a job table: a thread that commits waiting writes together (group commit).

All writes that wait share one transaction, and one fsync serves them all. The future of a write gets its result once
that transaction is on the disk.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, bindparam, event, select, text
from sqlalchemy.exc import DBAPIError

from batchgen import clock
from batchgen.errors import StorageError, TableLocked
from batchgen.jobtable import settings
from batchgen.jobtable.engine import HINTS, TRANSACTION_ID
from batchgen.jobtable.schema import events
from batchgen.jobtable.table_lock import TableLock
from batchgen.jobtable.transition import LAST_EVENT

GROUP_MAX = 256
"""Writes in one transaction: bounds how long the first of them waits for the last."""
TRANSACTION_STATUS = text("SELECT pg_xact_status(CAST(CAST(:id AS text) AS xid8))")
EVENT = select(events.c.id).where(events.c.id == bindparam("event"))
FELL_BACK = (
    "the server has lost what this run had stored: a standby took over that was behind, or a backup was put back."
    " Nothing more is sent. Run the same command: it compares the jobs with the service's log before it pays again"
)


class Write(NamedTuple):
    """A function that waits for its transaction, and the future of its result."""

    function: Callable[[Connection], Any]
    future: Future[Any]


class CommitUnknown(Exception):
    """The connection broke during a COMMIT, so that the server may have committed the transaction or not."""

    def __init__(self, transaction_id: str, results: list[Any], error: DBAPIError) -> None:
        self.transaction_id, self.results, self.error = transaction_id, results, error


class Writer:
    """The writer thread, and its queue. With `hints`, every commit wakes the runs that listen (PostgreSQL)."""

    def __init__(self, engine: Engine, lock: TableLock, *, hints: bool = False) -> None:
        self.engine, self.lock, self.hints = engine, lock, hints
        self.last_event: int | None = None
        """The newest event that was committed here."""
        self.fell_back = False
        """Whether the server lacks it."""
        event.listen(engine, "rollback_savepoint", self.forget_events)
        self.queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.serve, name="batchgen-writer", daemon=True)
        self.thread.start()

    def submit(self, function: Callable[[Connection], Any]) -> Future[Any]:
        """Queue a write. Its future cannot be cancelled, because the write may record what was paid for."""
        write = Write(function, Future())
        write.future.set_running_or_notify_cancel()
        self.queue.put(write)
        return write.future

    def close(self) -> None:
        """Commit what waits, and end the thread."""
        self.queue.put(None)
        self.thread.join()

    def serve(self) -> None:
        while (first := self.queue.get()) is not None:
            group = [first]
            while len(group) < GROUP_MAX and not self.queue.empty():
                if (write := self.queue.get()) is None:
                    self.queue.put(None)  # ends the thread after this group
                    break
                group.append(write)
            self.commit(group)

    def commit(self, group: Sequence[Write]) -> None:
        """Run the writes in one transaction. If it fails, each gets its own, so that only the one at fault fails.

        While the table is locked by another program, all of them wait: none is lost, and none is half done.
        """
        try:
            results = self.lock.wait_for(lambda: self.run_once(group))
        except BaseException as error:
            if len(group) > 1 and not isinstance(error, TableLocked):
                for write in group:
                    self.commit([write])
                return
            for write in group:
                write.future.set_exception(error)
            return
        for write, result in zip(group, results, strict=True):
            write.future.set_result(result)

    def run_once(self, group: Sequence[Write]) -> list[Any]:
        """Run the writes in one transaction, which is never committed twice, even where the answer to COMMIT is lost.

        Raises the error that lost the connection where nothing was committed, so that the same may be run again.
        """
        try:
            return self.run(group)
        except CommitUnknown as error:
            unknown = error
        if self.lock.wait_for(lambda: self.was_committed(unknown.transaction_id)):
            return unknown.results
        raise unknown.error

    def run(self, group: Sequence[Write]) -> list[Any]:
        """Run the writes in one transaction. Raises `CommitUnknown`, on PostgreSQL only."""
        with self.engine.connect() as connection:
            transaction = connection.begin()
            self.judge_server(connection)
            results = [write.function(connection) for write in group]
            if self.hints:
                connection.exec_driver_sql(f"NOTIFY {HINTS}")
            transaction_id = connection.info.get(TRANSACTION_ID)
            try:
                transaction.commit()
            except DBAPIError as error:
                if transaction_id and error.connection_invalidated:
                    raise CommitUnknown(transaction_id, results, error) from error
                raise
            self.last_event = connection.info[LAST_EVENT]
            return results

    def forget_events(self, connection: Connection, *_savepoint: object) -> None:
        """What a trial has rolled back was never stored, so no server can have lost it."""
        connection.info[LAST_EVENT] = self.last_event

    def judge_server(self, connection: Connection) -> None:
        """Raise `StorageError` if a new connection leads to a table that lacks what was committed.

        The other runs may have lost nothing themselves, and compare all jobs as well before they send any of them.
        """
        is_new = LAST_EVENT not in connection.info
        if is_new and self.last_event and not connection.execute(EVENT, {"event": self.last_event}).first():
            if not self.fell_back:
                settings.compare_all_again(connection, clock.utcnow())
                connection.commit()
            self.fell_back = True
            raise StorageError(f"{self.lock.shown}: {FELL_BACK}")
        connection.info[LAST_EVENT] = self.last_event

    def was_committed(self, transaction_id: str) -> bool:
        """What became of a transaction. It has ended, because this one holds the write lock that it held."""
        with self.engine.begin() as connection:
            status = connection.execute(TRANSACTION_STATUS, {"id": transaction_id}).scalar_one()
            return str(status) == "committed"
