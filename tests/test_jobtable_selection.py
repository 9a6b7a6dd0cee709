"""Which jobs a run may send, and that the queries for them use an index."""

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


def selected(table: Table, **options: object) -> list[str]:
    names = {row.id: row.key for row in table.rows()}
    selection_ = replace(ALL, **options)  # type: ignore[arg-type]
    return [names[id_] for id_ in table.database.read_now(selection.find, table.batch_id, selection_)]


def test_each_option_narrows_the_selection(table: Table, keys: list[str]) -> None:
    assert set(selected(table)) == set(keys)
    assert selected(table, only=("noir-*",)) == ["noir-0", "noir-1", "noir-2", "noir-3"]
    assert selected(table, only=("*-3", "noir-0")) == ["pastel-3", "noir-0", "noir-3"]
    assert selected(table, limit=2) == ["pastel-3", "noir-0"]
    assert selected(table, where="json_extract(request, '$.duration') = 10 AND key <> 'noir-2'", limit=2) == keys[:2]
    assert selected(table, where="key LIKE '%(%' OR key = 'a:b' OR key = 'it''s'") == []


def test_a_sample_is_repeatable_and_contains_every_smaller_sample(table: Table, keys: list[str]) -> None:
    five = selected(table, sample=5)
    assert selected(table, sample=5) == five
    assert set(selected(table, sample=3)) < set(five)
    assert set(selected(table, sample=100)) == set(keys)


def test_a_limit_selects_the_same_jobs_after_some_were_sent(table: Table, keys: list[str]) -> None:
    table.intend(capacity=1)
    assert selected(table, limit=2) == ["pastel-3", "noir-0"]
    table.cancel("noir-0")
    assert selected(table, limit=2) == ["pastel-3", "noir-1"]


def test_only_marked_jobs_may_be_sent(table: Table, keys: list[str]) -> None:
    noir = Selection(only=("noir-*",))
    table.change(selection.select_jobs, table.batch_id, noir)
    ready = table.change(submission.ready, table.batch_id, table.now, 100, noir.mark)
    assert len(ready) == 4
    assert table.database.read_now(selection.left_out, table.batch_id, noir.mark) == 4
    assert len(table.change(submission.ready, table.batch_id, table.now, 100)) == 8
    table.cancel("noir-1")
    table.change(selection.select_jobs, table.batch_id, noir)
    assert len(table.change(submission.ready, table.batch_id, table.now, 100, noir.mark)) == 3
    assert [row.key for row in table.rows() if row.selection] == ["noir-0", "noir-2", "noir-3"]


@pytest.mark.parametrize("wrong", ["", " ", "nowhere = 1", "1) OR (1", "1;", "1 --", "1 /* */", "'", "(", "state ="])
def test_anything_but_one_condition_is_refused(table: Table, keys: list[str], wrong: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        selected(table, where=wrong)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (submission.READY, "ix_jobs_pending"),
        (submission.READY_SELECTED, "ix_jobs_selected"),
        (ledger.TOTALS, "INTEGER PRIMARY KEY"),
        (ledger.ENTRY, "INTEGER PRIMARY KEY"),
    ],
)
def test_a_claim_searches_an_index_and_never_scans(table: Table, statement: Select[tuple[object]], index: str) -> None:
    compiled = statement.compile(dialect=sqlite.dialect())
    assert compiled.positiontup is not None

    def explain(connection: Connection) -> list[str]:
        nothing = (None,) * len(compiled.positiontup or ())
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", nothing)]

    plan = table.database.read_now(explain)
    assert any(index in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], plan
