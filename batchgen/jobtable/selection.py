"""Which jobs a run may send: those with its selection's mark. A job that was sent is collected with or without one.

The mark is a digest of the selection, so that the same command, run again or twice at once, selects the same jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable.schema import jobs

CHUNK = 500
"""Ids in one statement: below the least number of parameters that any SQLite allows (999)."""
QUOTES = {"'": "'", '"': '"', "`": "`", "[": "]"}
"""The characters that begin a quoted part of SQL, with those that end it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The options of a run that select jobs, applied in this order."""

    only: tuple[str, ...] = ()
    """Shell patterns of ids, of which one must match."""
    where: str | None = None
    """An SQL condition on the columns of `jobs`."""
    sample: int | None = None
    """This many, by a hash of the id: the same ones every time."""
    limit: int | None = None
    """The first so many, in the order in which they would be sent."""

    @property
    def mark(self) -> str | None:
        """The value of the column `selection`; None where everything is selected."""
        return None if self == Selection() else hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def find(connection: Connection, batch_id: int, selection: Selection) -> list[int]:
    """The ids of the selected rows, none of them cancelled. Raises `UsageError` for a bad condition."""
    statement = select(jobs.c.id, jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.state != State.CANCELLED)
    if selection.where is not None:
        statement = statement.where(text(condition(selection.where)))
    try:
        rows = connection.execute(statement.order_by(jobs.c.priority.desc(), jobs.c.id)).all()
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        names = ", ".join(column.name for column in jobs.columns)
        raise UsageError(f"--where: {reason}\nThe columns of a job: {names}") from None
    if selection.only:
        rows = [row for row in rows if any(fnmatchcase(row.key, pattern) for pattern in selection.only)]
    if selection.sample is not None:
        shuffled = sorted(rows, key=lambda row: hashlib.sha256(row.key.encode("utf-8", "replace")).digest())
        sample = {row.id for row in shuffled[: selection.sample]}
        rows = [row for row in rows if row.id in sample]
    return [row.id for row in rows[: selection.limit]]


def mark(connection: Connection, selection: Selection, ids: Sequence[int]) -> None:
    """Set the selection's mark on these rows, and clear it on all others."""
    name = selection.mark
    connection.execute(update(jobs).where(jobs.c.selection == name).values(selection=None))
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        connection.execute(update(jobs).where(jobs.c.id.in_(chunk)).values(selection=name))


def select_jobs(connection: Connection, batch_id: int, selection: Selection) -> None:
    """Mark the jobs that are selected as the table stands now. A selection of everything needs no mark."""
    if selection.mark:
        mark(connection, selection, find(connection, batch_id, selection))


def left_out(connection: Connection, batch_id: int, name: str | None) -> int:
    """How many pending jobs of the batch do not have the mark `name`."""
    if name is None:
        return 0
    pending = select(func.count()).where(jobs.c.batch_id == batch_id, jobs.c.state == State.PENDING)
    marked = pending.where(jobs.c.selection == name)
    return int(connection.execute(pending).scalar_one() - connection.execute(marked).scalar_one())


def condition(sql: str) -> str:
    """`sql` as one condition in brackets. Raises `UsageError` where it could end the brackets or the statement."""
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
