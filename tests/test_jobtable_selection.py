"""Which jobs a run may send, and that the queries for them use an index."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

from batchgen.errors import UsageError
from batchgen.jobtable import leases, ledger, selection, submission
from batchgen.jobtable.schema import runs
from batchgen.jobtable.selection import Selected, Selection
from tests.table import RUN, Table, spec

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


def select(table: Table, **options: Any) -> Selected:
    chosen = table.database.read_now(selection.select_jobs, table.batch_id, Selection(**options))
    assert chosen
    return chosen


def ready(table: Table, chosen: Selected | None, capacity: int = 100) -> list[str]:
    names = {row.id: row.key for row in table.rows()}
    candidates = table.database.read_now(submission.ready, table.batch_id, table.now, capacity, chosen)
    return [names[candidate.id] for candidate in candidates]


def test_only_selected_jobs_may_be_sent(table: Table, keys: list[str]) -> None:
    noir = select(table, only=("noir-*",))
    assert ready(table, noir) == ["noir-0", "noir-1", "noir-2", "noir-3"]
    assert ready(table, noir, 2) == ["noir-0", "noir-1"]
    assert table.database.read_now(selection.left_out, table.batch_id, noir) == 4
    assert len(ready(table, None)) == 8
    assert table.database.read_now(selection.select_jobs, table.batch_id, ALL) is None
    table.cancel("noir-1")
    assert ready(table, select(table, only=("noir-*",))) == ["noir-0", "noir-2", "noir-3"]


def test_runs_with_different_selections_do_not_rob_each_other(table: Table, keys: list[str]) -> None:
    sample, noir, first = select(table, sample=3), select(table, only=("noir-*",)), select(table, limit=2)
    for chosen, number in ((sample, 3), (noir, 4), (first, 2), (sample, 3)):
        assert len(ready(table, chosen)) == number


def test_a_selected_job_that_comes_back_is_sent_by_the_same_run(table: Table) -> None:
    """However many others were accepted meanwhile: more of them than fit into one statement."""
    table.sync(*(f"j{number:04}" for number in range(1_200)))
    chosen = select(table, limit=1_100)
    jobs = table.intend(capacity=1_100)
    for job in jobs[:-1]:
        table.accept(job, f"g-{job.key}")
    assert ready(table, chosen) == []
    table.throttle(jobs[-1])
    assert ready(table, chosen) == ["j1099"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("noir-9", "did you mean noir-"), ("*-7x", "fits the id of no job"), ("pastell-1", "pastel-1")],
)
def test_a_pattern_that_fits_no_job_is_refused_with_the_nearest_ids(
    table: Table, keys: list[str], pattern: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=hint):
        selected(table, only=("noir-*", pattern))


def test_the_options_of_a_selection_stand_in_the_row_of_the_run(table: Table, keys: list[str]) -> None:
    text = str(Selection(only=("noir-*",), sample=3))
    table.change(leases.begin_run, RUN, table.batch_id, "host", 1, table.now, text)
    (row,) = table.database.read_now(lambda connection: connection.execute(runs.select()).all())
    assert row.selection == '{"only": ["noir-*"], "sample": 3}'


@pytest.mark.parametrize("wrong", ["", " ", "nowhere = 1", "1) OR (1", "1;", "1 --", "1 /* */", "'", "(", "state ="])
def test_anything_but_one_condition_is_refused(table: Table, keys: list[str], wrong: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        selected(table, where=wrong)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (submission.READY, "ix_jobs_pending"),
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
