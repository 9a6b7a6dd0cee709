"""Every statement that a run repeats uses an index, so that its cost does not grow with the table."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Connection

from batchgen.jobs import State
from tests.hot_queries import HOT_QUERIES, SORTED, statements
from tests.table import Table

GROWING = "jobs|attempts|outputs|events"
"""Tables that grow without bound."""
COUNTING = "COVERING INDEX ix_jobs_due"
FEW = "ix_(attempts_uncharged|outputs_(remarked|unmeasured|suspect))"
WHOLE = re.compile(rf"SCAN ({GROWING})(?! USING INDEX {FEW})|SEARCH jobs USING (?!{COUNTING}).*\(batch_id=\?\)$")
"""Plans that read a whole table, or all rows of a batch. Uncharged attempts, and files with a remark, have an index of
their own; the counts by state read one entry of an index for each job, and no row."""
SORTING = "TEMP B-TREE"


@pytest.fixture
def filled(table: Table) -> Table:
    """A job in every state. The later states come first, so that no step claims another state's job."""
    for state in (State.DONE, State.DOWNLOADING, State.GENERATING, State.FAILED, State.UNCONFIRMED, State.PENDING):
        table.bring(state, f"is-{state}")
    return table


@pytest.mark.parametrize("name", HOT_QUERIES)
def test_a_repeated_statement_uses_an_index(filled: Table, name: str) -> None:
    def plans(connection: Connection) -> list[tuple[str, list[str]]]:
        executed = statements(connection, filled.batch_id, HOT_QUERIES[name])
        ask = connection.exec_driver_sql
        return [(sql, [row.detail for row in ask(f"EXPLAIN QUERY PLAN {sql}", params)]) for sql, params in executed]

    for sql, plan in filled.change(plans):
        assert plan, sql
        assert not [line for line in plan if WHOLE.search(line)], f"{sql}\n{plan}"
        assert name in SORTED or not [line for line in plan if SORTING in line], f"{sql}\n{plan}"
