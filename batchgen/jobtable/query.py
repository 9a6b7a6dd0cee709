"""SQL that a person writes, a query or a condition for `--where`: it may read, and only for so long.

It runs on a connection that cannot write. Beyond that, the database itself refuses all but reading, and stops what
takes too long (SQLite: an authorizer and a progress handler; PostgreSQL: a read-only transaction and a time-out).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Row, Select, Text, cast, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from batchgen import clock
from batchgen.errors import StorageError, TableLocked, UsageError
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import jobs, metadata
from batchgen.jobtable.table_lock import code_of
from batchgen.jobtable.views import VIEWS

T = TypeVar("T")

STEP_INSTRUCTIONS = 100_000  # of SQLite between two calls of the progress handler: some milliseconds
TEXT_BYTES = 20_000_000  # of one value in a query: the largest request, and far from filling the memory
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
REFUSED_FUNCTIONS = {"load_extension", "fts3_tokenizer", "writefile", "edit"}
TOO_LONG = {sqlite3.SQLITE_INTERRUPT, "57014"}  # of SQLite and PostgreSQL: the time-out has stopped the statement
FAULTS_OF_STORAGE = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
STATES_OF_STORAGE = ("08", "53", "57P", "58", "XX")
"""Classes of PostgreSQL's errors that no query is to blame for: connection, resources, shutdown, disk, defects."""
UNKNOWN_TABLE = re.compile(r'no such table: (\S+)|relation "([^"]+)" does not exist')
UNKNOWN_COLUMN = re.compile(r'no such column: (\S+)|column "?([^" ]+)"? does not exist')
SEVERAL_STATEMENTS = "the query is more than one statement; give one SELECT"
QUOTES = {"'": "'", '"': '"', "`": "`", "[": "]"}
"""The characters that begin a quoted part of SQL, with those that end it."""
CONDITION_CHARS = 10_000  # of a condition: a list of some hundred ids fits
CONDITION_SECONDS = 5  # a million jobs with a condition on their JSON take one
ID_AS_TEXT = re.compile(r"\bid\b[\"\s]*(?:=|LIKE\b|GLOB\b|IN\b\s*\()\s*'", re.IGNORECASE)
"""A comparison that SQLite takes and PostgreSQL refuses."""
ID_AS_NUMBER = re.compile(r"(?<![.\w\"])\"?id\"?\s*(?:(?:==?|!=|<>)\s*\d+|(?:NOT\s+)?IN\s*\([\d\s,]+\))", re.IGNORECASE)
"""A comparison with numbers of rows, unless it says so: `jobs.id`."""
ID_IS_A_NUMBER = (
    "it compares a number with a text; in `jobs`, id is the number of a row, and `key` is the manifest's id"
)
REASONS = {
    "interrupted": "it takes too long and was stopped",
    "statement timeout": "it takes too long and was stopped",
    "not authorized": "it may only read: no WITH RECURSIVE, no PRAGMA, no extensions",
    "prohibited": "it may only read: no WITH RECURSIVE, no PRAGMA, no extensions",
    "too big": "a text in it becomes too long",
    "invalid input syntax for type integer": ID_IS_A_NUMBER,
}
"""Parts of a database's message, with what they mean to a person."""


class QueryLimit:
    """How long the database may work on a query. While the rows that it has read are written, no time passes."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.remaining = timedelta(seconds=seconds)
        self.started_at = clock.utcnow()

    @contextmanager
    def running(self) -> Iterator[None]:
        self.started_at = clock.utcnow()
        try:
            yield
        finally:
            self.remaining -= clock.utcnow() - self.started_at
            self.started_at = clock.utcnow()

    def is_over(self) -> bool:
        return clock.utcnow() - self.started_at >= self.remaining


def run_query(
    database: Database, sql: str, limit: QueryLimit, consume: Callable[[Sequence[str], Iterator[Sequence[Any]]], T]
) -> T:
    """Execute one statement that reads; `consume` gets the names of its columns, and its rows as they are read.

    Raises `UsageError`, also while `consume` reads, for a query that is wrong, does more than read or exceeds `limit`.
    """
    streamed = {"stream_results": True, "no_parameters": True}  # no sign in the query is that of a parameter

    def read(connection: Connection) -> T:
        with reading_only(connection, limit, may_recurse=True):
            with limit.running():
                try:
                    result = connection.exec_driver_sql(sql, execution_options=streamed)
                except sqlite3.Warning:  # of two statements, until Python 3.12
                    raise UsageError(SEVERAL_STATEMENTS) from None
            if not result.returns_rows:
                raise UsageError("this query has no result; give one SELECT")
            return consume(list(result.keys()), rows_of(result, sql, limit))

    try:
        return database.read_now(read)
    except TableLocked:
        raise
    except StorageError as error:
        if isinstance(error.__cause__, DBAPIError) and not is_fault_of_storage(error.__cause__):
            raise failure(error.__cause__, sql, limit) from None
        raise


def rows_of(result: CursorResult[Any], sql: str, limit: QueryLimit) -> Iterator[Sequence[Any]]:
    """The rows, each as it is read. Raises `UsageError` where the query fails at one of them, or takes too long."""
    while True:
        try:
            with limit.running():
                row = result.fetchone()
        except DBAPIError as error:
            if is_fault_of_storage(error):
                raise
            raise failure(error, sql, limit) from None
        if row is None:
            return
        yield row


@contextmanager
def reading_only(connection: Connection, limit: QueryLimit, *, may_recurse: bool = False) -> Iterator[None]:
    """Let the database refuse statements that do more than read, or go on although the limit is reached.

    PostgreSQL counts the seconds by itself, for each part of a result that is fetched, and to the transaction's end.
    """
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(limit.seconds * 1000))}")
        yield
        return
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')")  # SQLite makes these tables at their first use
    longest = driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TEXT_BYTES)
    driver.set_authorizer(partial(authorize, READING | ({sqlite3.SQLITE_RECURSIVE} if may_recurse else set())))
    driver.set_progress_handler(limit.is_over, STEP_INSTRUCTIONS)
    try:
        yield
    except DBAPIError as error:
        # Python drops Ctrl-C in the progress handler, and SQLite stops.
        if code_of(error) == sqlite3.SQLITE_INTERRUPT and not limit.is_over():
            raise KeyboardInterrupt from None
        raise
    finally:
        with suppress(sqlite3.ProgrammingError):  # Ctrl-C between two rows makes SQLAlchemy close the connection
            driver.set_progress_handler(None, 0)
            driver.set_authorizer(None)
            driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)


def authorize(
    actions: set[int], action: int, _table: str | None, name: str | None, _database: str | None, _by: str | None
) -> int:
    """SQLite's question whether a statement may do something; of a function, `name` is its name."""
    refused = action == sqlite3.SQLITE_FUNCTION and str(name).lower() in REFUSED_FUNCTIONS
    return sqlite3.SQLITE_OK if action in actions and not refused else sqlite3.SQLITE_DENY


def is_fault_of_storage(error: DBAPIError) -> bool:
    code = code_of(error)
    return code.startswith(STATES_OF_STORAGE) if isinstance(code, str) else code in FAULTS_OF_STORAGE


def reason_of(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0]


def failure(error: DBAPIError, sql: str, limit: QueryLimit) -> BaseException:
    """What ended a query: `UsageError`, or Ctrl-C, which Python drops in the progress handler."""
    is_ctrl_c = code_of(error) == sqlite3.SQLITE_INTERRUPT and not limit.is_over()
    return KeyboardInterrupt() if is_ctrl_c else UsageError(explanation(error, sql, limit))


def explanation(error: DBAPIError, sql: str, limit: QueryLimit) -> str:
    """What was wrong with a query, in the database's words and with what to do next."""
    reason = reason_of(error)
    if code_of(error) in TOO_LONG:
        return (
            f"the query took longer than {limit.seconds:g} s and was stopped. Ask for less: a condition on batch and id"
            " is quick"
        )
    if "not authorized" in reason or "prohibited" in reason:
        return f"the query may only read, so the database refuses it ({reason})"
    if "too big" in reason:
        return f"a text in the query becomes longer than {TEXT_BYTES:,} bytes ({reason})"
    if "one statement" in reason or "multiple commands" in reason:
        return SEVERAL_STATEMENTS
    if "syntax error" in reason:
        return f"{reason}. Give one SELECT; `batchgen sql` lists the views"
    return reason + suggestion(reason, sql)


def suggestion(reason: str, sql: str) -> str:
    """The names nearest to one that does not exist; empty where the database complains of something else."""
    tables = {name: view.columns for name, view in VIEWS.items()}
    tables |= {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}
    command = "`batchgen sql` lists the views"
    if match := UNKNOWN_TABLE.search(reason):
        names = list(tables)
    elif match := UNKNOWN_COLUMN.search(reason):
        mentioned = [name for name in tables if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
        names = [column for name in mentioned or VIEWS for column in tables[name]]
        if mentioned and mentioned[0] in VIEWS:
            command = f"`batchgen sql {mentioned[0]}` explains its columns"
    else:
        return ""
    wrong = next(filter(None, match.groups())).rpartition(".")[2].lower()
    near = list(dict.fromkeys(get_close_matches(wrong, names, n=3, cutoff=0.5)))
    return f"; did you mean {' or '.join(near)}? {command}" if near else f"; {command}"


def condition(sql: str) -> str:
    """`sql` as one condition in brackets. Raises `UsageError` where it could end the brackets or the statement."""
    if len(sql) > CONDITION_CHARS:
        raise UsageError(f"--where: the condition has {len(sql):,} characters; at most {CONDITION_CHARS:,} are allowed")
    depth, end_quote = 0, ""
    for sign, following in pairwise(f"{sql} "):
        if end_quote:
            end_quote = "" if sign == end_quote else end_quote
        elif sign in QUOTES:
            end_quote = QUOTES[sign]
        elif sign == ";" or sign + following in ("--", "/*"):
            raise UsageError(f"--where takes one condition, without {sign if sign == ';' else sign + following}: {sql}")
        else:
            depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
    if depth or end_quote or not sql.strip():
        raise UsageError(f"--where: the brackets or quotes do not match, or the condition is empty: {sql}")
    return f"({sql})".replace(":", "\\:")


def refuse_row_numbers(connection: Connection, batch_id: int, sql: str) -> None:
    """Raise `UsageError` for a condition on the numbers of rows that are, in the manifest, the ids of other jobs."""
    numbers = re.findall(r"\d+", " ".join(ID_AS_NUMBER.findall(sql))) if "select" not in sql.lower() else []
    of_number = (jobs.c.key.in_(numbers), cast(jobs.c.id, Text) != jobs.c.key)
    meant = connection.execute(select(jobs.c.key).where(jobs.c.batch_id == batch_id, *of_number).limit(1)).scalar()
    if meant is not None:
        raise UsageError(
            f"--where: id is the number of a row, and that of the job {meant} is another: write key = '{meant}',"
            f" or jobs.id where the number of a row is meant: {sql}"
        )


def rows_where(connection: Connection, batch_id: int, statement: Select[Any], sql: str) -> Sequence[Row[Any]]:
    """The rows of `jobs` that meet a condition. Raises `UsageError`, also in place of the database's errors."""
    refuse_row_numbers(connection, batch_id, sql)
    try:
        with reading_only(connection, QueryLimit(CONDITION_SECONDS)):
            rows = connection.execute(statement.where(text(condition(sql)))).all()
    except UnicodeEncodeError:
        raise UsageError("--where: the condition is not UTF-8") from None
    except SQLAlchemyError as error:
        reason = reason_of(error)
        reason = next((meaning for part, meaning in REASONS.items() if part in reason), reason)
        names = ", ".join(column.name for column in jobs.columns)
        raise UsageError(f"--where: {reason}\nThe columns of a job: {names}") from None
    # No job meets a condition that takes the number of a row for the job's id. In the views, id is a text.
    if not rows and ID_AS_TEXT.search(sql) and "select" not in sql.lower():
        raise UsageError(f"--where: {ID_IS_A_NUMBER}: {sql}")
    return rows
