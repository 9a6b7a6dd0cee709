"""The job table's database: `write` and `read` run functions of a connection, in transactions.

Writes go through one writer thread. Reads have an engine of their own, so that a display never holds up a stage.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from batchgen.errors import StorageError
from batchgen.jobtable import place
from batchgen.jobtable.engine import database_url, make_engine, path_of
from batchgen.jobtable.migrations import bring_up, is_current
from batchgen.jobtable.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def errors_for_people(url: URL) -> Iterator[None]:
    """Turn a database error into a `StorageError` that names the database, without its password, and the reason."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        shown = path_of(url) or url.render_as_string(hide_password=True)
        raise StorageError(f"{shown}: the job table cannot be used: {reason.strip()}") from error


class Database:
    """The job table's database, open as a context manager.

    Opening raises `DatabaseNewer` for a table of a newer batchgen, `UsageError` for a database of something else and
    `StorageError` for a file that cannot be used. In each case nothing has been written.
    """

    def __init__(self, location: str | Path) -> None:
        self.url = database_url(location)
        self.path = path_of(self.url)
        """The file of an SQLite database; None for PostgreSQL."""
        self.impatient = threading.Event()
        """Set once nobody waits any more for a lock that another process holds on the table."""

    def __enter__(self) -> Self:
        with errors_for_people(self.url):
            if not is_current(self.url):
                bring_up(self.url)
            self.engine = make_engine(self.url, writing=True, impatient=self.impatient)
            self.engine.connect().close()  # a file that cannot be written is noticed before anything is sent
            self.reading = make_engine(self.url, writing=False)
            self.reading.connect().close()  # of the same file, whatever happens to its name
        self.file = self.path.stat() if self.path else None
        self.writer = Writer(self.engine)
        return self

    def is_in_place(self) -> bool:
        """Whether the file that is open still has its name."""
        return self.path is None or self.file is None or place.is_at(self.path, self.file)

    def check_in_place(self) -> None:
        """Raise `StorageError` if the file was moved, deleted or replaced: the next run would not see what it has."""
        if not self.is_in_place():
            raise StorageError(f"{self.path}: {place.LOST}")

    def __exit__(self, *_: object) -> None:
        self.writer.close()
        self.reading.dispose()
        self.engine.dispose()

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, …)` in a write transaction; return its value once that is durable.

        A caller that is cancelled stops waiting; the write is done all the same.
        """
        future = self.writer.submit(lambda connection: function(connection, *args, **kwargs))
        with errors_for_people(self.url):
            result: T = await asyncio.wrap_future(future)
        return result

    def write_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` for callers without an event loop."""
        future = self.writer.submit(lambda connection: function(connection, *args, **kwargs))
        with errors_for_people(self.url):
            result: T = future.result()
        return result

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, …)` on a snapshot of the table, beside the writer."""
        return await asyncio.to_thread(partial(self.read_now, function, *args, **kwargs))

    def read_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for callers without an event loop."""
        with errors_for_people(self.url), self.reading.begin() as connection:
            return function(connection, *args, **kwargs)
