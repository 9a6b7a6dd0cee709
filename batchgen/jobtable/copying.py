"""Copies batches to another job table, SQLite or PostgreSQL: marked as moving here, copied, verified, marked as moved.

All rows come in one transaction of the other table, which is verified before it is committed. So a copy that was broken
off at any moment has left everything there or nothing, and the same command goes on. At no moment can both tables run
the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Table, select
from sqlalchemy.engine import URL

from batchgen.errors import BatchgenError, StorageError, UsageError
from batchgen.files import liveness
from batchgen.jobtable import moves, row_copy, run_lock
from batchgen.jobtable.batches import stored_batches, table_exists
from batchgen.jobtable.database import Database, errors_for_people
from batchgen.jobtable.engine import SECRETS, database_url, make_engine, path_of
from batchgen.jobtable.moves import Departure
from batchgen.jobtable.row_copy import ACCOUNT_TABLES, BATCH_TABLES, BatchIds, Digest, Keys
from batchgen.jobtable.run_lock import Owner
from batchgen.jobtable.schema import batches, runs

SILENT = timedelta(minutes=5)
"""After which a run that cannot be judged from this machine counts as dead: its leases have ended by then."""


@dataclass(frozen=True, slots=True)
class TableCopy:
    """The batches that are in another table now, by name, and the digest of what was copied of each table."""

    batches: list[str]
    place: str
    digests: dict[str, Digest] = field(default_factory=dict)
    """Empty where an earlier command had copied the rows already."""


def place_of(url: URL) -> str:
    """A database as it is stored and compared: its real path, or its URL without driver, password and keys."""
    if path := path_of(url):
        return str(path.resolve())
    query = url.difference_update_query(SECRETS).query
    plain = URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database, query)
    return plain.render_as_string()


def copy(
    source: Database, location: str | Path, name: str | None, now: datetime, on_table: Callable[[str, Digest], None]
) -> TableCopy:
    """Move a batch, or all batches, to the job table at `location`, which is made if there is none.

    An earlier copy that was broken off goes on. Raises `UsageError` where a batch cannot be copied, or a run is at work
    on it; `StorageError` where a table cannot be used. After an error the batches run in `source` again.
    """
    place = place_of(database_url(location))
    if place == place_of(source.url):
        raise UsageError(f"{place}: FROM and TO are the same database")
    move = source.read_now(choose, name, place, now)
    if move.moved_at:
        return TableCopy(list(move.names.values()), place)
    dead = dead_runs(source, move, now)
    source.read_now(refuse_runs, move, dead)
    with Database(location) as target:
        target.read_now(refuse_present, move)
        refuse_other_place(target, move, place)
        source.write_now(mark, move, dead, now)
        try:
            digests = source.read_now(transfer, source, target, move, now, on_table)
        except Exception:
            with suppress(BatchgenError):
                target.write_now(take_back, source, move, now)
            raise
        source.write_now(moves.end, move.id, moved_at=now)
    return TableCopy(list(move.names.values()), place, digests)


def abort(source: Database, location: str | Path, now: datetime) -> list[str]:
    """Give up a copy that was broken off, so that the batches run in `source` again. Returns their names.

    Raises `UsageError` where there is none, or where the other table has all of it already.
    """
    place = place_of(database_url(location))
    move = source.read_now(moves.underway)
    if move is None:
        raise UsageError(f"{place_of(source.url)}: no copy of its batches is underway, so there is none to give up")
    if not table_exists(location):
        raise UsageError(
            f"{place}: there is no job table, and it may have had the whole copy. Put it back; or finish the copy: the"
            " same command without --abort"
        )
    with Database(location) as target:
        refuse_other_place(target, move, place)
        target.write_now(take_back, source, move, now)
    return list(move.names.values())


def choose(connection: Connection, name: str | None, place: str, now: datetime) -> Departure:
    """The move to make: one that is underway, else a new one of this batch or of all that are here."""
    stored = {batch.id: batch.name for batch in stored_batches(connection)}
    if name is not None and name not in stored.values():
        names = ", ".join(stored.values()) or "none"
        raise UsageError(f"there is no batch {name!r} in FROM, whose batches are: {names}")
    if not stored:
        raise UsageError("there is no batch in FROM yet, so there is nothing to copy")
    if move := moves.underway(connection):
        if name in (None, *move.names.values()):
            return move
        raise another_underway(move)
    gone = {batch_id: move for move in moves.departures(connection) for batch_id in move.names}
    chosen = {batch_id: stored[batch_id] for batch_id in stored if name in (None, stored[batch_id])}
    here = {batch_id: chosen[batch_id] for batch_id in chosen if batch_id not in gone}
    if not here:
        for batch_id in chosen:
            if gone[batch_id].place != place:
                moves.refuse_moved(connection, batch_id)
        first = gone[next(iter(chosen))]
        return Departure(first.id, place, first.began_at, first.moved_at, chosen)
    if len(here) < len(stored) and (table := row_copy.entangled_table(connection, here)):
        raise UsageError(
            f"{', '.join(here.values())}: the table {table} has rows that belong to another batch as well, because a"
            " job was taken over from one batch by the other. Copy all batches: leave out --batch"
        )
    return Departure(uuid4().hex[:12], place, now, None, here)


def another_underway(move: Departure) -> UsageError:
    """Why no other batches are moved before this move has ended."""
    names = ", ".join(move.names.values())
    return UsageError(f"a copy of {names} to {move.place} is underway. Finish it first, or give it up with --abort")


def dead_runs(source: Database, move: Departure, now: datetime) -> set[str]:
    """The runs on the batches of a move that have not recorded their end, and are certainly not at work any more.

    A run that nobody can judge from this machine counts as dead when its leases have ended.
    """
    rows = source.read_now(unended_runs, move)
    dead = run_lock.dead_runs(source, {row.id: Owner(row.host, row.pid, row.holds_lock) for row in rows})
    is_judged = {row.id for row in rows if (row.host == liveness.host_name() if source.path else row.holds_lock)}
    return {row.id for row in rows if row.id in dead or (row.id not in is_judged and row.seen_at <= now - SILENT)}


def unended_runs(connection: Connection, move: Departure) -> list[Row[Any]]:
    """The runs on the batches of a move that have not recorded their end."""
    own = runs.c.batch_id.in_(move.names), runs.c.ended_at.is_(None)
    return list(connection.execute(select(runs).where(*own).order_by(runs.c.started_at)))


def refuse_runs(connection: Connection, move: Departure, dead: Collection[str]) -> None:
    """Raise `UsageError` if a run is at work on a batch of a move."""
    for row in unended_runs(connection, move):
        if row.id not in dead:
            raise UsageError(
                f"{move.names[row.batch_id]}: a run is at work on it (process {row.pid} on {row.host}, since"
                f" {row.started_at:%Y-%m-%d %H:%M} UTC). End it with Ctrl-C, then copy. Nothing has been changed"
            )


def refuse_present(connection: Connection, move: Departure) -> None:
    """Raise `UsageError` if the other table has a batch of the same name that did not come with this move."""
    if moves.has_arrived(connection, move.id):
        return
    names = list(move.names.values())
    for row in connection.execute(select(batches.c.id, batches.c.name).where(batches.c.name.in_(names))):
        left = moves.departure_of(connection, row.id)
        reason = f", which was moved from there to {left.place}" if left else ""
        raise UsageError(
            f"TO has a batch {row.name!r} already{reason}. A copy adds whole batches and changes none: choose another"
            " TO, such as a new file. Nothing has been changed"
        )


def refuse_other_place(target: Database, move: Departure, place: str) -> None:
    """Raise `UsageError` if a copy that is underway goes to another table, which may have all of it already."""
    if move.place != place and not target.read_now(moves.has_arrived, move.id):
        raise UsageError(
            f"{', '.join(move.names.values())}: a copy to {move.place} is underway, and that is not {place}. Name the"
            " former as TO: to finish it, or to give it up with --abort"
        )


def mark(connection: Connection, move: Departure, dead: Collection[str], now: datetime) -> None:
    """Mark the batches as being moved, unless an earlier command did so. No run works on them from now on."""
    current = moves.underway(connection)
    if current and current.id == move.id:
        return
    for batch_id in move.names:
        moves.refuse_moved(connection, batch_id)
    if current:
        raise another_underway(current)
    refuse_runs(connection, move, dead)
    moves.record(connection, move.id, move.names, goes_to=move.place, began_at=now)


def transfer(
    reading: Connection,
    source: Database,
    target: Database,
    move: Departure,
    now: datetime,
    on_table: Callable[[str, Digest], None],
) -> dict[str, Digest]:
    """Bring the rows of a move into the other table, in one transaction of each."""
    # SQLite does not check references on the way: each new attempt would look for its job among all jobs.
    engine = make_engine(target.url, writing=True, foreign_keys=False)

    def run() -> dict[str, Digest]:
        with engine.begin() as connection:
            return bring(connection, reading, source, move, now, on_table)

    try:
        with errors_for_people(target.url):
            return target.lock.wait_for(run)
    finally:
        engine.dispose()


def bring(
    connection: Connection,
    reading: Connection,
    source: Database,
    move: Departure,
    now: datetime,
    on_table: Callable[[str, Digest], None],
) -> dict[str, Digest]:
    """Insert and verify the rows of a move. Empty if an earlier command brought them all."""
    if moves.has_arrived(connection, move.id):
        return {}
    refuse_present(connection, move)
    row_copy.prepare(connection)
    copier = RowCopier(source, reading, connection, on_table)
    new_ids = [batch_id + copier.last["batches"] for batch_id in move.names]
    left = None if len(move.names) == len(stored_batches(reading)) else move.names
    entered = new_ids if copier.last["batches"] else None
    for table in BATCH_TABLES:
        copier.copy(table, left, entered)
    for table in ACCOUNT_TABLES:
        copier.copy(table, present={tuple(row) for row in connection.execute(select(*table.primary_key))})
    row_copy.finish(connection)
    moves.record(connection, move.id, new_ids, came_from=place_of(source.url), began_at=now, moved_at=now)
    current = source.write_now(moves.underway)
    if current is None or current.id != move.id:
        raise UsageError("the copy was given up by another command meanwhile. Nothing has been copied")
    return copier.digests


class RowCopier:
    """Copies tables from one connection to another, and reads back what was copied."""

    def __init__(
        self, source: Database, reading: Connection, target: Connection, on_table: Callable[[str, Digest], None]
    ) -> None:
        self.source, self.reading, self.target, self.on_table = source, reading, target, on_table
        self.last = row_copy.last_ids(target)
        """The greatest ids that were in the target before."""
        self.digests: dict[str, Digest] = {}

    def copy(self, table: Table, left: BatchIds = None, entered: BatchIds = None, present: Keys = ()) -> None:
        """Copy the rows of a table that are not `present` in the target; with `left`, of these batches only, whose ids
        are `entered` in the target. Raises `StorageError` where they differ after that."""
        copied = row_copy.copy_rows(self.pages(table, left, present), self.target, table, self.last)
        self.digests[table.name] = copied
        self.on_table(table.name, copied)
        if str(row_copy.digest(self.target, table, entered, present)) != str(copied):
            raise StorageError(
                f"{table.name}: the rows differ after they were copied, so nothing was kept. This is a defect of"
                " batchgen, or of a database"
            )

    def pages(self, table: Table, batch_ids: BatchIds, present: Keys) -> Iterator[list[Row[Any]]]:
        with errors_for_people(self.source.url):
            yield from row_copy.read_rows(self.reading, table, batch_ids, present)


def take_back(connection: Connection, source: Database, move: Departure, now: datetime) -> None:
    """Let the batches run in `source` again, unless the other table has them.

    `connection` holds the lock of the other table, so that no copy ends meanwhile.
    """
    if moves.has_arrived(connection, move.id):
        raise UsageError(
            f"{', '.join(move.names.values())}: {move.place} has the whole copy, and may run it. Finish the copy: the"
            " same command without --abort"
        )
    source.write_now(moves.end, move.id, given_back_at=now)
