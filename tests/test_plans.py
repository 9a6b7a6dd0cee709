"""Every statement that a run repeats uses an index, so that its cost does not grow with the table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection

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


def test_a_repeated_statement_uses_an_index(table: Table) -> None:
    """Each query is tried on the same rows: its changes are rolled back."""
    table.bring_one_of_each()

    def plans(connection: Connection) -> Iterator[tuple[str, str, list[str]]]:
        ask = connection.exec_driver_sql
        for name, query in HOT_QUERIES.items():
            for sql, params in statements(connection, table.batch_id, query):
                yield name, sql, [row.detail for row in ask(f"EXPLAIN QUERY PLAN {sql}", params)]

    before = table.everything()
    offences = [
        (name, sql, plan)
        for name, sql, plan in table.change(lambda connection: list(plans(connection)))
        if not plan
        or any(WHOLE.search(line) for line in plan)
        or (name not in SORTED and any(SORTING in line for line in plan))
    ]
    assert not offences
    assert table.everything() == before
