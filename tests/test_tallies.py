"""The counts that the database keeps are those that counting would give, whoever writes and however."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from sqlalchemy import Connection, func, select, text

from batchgen.jobs import State
from batchgen.jobtable.database import Database
from batchgen.jobtable.engine import database_url, make_engine
from batchgen.jobtable.migrations import migrate
from batchgen.jobtable.schema import jobs, tallies
from tests.table import Table, spec
from tests.test_migrations import with_a_job

Kept = dict[tuple[int, str], tuple[int, int]]

BY_HAND = [
    pytest.param("UPDATE jobs SET state = 'pending', delivered_at = NULL, generation_id = NULL", id="all made pending"),
    pytest.param("UPDATE jobs SET bytes = 5", id="sizes set"),
    pytest.param("UPDATE jobs SET bytes = NULL WHERE state <> 'done'", id="sizes taken away"),
    pytest.param("UPDATE jobs SET batch_id = 2", id="given to another batch"),
    pytest.param("UPDATE jobs SET priority = 3", id="something else"),
    pytest.param("DELETE FROM jobs", id="deleted"),
]
SECOND = (
    "INSERT INTO batches (id, name, service, manifest_path, manifest_sha256, created_at, enrolled_at, spent, reserved,"
    " unpriced) SELECT 2, 'second', service, manifest_path, manifest_sha256, created_at, enrolled_at, 0, 0, 0"
    " FROM batches"
)


def kept(connection: Connection) -> Kept:
    """What the database says."""
    return {(row.batch_id, row.state): (row.jobs, row.bytes) for row in connection.execute(select(tallies)) if row.jobs}


def counted(connection: Connection) -> Kept:
    """What is so."""
    size = func.coalesce(func.sum(jobs.c.bytes), 0)
    asked = select(jobs.c.batch_id, jobs.c.state, func.count(), size).group_by(jobs.c.batch_id, jobs.c.state)
    return {(batch, state): (number, int(found)) for batch, state, number, found in connection.execute(asked)}


def by_hand(table: Table, orders: Iterable[str]) -> None:
    """What somebody types who has a tool for databases, past all of our code."""
    with table.database.engine.begin() as connection:
        for order in orders:
            connection.execute(text(order))


def agree(table: Table) -> Kept:
    found = table.database.read_now(counted)
    assert table.database.read_now(kept) == found
    return found


def test_every_way_of_a_job_is_counted(table: Table) -> None:
    for state in (State.DONE, State.DOWNLOADING, State.GENERATING, State.FAILED, State.UNCONFIRMED, State.CANCELLED):
        table.bring(state, f"is-{state}")
        agree(table)
    table.sync(*(spec(f"n{number}") for number in range(2_500)))
    assert agree(table)[table.batch_id, "pending"] == (2_500, 0)


@pytest.mark.parametrize("order", BY_HAND)
def test_what_a_person_does_by_hand_is_counted(table: Table, order: str) -> None:
    for state in (State.DONE, State.FAILED, State.PENDING):
        table.bring(state, f"is-{state}")
    if "delivered" in order or "DELETE" in order:
        by_hand(table, ["DELETE FROM events", "DELETE FROM attempts", "DELETE FROM jobs WHERE state = 'failed'"])
    by_hand(table, [SECOND, order])
    agree(table)


def test_a_batch_that_is_deleted_leaves_no_counts(table: Table) -> None:
    by_hand(table, ["DELETE FROM batches"])
    assert table.database.read_now(lambda connection: connection.execute(select(tallies)).all()) == []


def test_a_table_from_before_is_counted_as_it_is_brought_up(table: Table) -> None:
    place = table.folder / "old.db"
    engine = make_engine(database_url(place), writing=True)
    with engine.begin() as connection:
        migrate(connection, "0001")
        with_a_job(connection)
    engine.dispose()
    with Database(place) as database:
        assert database.read_now(kept) == database.read_now(counted) == {(1, "pending"): (1, 0)}
