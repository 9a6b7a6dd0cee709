"""Batches that move to another job table. Two tables with the same unsent jobs would buy them twice.

So a batch is marked before it is copied, and no run works on it there from then on. Both tables have a row of the move,
with the same id: it shows `copying.py` how far a copy that was broken off has come.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.errors import UsageError
from batchgen.jobtable.schema import batches, moves
from batchgen.services.text import shell_word


@dataclass(frozen=True, slots=True)
class Departure:
    """One copy of batches to another table, as the table that they leave has it."""

    id: str
    place: str
    """Path or URL of the other table, without a password."""
    began_at: datetime
    moved_at: datetime | None
    """When the copy was complete; None while it is underway."""
    names: dict[int, str] = field(default_factory=dict)
    """The batches, by row id."""


def departures(connection: Connection) -> list[Departure]:
    """The moves of batches that go, or have gone, to other tables."""
    by_id: dict[str, Departure] = {}
    for row in connection.execute(DEPARTURES):
        move = by_id.setdefault(row.id, Departure(row.id, row.goes_to, row.began_at, row.moved_at))
        move.names[row.batch_id] = row.name
    return list(by_id.values())


def departure_of(connection: Connection, batch_id: int) -> Departure | None:
    """The move that takes a batch away; None for a batch that is at home here."""
    row = connection.execute(DEPARTURE, {"in_batch": batch_id}).first()
    return row and Departure(row.id, row.goes_to, row.began_at, row.moved_at, {batch_id: row.name})


def refuse_moved(connection: Connection, batch_id: int) -> None:
    """Raise `UsageError` if a batch was moved to another table, or is being moved.

    Whatever sends or changes jobs calls it in its own transaction.
    """
    move = departure_of(connection, batch_id)
    if move is None:
        return
    name = move.names[batch_id]
    if move.moved_at is None:
        raise UsageError(
            f"{name}: this batch is being moved to {move.place} since {move.began_at:%Y-%m-%d %H:%M} UTC. Type the same"
            " `batchgen db copy` again, which goes on; or the same with --abort, after which the batch runs here again"
        )
    raise UsageError(
        f"{name}: this batch was moved to {move.place} on {move.moved_at:%Y-%m-%d}. Run it there, with --db or"
        " BATCHGEN_DB: a run on this table would pay for the same jobs again."
        f" `batchgen db copy {shell_word(move.place)} NEW-FILE` brings it back"
    )


def record(connection: Connection, /, move: str, batch_ids: Collection[int], **values: Any) -> None:
    """Record that batches go to another table; in that one, in the transaction that brings the rows, where they came
    from."""
    connection.execute(insert(moves), [{"id": move, "batch_id": batch_id, **values} for batch_id in batch_ids])


def underway(connection: Connection) -> Departure | None:
    """The move that has begun, and was neither completed nor given back: there is one at a time."""
    return next((move for move in departures(connection) if move.moved_at is None), None)


def end(connection: Connection, /, move: str, **ended_at: datetime) -> None:
    """A move that is underway is complete (`moved_at`), or lets its batches run here again (`given_back_at`)."""
    is_underway = (moves.c.id == move, IS_AWAY, moves.c.moved_at.is_(None))
    connection.execute(update(moves).where(*is_underway).values(**ended_at))


def has_arrived(connection: Connection, move: str) -> bool:
    """Whether a table has the rows of a move. They come all at once, or not at all."""
    arrived = select(moves.c.id).where(moves.c.id == move, moves.c.came_from.is_not(None))
    return connection.execute(arrived).first() is not None


IS_AWAY = moves.c.goes_to.is_not(None) & moves.c.given_back_at.is_(None)
_departures = (
    select(moves.c.id, moves.c.batch_id, moves.c.goes_to, moves.c.began_at, moves.c.moved_at, batches.c.name)
    .join_from(moves, batches)
    .where(IS_AWAY)
)
DEPARTURES = _departures.order_by(moves.c.began_at, moves.c.batch_id)
DEPARTURE = _departures.where(moves.c.batch_id == bindparam("in_batch"))
