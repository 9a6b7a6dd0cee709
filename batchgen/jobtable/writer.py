"""The one writer of a job table: a thread that commits waiting writes together (group commit).

All writes that wait when the writer turns to its queue share one transaction, so that one fsync serves them all. The
future of a write gets its result once that transaction is on the disk.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from batchgen.errors import TableLocked
from batchgen.jobtable.table_lock import TableLock

GROUP_MAX = 256
"""Writes in one transaction: bounds how long the first of them waits for the last."""


class Write(NamedTuple):
    """A function that waits for its transaction, and the future of its result."""

    function: Callable[[Connection], Any]
    future: Future[Any]


class Writer:
    """The writer thread, and its queue."""

    def __init__(self, engine: Engine, lock: TableLock) -> None:
        self.engine, self.lock = engine, lock
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
            results = self.lock.wait_for(lambda: self.run(group))
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

    def run(self, group: Sequence[Write]) -> list[Any]:
        with self.engine.begin() as connection:
            return [write.function(connection) for write in group]
