"""Engines, pragmas, migrations, and the one writer thread with its group commit.

Every write is a function of a connection. Whatever waits when the writer turns to its queue shares one transaction, and
a caller's `await` returns when that transaction is on the disk. Reads have a thread and an engine of their own, so that
a screen never holds up a stage.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from batchgen.errors import DatabaseNewer, StorageError, UsageError

P = ParamSpec("P")
T = TypeVar("T")

HEAD = "0002"
"""The newest migration. A test holds it to `migrations/versions`; knowing it saves importing Alembic at every start."""

OURS = frozenset({"alembic_version", "jobs", "attempts"})
"""Tables by which a job table of any version is known; others use Alembic too, and number their versions alike."""

BUSY_TIMEOUT_MS = 30_000
LOG_TRIES = 100
TAKE_TURN = f"""
SELECT set_config('lock_timeout', '{BUSY_TIMEOUT_MS}ms', true),
       set_config('idle_in_transaction_session_timeout', '5min', true),
       pg_advisory_xact_lock(7274331)
"""
"""One writer at a time in PostgreSQL too, so that what is counted and then used up, or looked for and then added, needs
no second thought. A machine that vanishes in the middle of its turn loses it."""
GROUP_MAX = 256  # writes in one transaction


def migrations_folder() -> Path:
    """The migrations: inside the package when installed, at the top of the checkout otherwise."""
    installed = Path(__file__).resolve().parent / "migrations"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[1] / "migrations"


def database_url(place: str | Path) -> URL:
    """A path or an SQLAlchemy URL, as a URL. Raises `UsageError`, without the URL: it may hold a password."""
    if "://" not in str(place):
        return URL.create("sqlite", database=str(Path(place).absolute()))
    try:
        url = make_url(str(place))
        dialect = url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UsageError(
            "--db: not a database URL that can be used here. Give a path, or postgresql://user:password@host/name"
            " (with %2F and the like for the signs in a password)"
        ) from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"--db: {url.get_backend_name()} is not supported; use SQLite or PostgreSQL")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UsageError("--db: a job table in memory would be gone with the run, and what it paid for; give a path")
    try:
        dialect.import_dbapi()
    except ImportError:
        raise UsageError("--db: PostgreSQL needs its driver: pip install 'batchgen[postgres]'") from None
    return url


def keep_log(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. The switch does not wait for others as all else does: they get turns."""
    for _ in range(LOG_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    raise sqlite3.OperationalError("others keep the database busy")


def make_engine(url: URL, *, writing: bool) -> Engine:
    """An engine whose transactions begin for real; those that write have the table to themselves, so that what is read
    stays true, and those that read see one moment of it."""
    return sqlite_engine(url, writing) if url.get_backend_name() == "sqlite" else postgres_engine(url, writing)


def sqlite_engine(url: URL, writing: bool) -> Engine:
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late and silently loses updates
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        keep_log(connection)
        for pragma in (
            "synchronous=FULL",  # an intent must survive a power cut
            "foreign_keys=ON",
            f"query_only={'OFF' if writing else 'ON'}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def postgres_engine(url: URL, writing: bool) -> Engine:
    if not writing:
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        return create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, execution_options=snapshot)
    # READ COMMITTED: a snapshot taken before the turn comes would be of a table that is no more.
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, isolation_level="READ COMMITTED")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(TAKE_TURN)

    return engine


def version_of(connection: Connection) -> str | None:
    """The migration a database stands at, or None for one that has none of our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(connection: Connection, target: str = "head") -> None:
    """Bring the database to `target` within the caller's transaction."""
    from alembic import command  # 600 ms, needed only by the first run on a database
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


@contextmanager
def told_plainly(url: URL) -> Iterator[None]:
    """Turn a driver's complaint into a message for a person. The URL is shown without its password."""
    try:
        yield
    except SQLAlchemyError as error:
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
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def __enter__(self) -> Self:
        with told_plainly(self.url):
            self.refuse_newer()
            self.engine = make_engine(self.url, writing=True)
            try:
                with self.engine.begin() as connection:
                    if version_of(connection) != HEAD:
                        migrate(connection)
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

    def refuse_newer(self) -> None:
        """Look at the version with an engine that cannot write: a newer table, or garbage, is left untouched."""
        if self.path and (not self.path.exists() or self.path.stat().st_size == 0):
            if not self.path.parent.is_dir():
                raise StorageError(f"{self.path}: its folder does not exist; create it or choose another --db")
            return
        if self.path and self.path.is_dir():
            raise StorageError(f"{self.path}: this is a folder; --db names a file")
        url = self.url
        if self.path:
            url = URL.create("sqlite", database=f"file:{quote(str(self.path))}", query={"mode": "ro", "uri": "true"})
        looker = create_engine(url)
        try:
            with looker.connect() as connection:
                found = version_of(connection)
                tables = set(inspect(connection).get_table_names())
        finally:
            looker.dispose()
        shown = self.path or url.render_as_string()
        if tables and not tables >= OURS:
            raise UsageError(f"{shown}: this is a database of something else, left untouched; choose another --db")
        if found is not None and found > HEAD:
            raise DatabaseNewer(
                f"{shown}: the job table is of version {found}, this batchgen knows"
                f" {HEAD}; upgrade batchgen. The database has not been touched."
            )

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
        with told_plainly(self.url):
            result: T = await write.done
        return result

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, …)` on a snapshot of the table, beside the writer."""
        return await asyncio.to_thread(lambda: self.look(function, *args, **kwargs))

    def look(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for callers without an event loop."""
        with told_plainly(self.url), self.reading.begin() as connection:
            return function(connection, *args, **kwargs)

    def change(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` for callers without an event loop."""
        write = Write(function, args, kwargs)
        assert isinstance(write.done, Future)
        self._writes.put(write)
        with told_plainly(self.url):
            result: T = write.done.result()
        return result
