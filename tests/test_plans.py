"""A million rows cost what a thousand cost: every statement that a run repeats goes by an index to what it wants."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Connection

from batchgen.jobs import State
from tests.hot import HOT, Hot, statements
from tests.table import Table

GROWING = "jobs|attempts|events"
"""Tables that a long life makes long."""
COUNTING = "COVERING INDEX ix_jobs_due"
WHOLE = re.compile(
    rf"SCAN ({GROWING})(?! USING INDEX ix_attempts_uncharged)|SEARCH jobs USING (?!{COUNTING}).*\(batch_id=\?\)$"
)
"""A table, or all of a batch, is read from end to end. Uncharged attempts have an index of their own; the counts by
state read one entry of an index for each job, and no row."""
SORTED = "TEMP B-TREE"


@pytest.fixture
def peopled(table: Table) -> Table:
    """A job in every state, those that come later first, so that each finds its own."""
    for state in (State.DONE, State.DOWNLOADING, State.GENERATING, State.FAILED, State.UNCONFIRMED, State.PENDING):
        table.bring(state, f"is-{state}")
    return table


@pytest.mark.parametrize("hot", HOT.values(), ids=HOT)
def test_what_a_run_repeats_goes_by_an_index(peopled: Table, hot: Hot) -> None:
    def plans(connection: Connection) -> list[tuple[str, list[str]]]:
        said = statements(connection, peopled.batch_id, hot)
        ask = connection.exec_driver_sql
        return [(sql, [row.detail for row in ask(f"EXPLAIN QUERY PLAN {sql}", given)]) for sql, given in said]

    for sql, plan in peopled.change(plans):
        assert plan, sql
        assert not [line for line in plan if WHOLE.search(line) or SORTED in line], f"{sql}\n{plan}"
