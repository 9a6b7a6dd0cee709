"""Which jobs a run may send: those that bear its selection's mark. What is paid for is collected, marked or not.

The mark is a digest of what was asked, so that the same command given again, or twice at once, means the same jobs.
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
from batchgen.jobtable.schema import jobs, tallies

CHUNK = 500
QUOTES = {"'": "'", '"': '"', "`": "`", "[": "]"}


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for: each part narrows what the ones before it leave."""

    only: tuple[str, ...] = ()
    """Patterns of ids, as a shell has them; any may fit."""
    where: str | None = None
    """An SQL condition on the columns of `jobs`."""
    sample: int | None = None
    """So many, by a hash of the id: the same ones every time."""
    limit: int | None = None
    """The first so many, in the order in which they would be sent."""

    @property
    def mark(self) -> str | None:
        """Its name on the rows; None where everything is selected."""
        return None if self == Selection() else hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def find(connection: Connection, batch_id: int, selection: Selection) -> list[int]:
    """The ids of the selected rows. Cancelled jobs are out of it all. Raises `UsageError` for a bad condition."""
    asked = select(jobs.c.id, jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.state != State.CANCELLED)
    if selection.where is not None:
        asked = asked.where(text(condition(selection.where)))
    try:
        found = [tuple(row) for row in connection.execute(asked.order_by(jobs.c.priority.desc(), jobs.c.id))]
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        names = ", ".join(column.name for column in jobs.columns)
        raise UsageError(f"--where: {reason}\nThe columns of a job: {names}") from None
    if selection.only:
        found = [(row, key) for row, key in found if any(fnmatchcase(key, pattern) for pattern in selection.only)]
    if selection.sample is not None:
        drawn = sorted(found, key=lambda each: hashlib.sha256(each[1].encode("utf-8", "replace")).digest())
        kept = set(drawn[: selection.sample])
        found = [each for each in found if each in kept]
    return [row for row, _ in found[: selection.limit]]


def mark(connection: Connection, selection: Selection, ids: Sequence[int]) -> None:
    """Put the selection's mark on these rows, and take it from all others."""
    name = selection.mark
    connection.execute(update(jobs).where(jobs.c.selection == name).values(selection=None))
    for start in range(0, len(ids), CHUNK):
        piece = ids[start : start + CHUNK]
        connection.execute(update(jobs).where(jobs.c.id.in_(piece)).values(selection=name))


def select_jobs(connection: Connection, batch_id: int, selection: Selection) -> None:
    """Mark what is selected, as the table stands now. Nothing is marked where everything is."""
    if selection.mark:
        mark(connection, selection, find(connection, batch_id, selection))


def left_out(connection: Connection, batch_id: int, name: str | None) -> int:
    """How many pending jobs of the batch bear no mark of this selection."""
    if name is None:
        return 0
    pending = select(tallies.c.jobs).where(tallies.c.batch_id == batch_id, tallies.c.state == State.PENDING)
    of_batch = (jobs.c.batch_id == batch_id, jobs.c.state == State.PENDING)
    marked = select(func.count()).where(*of_batch, jobs.c.selection == name)
    return int(connection.execute(pending).scalar_one() - connection.execute(marked).scalar_one())


def condition(given: str) -> str:
    """`given` as one condition in brackets, whatever it holds. Raises `UsageError` where it would break out of them."""
    depth, closing = 0, ""
    for sign, following in pairwise(f"{given} "):
        if closing:
            closing = "" if sign == closing else closing
        elif sign in QUOTES:
            closing = QUOTES[sign]
        elif sign == ";" or sign + following in ("--", "/*"):
            raise UsageError(
                f"--where takes one condition, without {sign if sign == ';' else sign + following}: {given}"
            )
        else:
            depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
    if depth or closing or not given.strip():
        raise UsageError(f"--where: the brackets or quotes do not match, or nothing is there: {given}")
    return f"({given})".replace(":", "\\:")
