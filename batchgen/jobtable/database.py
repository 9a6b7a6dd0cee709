"""The job table's database, opened: the one writer thread with its group commit, and reads beside it.

Every write is a function of a connection. Whatever waits when the writer turns to its queue shares one transaction, and
a caller's `await` returns when that transaction is on the disk. Reads have a thread and an engine of their own, so that
a screen never holds up a stage.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from batchgen.errors import StorageError
from batchgen.jobtable.engine import database_url, make_engine
from batchgen.jobtable.migrations import bring_up, refuse_unusable

P = ParamSpec("P")
T = TypeVar("T")

GROUP_MAX = 256  # writes in one transaction


class Plainly:
    """Turns a driver's complaint into a message for a person. The URL is shown without its password."""

    def __init__(self, url: URL) -> None:
        self.url = url

    def __enter__(self) -> None: ...

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        url = self.url
        # What is prepared speaks to the driver itself.
        if not isinstance(error, SQLAlchemyError | url.get_dialect().import_dbapi().Error):
            return
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        shown = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
        raise StorageError(f"{shown}: the job table cannot be used: {reason.strip()}") from error


class Write:
    """A function of a connection that waits for its transaction, and the future that waits for it.

    A caller who leaves cannot take back what may be paid for: a cancelled future's write is done all the same.
    """

    __slots__ = ("args", "done", "function", "kwargs", "loop", "result")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.function, self.args, self.kwargs, self.loop = function, args, kwargs, loop
        self.done: asyncio.Future[Any] | Future[Any] = loop.create_future() if loop else Future()
        self.result: Any = None

    def __call__(self, connection: Connection) -> Any:
        return self.function(connection, *self.args, **self.kwargs)


def settle(group: Sequence[Write], error: BaseException | None = None) -> None:
    """Hand each waiting caller its result. An event loop's callers are told in their own thread."""
    for write in group:
        if write.done.done():
            continue
        if error is None:
            write.done.set_result(write.result)
        else:
            write.done.set_exception(error)


def tell(group: Sequence[Write], error: BaseException | None = None) -> None:
    """Wake whoever waits for these writes: each event loop once, however many of its writes there are."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[Write]] = {}
    for write in group:
        by_loop.setdefault(write.loop, []).append(write)
    settle(by_loop.pop(None, ()), error)
    for loop, writes in by_loop.items():
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(settle, writes, error)


class Database:
    """The job table's database: open it, then `write` and `read` functions of a connection.

    Raises `DatabaseNewer` for a table of a newer batchgen and `StorageError` for a file that cannot be used; in both
    cases nothing has been written.
    """

    def __init__(self, place: str | Path) -> None:
        self.url = database_url(place)
        self.path = Path(self.url.database) if self.url.get_backend_name() == "sqlite" and self.url.database else None
        self.plainly = Plainly(self.url)
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def __enter__(self) -> Self:
        with self.plainly:
            refuse_unusable(self.url)
            self.engine = make_engine(self.url, writing=True)
            try:
                with self.engine.begin() as connection:
                    bring_up(connection)
            except BaseException:
                self.engine.dispose()
                raise
        self.reading = make_engine(self.url, writing=False)
        self._writer = threading.Thread(target=self._serve, name="batchgen-writer", daemon=True)
        self._writer.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writes.put(None)
            self._writer.join()
        self.reading.dispose()
        self.engine.dispose()

    def _serve(self) -> None:
        while (first := self._writes.get()) is not None:
            group = [first]
            ending = False
            while len(group) < GROUP_MAX:
                try:
                    following = self._writes.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ending = True
                    break
                group.append(following)
            self._commit(group)
            if ending:
                return

    def _commit(self, group: list[Write]) -> None:
        try:
            with self.engine.begin() as connection:
                for write in group:
                    write.result = write(connection)
        except BaseException as error:
            if len(group) == 1:
                tell(group, error)
                return
            # The transaction is gone: each write gets its own, so that only the one at fault fails.
            for write in group:
                self._commit([write])
            return
        tell(group)

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, …)` in a transaction; return its value once that is durable.

        A caller that is cancelled stops waiting; the write is done all the same.
        """
        loop = asyncio.get_running_loop()
        write = Write(function, args, kwargs, loop)
        assert isinstance(write.done, asyncio.Future)
        self._writes.put(write)
        with self.plainly:
            result: T = await write.done
        return result

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, …)` on a snapshot of the table, beside the writer."""
        return await asyncio.to_thread(lambda: self.read_now(function, *args, **kwargs))

    def read_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for callers without an event loop."""
        with self.plainly, self.reading.begin() as connection:
            return function(connection, *args, **kwargs)

    def write_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` for callers without an event loop."""
        write = Write(function, args, kwargs)
        assert isinstance(write.done, Future)
        self._writes.put(write)
        with self.plainly:
            result: T = write.done.result()
        return result
