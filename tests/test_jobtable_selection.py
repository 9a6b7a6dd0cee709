"""Which jobs a run may send, and that a claim uses an index (`test_plans` has the statements of a selection)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import leases, ledger, rows, selection, submission
from batchgen.jobtable.rows import CHUNK
from batchgen.jobtable.run_lock import Owner
from batchgen.jobtable.schema import attempts, runs
from batchgen.jobtable.selection import Selected, Selection
from batchgen.jobtable.submission import Sender
from tests.table import ACCOUNT, LEASE, MODEL, Table, spec

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


@pytest.mark.sqlite
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


def select(table: Table, **options: object) -> Selected:
    """The jobs that a run with these options may send."""
    selection_ = replace(ALL, **options)  # type: ignore[arg-type]
    of_run = table.database.read_now(selection.select_jobs, table.batch_id, selection_)
    assert of_run
    return of_run


def ready(table: Table, of_run: Selected | None, capacity: int = 100, barred: tuple[str, ...] = ()) -> list[str]:
    names = {row.id: row.key for row in table.rows()}
    chosen = table.change(submission.ready, table.batch_id, capacity, of_run, barred)
    return [names[candidate.id] for candidate in chosen]


def left_out(table: Table, of_run: Selected | None) -> int:
    return table.database.read_now(selection.left_out, table.batch_id, of_run)


def test_only_selected_jobs_may_be_sent(table: Table, keys: list[str]) -> None:
    noir = select(table, only=("noir-*",))
    assert ready(table, noir) == ["noir-0", "noir-1", "noir-2", "noir-3"]
    assert left_out(table, noir) == 4
    assert len(ready(table, None)) == 8
    assert left_out(table, None) == 0
    table.cancel("noir-1")
    assert ready(table, noir) == ["noir-0", "noir-2", "noir-3"]
    assert ready(table, select(table, only=("noir-*",))) == ["noir-0", "noir-2", "noir-3"]


def test_no_options_select_every_job_also_one_that_is_added_later(table: Table, keys: list[str]) -> None:
    assert table.database.read_now(selection.select_jobs, table.batch_id, ALL) is None
    assert ready(table, None) == ["pastel-3", *(key for key in keys if key != "pastel-3")]


def test_selected_jobs_are_sent_in_their_order_within_the_capacity(table: Table, keys: list[str]) -> None:
    threes = select(table, only=("*-3", "noir-0"))
    assert ready(table, threes) == ["pastel-3", "noir-0", "noir-3"]
    assert ready(table, threes, capacity=2) == ["pastel-3", "noir-0"]
    assert ready(table, threes, barred=(MODEL,)) == []


def send(table: Table, of_run: Selected, worker: str) -> list[str]:
    """One run sends all that it may."""
    chosen = table.change(submission.ready, table.batch_id, 100, of_run)
    until, sender = table.now + LEASE, Sender(worker, "aimlapi", ACCOUNT)
    sent = table.change(submission.intend, table.batch_id, sender, table.now, until, chosen)
    return [job.key for job in sent]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"sample": 3}, {"sample": 3}),
        ({"only": ("noir-*",)}, {"limit": 2}),
        ({"only": ("noir-*",)}, {"only": ("pastel-*",)}),
        ({"where": "key < 'p'"}, {"sample": 5}),
    ],
)
def test_two_runs_with_different_selections_do_not_rob_each_other(
    table: Table, keys: list[str], first: dict[str, object], second: dict[str, object]
) -> None:
    expected = selected(table, **first), selected(table, **second)
    one, two = select(table, **first), select(table, **second)
    assert (set(ready(table, one)), set(ready(table, two))) == (set(expected[0]), set(expected[1]))
    sent = send(table, one, "run-a")
    assert sent == expected[0], "the second selection has taken nothing from the first"
    assert send(table, two, "run-b") == [key for key in expected[1] if key not in sent]
    assert {row.key for row in table.rows() if row.state == State.SUBMITTING} == {*expected[0], *expected[1]}


def test_two_batches_of_one_table_have_selections_of_their_own(table: Table, keys: list[str]) -> None:
    ours = select(table, sample=3)
    mine = table.batch_id
    table.sync(*keys, batch=replace(table.batch, name="autumn", manifest=table.folder / "autumn.yaml"))
    theirs = select(table, sample=3)
    assert len({*ours.ids, *theirs.ids}) == 6
    table.batch_id = mine
    assert set(send(table, ours, "run-a")) == set(selected(table, sample=3))
    assert {row.batch_id for row in table.rows() if row.state == State.SUBMITTING} == {mine}


@pytest.mark.sqlite
def test_a_selection_of_many_jobs_goes_on_where_it_stopped(table: Table) -> None:
    table.sync(*(f"j{number:04}" for number in range(2 * CHUNK + 10)))
    of_run = select(table, only=("j*",))
    for job in table.intend(capacity=CHUNK):
        table.accept(job, f"g-{job.key}")
    assert ready(table, of_run, capacity=2) == [f"j{CHUNK:04}", f"j{CHUNK + 1:04}"]
    assert ready(table, of_run, capacity=CHUNK + 5)[-1] == f"j{2 * CHUNK + 4:04}", "from more than one statement"
    assert of_run.ids == select(table, only=("j*",)).ids
    assert table.database.read_now(selection.left_out, table.batch_id, of_run) == 0
    assert table.database.read_now(selection.left_out, table.batch_id, Selected(of_run.ids[:CHUNK])) == CHUNK + 10


@pytest.mark.sqlite
def test_a_selected_job_that_comes_back_is_sent_although_those_after_it_were_accepted(table: Table) -> None:
    table.sync(*(f"j{number:04}" for number in range(CHUNK + 2)))
    of_run = select(table, only=("j*",))
    first, *others = table.intend(capacity=CHUNK)
    for job in others:
        table.accept(job, f"g-{job.key}")
    assert ready(table, of_run) == [f"j{CHUNK:04}", f"j{CHUNK + 1:04}"]
    table.throttle(first)
    assert ready(table, of_run) == ["j0000", f"j{CHUNK:04}", f"j{CHUNK + 1:04}"]


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (("noire-0",), "--only noire-0: no job of this batch has such an id; did you mean noir-0"),
        (("noir-*", "pastell-1"), "--only pastell-1: no job of this batch has such an id; did you mean pastel-1"),
        (("*-7",), "--only *-7: no job of this batch has such an id"),
        (("Noir-*",), "--only Noir-*: no job of this batch has such an id; did you mean noir-"),
    ],
)
def test_a_pattern_that_fits_no_job_is_refused_with_the_nearest_ids(
    table: Table, keys: list[str], only: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        selected(table, only=only)
    assert str(refusal.value).startswith(message)


def test_a_run_keeps_its_own_selection_as_json(table: Table, keys: list[str]) -> None:
    options = Selection(only=("noir-*",), where="key <> 'noir-2'", sample=3, limit=2)
    table.change(leases.begin_run, "run-a", table.batch_id, Owner("here", 1, True), table.now, str(options))
    table.change(leases.begin_run, "run-b", table.batch_id, Owner("here", 2, True), table.now)
    stored = table.database.read_now(
        lambda connection: dict(connection.execute(runs.select().with_only_columns(runs.c.id, runs.c.selection)).all())
    )
    assert json.loads(stored["run-a"]) == {"only": ["noir-*"], "where": "key <> 'noir-2'", "sample": 3, "limit": 2}
    assert stored["run-b"] is None


@pytest.mark.parametrize("wrong", ["", " ", "nowhere = 1", "1) OR (1", "1;", "1 --", "1 /* */", "'", "(", "state ="])
def test_anything_but_one_condition_is_refused(table: Table, keys: list[str], wrong: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        selected(table, where=wrong)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (submission.READY, "ix_jobs_pending"),
        (ledger.TOTALS, "INTEGER PRIMARY KEY"),
        (ledger.ENTRIES.where(attempts.c.id == 1), "INTEGER PRIMARY KEY"),
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


def test_two_threads_that_pass_over_what_was_accepted_leave_no_job_out(
    table: Table, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CHUNK", 2)
    for job in table.intend(capacity=2):
        table.accept(job, f"g-{job.id}")
    accepted = [row.id for row in table.rows() if row.state == State.GENERATING]
    in_order = Selected([*accepted, *pending_ids(table)])

    class OneAfterTheOther:
        """A connection on which another thread comes between a statement and what follows from it."""

        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def execute(self, *arguments: Any) -> Any:
            result = self.connection.execute(*arguments)
            list(in_order.unsent(self.connection))
            return result

    def passed(connection: Connection) -> list[int]:
        return [id_ for ids in in_order.unsent(OneAfterTheOther(connection)) for id_ in ids]  # type: ignore[arg-type]

    assert table.database.read_now(passed) == pending_ids(table)


def test_jobs_that_are_selected_while_the_order_is_read_again_stay_selected(table: Table, keys: list[str]) -> None:
    ids = [row.id for row in table.rows()]
    growing = Selected(ids[:4])

    class Interrupted:
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def execute(self, *arguments: Any) -> Any:
            if len(growing.ids) == 4:
                growing.replace(ids)
            return self.connection.execute(*arguments)

    table.database.read_now(lambda connection: growing.reorder(Interrupted(connection)))  # type: ignore[arg-type]
    assert sorted(growing.ids) == sorted(ids)


def pending_ids(table: Table) -> list[int]:
    return [row.id for row in table.rows() if row.state == State.PENDING]
