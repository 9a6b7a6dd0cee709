"""Which jobs a run may send, and what asking for them costs a table of any size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

from batchgen.errors import UsageError
from batchgen.jobtable import ledger, selection, submission
from batchgen.jobtable.selection import Selection
from tests.table import Table, spec

ALL = Selection()


@pytest.fixture
def keys(table: Table) -> list[str]:
    named = [f"{style}-{number}" for style in ("noir", "pastel") for number in range(4)]
    table.sync(*(spec(key, priority=key == "pastel-3", duration=5 + 5 * key.startswith("noir")) for key in named))
    return named


def found(table: Table, **asked: object) -> list[str]:
    names = {row.id: row.key for row in table.rows()}
    wanted = replace(ALL, **asked)  # type: ignore[arg-type]
    return [names[each] for each in table.database.read_now(selection.find, table.batch_id, wanted)]


def test_each_part_narrows_what_the_others_leave(table: Table, keys: list[str]) -> None:
    assert set(found(table)) == set(keys)
    assert found(table, only=("noir-*",)) == ["noir-0", "noir-1", "noir-2", "noir-3"]
    assert found(table, only=("*-3", "noir-0")) == ["pastel-3", "noir-0", "noir-3"]
    assert found(table, limit=2) == ["pastel-3", "noir-0"]
    assert found(table, where="json_extract(request, '$.duration') = 10 AND key <> 'noir-2'", limit=2) == keys[:2]
    assert found(table, where="key LIKE '%(%' OR key = 'a:b' OR key = 'it''s'") == []


def test_a_sample_is_the_same_one_every_time_and_a_smaller_one_is_a_part_of_it(table: Table, keys: list[str]) -> None:
    five = found(table, sample=5)
    assert found(table, sample=5) == five
    assert set(found(table, sample=3)) < set(five)
    assert set(found(table, sample=100)) == set(keys)


def test_what_was_sent_keeps_its_place_so_that_a_limit_means_the_same_jobs(table: Table, keys: list[str]) -> None:
    table.intend(capacity=1)
    assert found(table, limit=2) == ["pastel-3", "noir-0"]
    table.cancel("noir-0")
    assert found(table, limit=2) == ["pastel-3", "noir-1"]


def test_only_what_is_marked_may_be_sent(table: Table, keys: list[str]) -> None:
    wanted = Selection(only=("noir-*",))
    table.change(selection.select_jobs, table.batch_id, wanted)
    ready = table.change(submission.ready, table.batch_id, table.now, 100, wanted.mark)
    assert len(ready) == 4
    assert table.database.read_now(selection.left_out, table.batch_id, wanted.mark) == 4
    assert len(table.change(submission.ready, table.batch_id, table.now, 100)) == 8
    table.cancel("noir-1")
    table.change(selection.select_jobs, table.batch_id, wanted)
    assert len(table.change(submission.ready, table.batch_id, table.now, 100, wanted.mark)) == 3
    assert [row.key for row in table.rows() if row.selection] == ["noir-0", "noir-2", "noir-3"]


@pytest.mark.parametrize("wrong", ["", " ", "nowhere = 1", "1) OR (1", "1;", "1 --", "1 /* */", "'", "(", "state ="])
def test_what_is_not_one_condition_is_refused(table: Table, keys: list[str], wrong: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        found(table, where=wrong)


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        (submission.READY, "ix_jobs_pending"),
        (submission.READY_SELECTED, "ix_jobs_selected"),
        (ledger.TOTALS, "INTEGER PRIMARY KEY"),
        (ledger.ENTRY, "INTEGER PRIMARY KEY"),
    ],
)
def test_a_claim_looks_up_and_never_scans(table: Table, asked: Select[tuple[object]], index: str) -> None:
    compiled = asked.compile(dialect=sqlite.dialect())
    assert compiled.positiontup is not None

    def explain(connection: Connection) -> list[str]:
        nothing = (None,) * len(compiled.positiontup or ())
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", nothing)]

    plan = table.database.read_now(explain)
    assert any(index in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], plan
