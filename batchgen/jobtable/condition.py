"""An SQL condition that a person writes for `--where`: it may read, and only for so long (see `query.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise

from sqlalchemy import Connection, Text, cast, select
from sqlalchemy.exc import SQLAlchemyError

from batchgen.errors import UsageError
from batchgen.jobtable.query import reading_only, reason_of
from batchgen.jobtable.schema import jobs

QUOTES = {"'": "'", '"': '"', "`": "`", "[": "]"}
"""The characters that begin a quoted part of SQL, with those that end it."""
CONDITION_CHARS = 10_000  # of a condition: a list of some hundred ids fits
STEPS_MAX = 600  # of SQLite: a second or two; a million jobs with a condition on their JSON take half of it
TIMEOUT_SECONDS = 5  # of the statement in PostgreSQL
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


def refuse_id_as_text(sql: str) -> None:
    """Raise `UsageError` for a condition that no job meets, because it takes the number of a row for the job's id."""
    if ID_AS_TEXT.search(sql) and "select" not in sql.lower():  # in the views that it may read, id is a text
        raise UsageError(f"--where: {ID_IS_A_NUMBER}: {sql}")


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


@contextmanager
def bounded(connection: Connection) -> Iterator[None]:
    """Bound what a condition may do while it is evaluated. Raises `UsageError` in place of the database's errors."""
    steps = count()
    try:
        with reading_only(connection, lambda: next(steps) > STEPS_MAX, TIMEOUT_SECONDS):
            yield
    except UnicodeEncodeError:
        raise UsageError("--where: the condition is not UTF-8") from None
    except SQLAlchemyError as error:
        reason = reason_of(error)
        reason = next((meaning for part, meaning in REASONS.items() if part in reason), reason)
        names = ", ".join(column.name for column in jobs.columns)
        raise UsageError(f"--where: {reason}\nThe columns of a job: {names}") from None
