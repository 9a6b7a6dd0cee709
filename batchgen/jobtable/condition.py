"""An SQL condition that a person writes: it may read, and only for so long.

It is evaluated on a connection that cannot write. Beyond that, the database itself is asked to refuse all but reading
(SQLite: an authorizer and a progress handler; PostgreSQL: a time-out of the statement).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from batchgen.errors import UsageError
from batchgen.jobtable.schema import jobs

QUOTES = {"'": "'", '"': '"', "`": "`", "[": "]"}
"""The characters that begin a quoted part of SQL, with those that end it."""
CONDITION_CHARS = 10_000  # of a condition: a list of some hundred ids fits
STEP_INSTRUCTIONS = 100_000  # of SQLite between two calls of the progress handler: some milliseconds
STEPS_MAX = 600  # a second or two; a million jobs with a condition on their JSON take half of it
TIMEOUT_MS = 5_000  # of the statement in PostgreSQL
TEXT_BYTES = 20_000_000  # of one value in the condition: the largest request, and far from filling the memory
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
REFUSED_FUNCTIONS = {"load_extension", "fts3_tokenizer", "writefile", "edit"}
REASONS = {
    "interrupted": "it takes too long and was stopped",
    "statement timeout": "it takes too long and was stopped",
    "not authorized": "it may only read: no WITH RECURSIVE, no PRAGMA, no extensions",
    "prohibited": "it may only read: no WITH RECURSIVE, no PRAGMA, no extensions",
    "too big": "a text in it becomes too long",
}
"""Parts of a database's message, with what they mean to a person."""


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


@contextmanager
def bounded(connection: Connection) -> Iterator[None]:
    """Bound what a condition may do while it is evaluated. Raises `UsageError` in place of the database's errors."""
    try:
        with bounded_sqlite(connection) if connection.dialect.name == "sqlite" else bounded_postgres(connection):
            yield
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        reason = next((meaning for part, meaning in REASONS.items() if part in reason), reason)
        names = ", ".join(column.name for column in jobs.columns)
        raise UsageError(f"--where: {reason}\nThe columns of a job: {names}") from None


@contextmanager
def bounded_sqlite(connection: Connection) -> Iterator[None]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    steps = 0

    def is_over() -> bool:
        nonlocal steps
        steps += 1
        return steps > STEPS_MAX

    longest = driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TEXT_BYTES)
    driver.set_authorizer(authorize)
    driver.set_progress_handler(is_over, STEP_INSTRUCTIONS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
        driver.set_authorizer(None)
        driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)


def authorize(action: int, _table: str | None, name: str | None, _database: str | None, _by: str | None) -> int:
    """SQLite's question whether a statement may do something; of a function, `name` is its name."""
    refused = action == sqlite3.SQLITE_FUNCTION and str(name).lower() in REFUSED_FUNCTIONS
    return sqlite3.SQLITE_OK if action in READING and not refused else sqlite3.SQLITE_DENY


@contextmanager
def bounded_postgres(connection: Connection) -> Iterator[None]:
    connection.execute(text(f"SET LOCAL statement_timeout = {TIMEOUT_MS}"))
    yield
    connection.execute(text("SET LOCAL statement_timeout = 0"))
