"""The migrations create the schema that the code describes, and it refuses impossible rows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.types import TypeEngine

from batchgen.jobs import ENDED_AT, TRANSITIONS, Outcome, State
from batchgen.jobtable import submission
from batchgen.jobtable.columns import Money, NanoUSD, UTCDateTime, Word
from batchgen.jobtable.database import Database
from batchgen.jobtable.joins import (
    ATTEMPT_IS_IN_FLIGHT,
    ATTEMPT_IS_OPEN,
    ATTEMPT_IS_UNCHARGED,
    OUTPUT_IS_SUSPECT,
    SETTING_IS_CURRENT,
)
from batchgen.jobtable.schema import metadata
from batchgen.services.outcomes import Rejected
from tests.table import Table

NOW = "2026-03-01T12:00:00.000000Z"
BATCH = {
    "id": 1,
    "name": "spring",
    "service": "aimlapi",
    "manifest_path": "/m.yaml",
    "manifest_sha256": "00",
    "created_at": NOW,
    "synced_at": NOW,
    "spent_nanousd": 0,
    "reserved_nanousd": 0,
    "unpriced": 0,
    "delivered_bytes": 0,
}
JOB = {
    "batch_id": 1,
    "key": "mona",
    "state": "pending",
    "priority": 0,
    "rank": 0,
    "service": "aimlapi",
    "model": "m",
    "endpoint": "/v2/video/generations",
    "request": "{}",
    "input_pointers": "[]",
    "take": 0,
    "fingerprint": "00",
    "output_path": "mona.mp4",
    "tags": "[]",
    "failures": 0,
    "created_at": NOW,
}
ATTEMPT = {
    "job_id": 1,
    "number": 1,
    "service": "aimlapi",
    "account": "0badcafe",
    "origin": "",
    "model": "m",
    "client_request_id": "c-1",
    "fingerprint": "00",
    "intent_at": NOW,
    "deadline_at": NOW,
    "outcome": "sending",
}
SECOND_ATTEMPT = {**ATTEMPT, "number": 2, "client_request_id": "c-2"}
OUTPUT = {"attempt_id": 1, "number": 1, "url": "https://cdn.test/v.mp4"}
DELIVERED = {"delivered_at": NOW, "path": "mona.mp4", "sha256": "00", "bytes": 1}
EVENT = {"batch_id": 1, "job_id": 1, "at": NOW, "to_state": "pending"}
LIMIT = {
    "service": "aimlapi",
    "kind": "submits",
    "account": "",
    "model": "",
    "failures": 0,
    "failed_probes": 0,
    "successes": 0,
}
RUN = {"id": "run-a", "batch_id": 1, "host": "here", "pid": 1, "started_at": NOW, "seen_at": NOW, "holds_lock": True}
HOOK_RUN = {"output_id": 1, "command": "00", "run_id": "run-a", "began_at": NOW}
MOVE = {"id": "c0ffee", "batch_id": 1, "goes_to": "/b.db", "began_at": NOW}
SETTING = {"batch_id": 1, "name": "paused", "value": "true", "set_at": NOW, "set_by": "anna@studio"}
VERDICT = {"attempt_id": 1, "at": NOW, "verdict": "picked", "stars": 5}
ROWS = {
    "jobs": JOB,
    "attempts": ATTEMPT,
    "outputs": OUTPUT,
    "verdicts": VERDICT,
    "events": EVENT,
    "limits": LIMIT,
    "runs": RUN,
    "hook_runs": HOOK_RUN,
    "moves": MOVE,
    "settings": SETTING,
}
"""A valid row of each table that has a check or a foreign key."""
LEASE = {"leased_by": "run", "leased_until": NOW}
MAY_BE_PAID = [outcome for outcome in Outcome if outcome.may_be_paid]


def put(connection: sqlite3.Connection, table: str, *layers: dict[str, Any]) -> None:
    row: dict[str, Any] = {}
    for layer in layers:
        row.update(layer)
    names = ", ".join(row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


@pytest.fixture
def raw(database: Database) -> Iterable[sqlite3.Connection]:
    """A connection to the file without batchgen's code."""
    assert database.path
    with closing(sqlite3.connect(database.path)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        put(connection, "batches", BATCH)
        yield connection


def normal(sql: str) -> str:
    return re.sub(r"\s+", " ", sql.replace('"', "")).strip()


def test_the_migrated_database_has_the_described_schema(database: Database) -> None:
    def another_type(_context: Any, _column: Any, _other: Any, made: TypeEngine[Any], meant: TypeEngine[Any]) -> bool:
        dialect = database.engine.dialect
        return str(made.compile(dialect)) != str(meant.compile(dialect))

    def comparable(_object: Any, _name: str | None, kind: str, *_: Any) -> bool:
        return kind != "index"

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": another_type, "compare_server_default": True, "include_object": comparable}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    reason = "`jobtable/schema.py` lacks what is to be removed here, and the migrations lack what is to be added"
    assert database.read_now(differences) == [], reason


def test_the_migrated_checks_follow_the_facts_on_states(raw: sqlite3.Connection) -> None:
    made = normal(raw.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs'").fetchone()[0])
    may_be_paid = ", ".join(f"'{state}'" for state in State if state.may_be_paid)
    facts = {
        "sent_has_attempt": f"NOT (state IN ({may_be_paid})) OR attempt_id IS NOT NULL",
        **{f"{state}_iff_{at}": f"(state = '{state}') = ({at} IS NOT NULL)" for state, at in ENDED_AT.items()},
    }
    outdated = [f"{name}: {sql}" for name, sql in facts.items() if f"CONSTRAINT {name} CHECK ({sql})" not in made]
    assert not outdated, "a migration gives `jobs` these CHECKs, as the facts of `State` say"


INDEXES = {
    "ix_jobs_pending": "jobs (batch_id, state, rank DESC, priority DESC, id)",
    "ix_jobs_due": "jobs (batch_id, state, next_at)",
    "ix_jobs_leased": "jobs (leased_by) WHERE leased_by IS NOT NULL",
    "ix_jobs_parent": "jobs (parent_batch, parent_key) WHERE parent_key IS NOT NULL",
    "ix_jobs_failed": "jobs (batch_id, failed_at) WHERE failed_at IS NOT NULL",
    "ux_attempts_one_open": f"attempts (job_id) WHERE {ATTEMPT_IS_OPEN}",
    # The generation first: with the service first, SQLite would read all attempts of a service by this index.
    "ux_attempts_generation": "attempts (generation_id, service, account)",
    "ix_attempts_fingerprint": "attempts (fingerprint)",
    "ix_attempts_in_flight": f"attempts (service, model, outcome) WHERE {ATTEMPT_IS_IN_FLIGHT}",
    "ix_attempts_uncharged": f"attempts (job_id) WHERE {ATTEMPT_IS_UNCHARGED}",
    "ix_outputs_remarked": "outputs (attempt_id) WHERE remark IS NOT NULL",
    "ix_outputs_unmeasured": "outputs (id) WHERE delivered_at IS NOT NULL AND measured_at IS NULL",
    "ix_outputs_suspect": f"outputs (attempt_id) WHERE {OUTPUT_IS_SUSPECT}",
    "ix_verdicts_attempt": "verdicts (attempt_id, id)",
    "ix_events_batch": "events (batch_id, id)",
    "ix_events_job": "events (job_id)",
    "ix_runs_batch": "runs (batch_id)",
    "ux_settings_current": f"settings (batch_id, name) WHERE {SETTING_IS_CURRENT}",
}
"""Every index, with the conditions that queries repeat. One that begins with `ux` is unique."""


def test_the_migrated_indexes_have_the_conditions_that_queries_repeat(raw: sqlite3.Connection) -> None:
    rows = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    made = {name: normal(sql) for name, sql in rows}
    described = {
        name: f"CREATE {'UNIQUE ' if name.startswith('ux') else ''}INDEX {name} ON {columns}"
        for name, columns in INDEXES.items()
    }
    advice = "a migration that makes a table anew, as each change of a CHECK does, has to drop and create its indexes"
    assert made == described, advice


CLOSED_SETS = [
    (table.name, column.name, column.type.words)
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, Word)
]


@pytest.mark.parametrize(("table", "column", "words"), CLOSED_SETS)
def test_the_checks_allow_every_word_of_a_closed_set(
    raw: sqlite3.Connection, table: str, column: str, words: Iterable[str]
) -> None:
    made = raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    match = re.search(rf"CHECK \({column} IN \(([^)]*)\)\)", made)
    assert match
    added = f"a word of {table}.{column} is also in the CHECK of a migration, in the order of its enum"
    assert re.findall(r"'(\w+)'", match[1]) == [str(word) for word in words], added


IMPOSSIBLE_ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("jobs", "state_is_known", {"state": "lost"}),
    ("jobs", "error_class_is_known", {"error_class": "tired"}),
    ("jobs", "done_iff_delivered_at", {"state": "done", "attempt_id": 1}),
    ("jobs", "done_iff_delivered_at", {"delivered_at": NOW}),
    ("jobs", "failed_iff_failed_at", {"state": "failed"}),
    ("jobs", "failed_iff_failed_at", {"failed_at": NOW}),
    ("jobs", "cancelled_iff_cancelled_at", {"state": "cancelled"}),
    ("jobs", "cancelled_iff_cancelled_at", {"cancelled_at": NOW}),
    ("jobs", "sent_has_attempt", {"state": "submitting", **LEASE}),
    ("jobs", "sent_has_attempt", {"state": "unconfirmed"}),
    ("jobs", "sent_has_attempt", {"state": "generating"}),
    ("jobs", "sent_has_attempt", {"state": "downloading"}),
    ("jobs", "sent_has_attempt", {"state": "done", "delivered_at": NOW}),
    ("jobs", "pending_has_no_attempt", {"attempt_id": 1}),
    ("jobs", "parent_is_whole", {"parent_batch": "pilot"}),
    ("jobs", "parent_is_whole", {"parent_key": "mona"}),
    ("jobs", "lease_is_whole", {"leased_by": "run"}),
    ("jobs", "lease_is_whole", {"leased_until": NOW}),
    ("jobs", "submitting_is_leased", {"state": "submitting", "attempt_id": 1}),
    ("attempts", "outcome_is_known", {"outcome": "perhaps"}),
    ("attempts", "attempt_error_class_is_known", {"error_class": "tired"}),
    ("attempts", "charge_source_is_known", {"charge_source": "hearsay"}),
    ("attempts", "cost_has_source", {"cost_usd": "0.28"}),
    ("attempts", "accepted_iff_generation_id", {"outcome": "accepted"}),
    *(
        ("attempts", "accepted_iff_generation_id", {"outcome": outcome, "generation_id": "g-1"})
        for outcome in Outcome
        if outcome is not Outcome.ACCEPTED
    ),
    *(
        ("attempts", "finished_was_accepted", {"outcome": outcome, "finished_at": NOW})
        for outcome in Outcome
        if outcome is not Outcome.ACCEPTED
    ),
    *(("outputs", "delivered_has_file", {**DELIVERED, column: None}) for column in ("path", "sha256", "bytes")),
    ("outputs", "delivered_has_file", {**DELIVERED, "bytes": 0}),
    ("verdicts", "verdict_is_known", {"verdict": "liked"}),
    ("verdicts", "stars_are_few", {"stars": 0}),
    ("verdicts", "stars_are_few", {"stars": 6}),
    ("events", "from_state_is_known", {"from_state": "lost"}),
    ("events", "to_state_is_known", {"to_state": "lost"}),
    ("limits", "limit_kind_is_known", {"kind": "patience"}),
    ("settings", "setting_name_is_known", {"name": "mood"}),
    ("runs", "hold_is_known", {"hold": "mood"}),
    ("hook_runs", "ended_has_exit_code", {"ended_at": NOW}),
    ("hook_runs", "ended_has_exit_code", {"exit_code": 0}),
    ("moves", "move_has_one_direction", {"goes_to": None}),
    ("moves", "move_has_one_direction", {"came_from": "/c.db"}),
    ("moves", "move_has_one_end", {"moved_at": NOW, "given_back_at": NOW}),
]


def refusal(connection: sqlite3.Connection, table: str, *layers: dict[str, Any]) -> str:
    """Why a row is not taken; "" where it is. What is refused leaves nothing."""
    try:
        put(connection, table, *layers)
    except sqlite3.IntegrityError as error:
        return str(error)
    return ""


def test_an_impossible_row_is_refused(raw: sqlite3.Connection) -> None:
    offences = [
        (table, row, constraint, reason)
        for table, constraint, row in IMPOSSIBLE_ROWS
        if (reason := refusal(raw, table, ROWS[table], row)) != f"CHECK constraint failed: {constraint}"
    ]
    assert not offences


def test_every_check_has_an_impossible_row(raw: sqlite3.Connection) -> None:
    tables = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    checks = {(table, name) for table, sql in tables for name in re.findall(r"CONSTRAINT (\w+) CHECK", normal(sql))}
    assert {(table, name) for table, name, _ in IMPOSSIBLE_ROWS} == checks, "IMPOSSIBLE_ROWS has a row for each CHECK"
    assert len(checks) == sum(normal(sql).count(" CHECK ") for _, sql in tables)


def test_the_rows_that_the_impossible_ones_are_made_from_are_possible(raw: sqlite3.Connection) -> None:
    for table, row in ROWS.items():
        put(raw, table, row)
    put(raw, "outputs", OUTPUT, {"number": 2}, DELIVERED)
    put(raw, "attempts", SECOND_ATTEMPT, {"outcome": "rejected"})
    put(raw, "jobs", JOB, {"key": "done", "state": "done", "attempt_id": 1, "delivered_at": NOW})
    rows = {table: raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ROWS}
    assert rows == dict.fromkeys(ROWS, 1) | {"outputs": 2, "attempts": 2, "jobs": 2}


REFERENCES = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if column.name in ("batch_id", "job_id", "attempt_id", "copy_of")
]


@pytest.mark.parametrize(("table", "column"), REFERENCES)
def test_a_reference_to_a_row_that_does_not_exist_is_refused(raw: sqlite3.Connection, table: str, column: str) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT)
    other = {"key": "lisa", "state": "unconfirmed"} if table == "jobs" else {}
    valid = {"attempt_id": 1} if table == "jobs" else SECOND_ATTEMPT if table == "attempts" else {}
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        put(raw, table, ROWS[table], other, valid, {column: 99})


def test_a_key_is_unique_in_its_batch(raw: sqlite3.Connection) -> None:
    put(raw, "jobs", JOB)
    with pytest.raises(sqlite3.IntegrityError, match=r"jobs\.batch_id, jobs\.key"):
        put(raw, "jobs", JOB)


def outcome_of(outcome: Outcome, generation_id: str) -> dict[str, Any]:
    """The columns of an attempt with this outcome."""
    return {"outcome": outcome, "generation_id": generation_id if outcome is Outcome.ACCEPTED else None}


@pytest.mark.parametrize("first", MAY_BE_PAID)
@pytest.mark.parametrize("second", MAY_BE_PAID)
def test_a_job_never_has_two_attempts_that_may_be_paid_for(
    raw: sqlite3.Connection, first: Outcome, second: Outcome
) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT, outcome_of(first, "g-1"))
    with pytest.raises(sqlite3.IntegrityError, match=r"attempts\.job_id$"):
        put(raw, "attempts", SECOND_ATTEMPT, outcome_of(second, "g-2"))
    raw.execute("UPDATE attempts SET released_at = ?", (NOW,))
    put(raw, "attempts", SECOND_ATTEMPT, outcome_of(second, "g-2"))
    assert raw.execute("SELECT count(*) FROM attempts").fetchone() == (2,)


@pytest.mark.parametrize("first", [outcome for outcome in Outcome if not outcome.may_be_paid])
def test_an_attempt_that_cost_nothing_allows_another(raw: sqlite3.Connection, first: Outcome) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT, {"outcome": first})
    put(raw, "attempts", SECOND_ATTEMPT)
    assert raw.execute("SELECT outcome FROM attempts ORDER BY id").fetchall() == [(first,), (ATTEMPT["outcome"],)]


@pytest.mark.parametrize(
    ("same", "constraint"),
    [
        ({"client_request_id": "c-1"}, r"attempts\.client_request_id"),
        ({"number": 1}, r"attempts\.job_id, attempts\.number"),
    ],
)
def test_a_client_request_id_and_a_number_name_one_attempt(
    raw: sqlite3.Connection, same: dict[str, Any], constraint: str
) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT, {"outcome": "rejected"})
    with pytest.raises(sqlite3.IntegrityError, match=constraint):
        put(raw, "attempts", SECOND_ATTEMPT, same)


def test_a_generation_belongs_to_one_attempt_of_a_service_and_an_account(raw: sqlite3.Connection) -> None:
    for key in ("mona", "lisa"):
        put(raw, "jobs", JOB, {"key": key})
    accepted, other = {"outcome": "accepted", "generation_id": "g-1"}, {"job_id": 2, "client_request_id": "c-2"}
    put(raw, "attempts", ATTEMPT, accepted, {"released_at": NOW})
    with pytest.raises(sqlite3.IntegrityError, match=r"attempts\.generation_id, attempts\.service, attempts\.account"):
        put(raw, "attempts", ATTEMPT, accepted, other)
    for number, elsewhere in enumerate(({"service": "another"}, {"account": "another"}), 2):
        released = {"number": number, "client_request_id": f"c-{number}", "released_at": NOW}
        put(raw, "attempts", ATTEMPT, accepted, other, released, elsewhere)
    for number in (4, 5):  # attempts without a generation are not the same one
        put(raw, "attempts", ATTEMPT, {"outcome": "rejected", "number": number, "client_request_id": f"c-{number}"})


def test_a_number_names_one_file_of_a_generation(raw: sqlite3.Connection) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT, {"outcome": "accepted", "generation_id": "g-1"})
    put(raw, "outputs", OUTPUT)
    put(raw, "outputs", OUTPUT, {"number": 2})
    with pytest.raises(sqlite3.IntegrityError, match=r"outputs\.attempt_id, outputs\.number"):
        put(raw, "outputs", OUTPUT, {"number": 2})


@pytest.mark.parametrize("another", [{"service": "s"}, {"kind": "polls"}, {"account": "0badcafe"}, {"model": "m"}])
def test_a_limit_has_a_key_of_columns(raw: sqlite3.Connection, another: dict[str, Any]) -> None:
    put(raw, "limits", LIMIT)
    put(raw, "limits", LIMIT, another)
    with pytest.raises(sqlite3.IntegrityError, match=r"limits\.service, limits\.kind, limits\.account, limits\.model"):
        put(raw, "limits", LIMIT, another)


def test_the_schema_has_no_triggers(raw: sqlite3.Connection) -> None:
    assert raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall() == []


def test_every_state_has_its_transitions_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State), "TRANSITIONS has an entry for each state"
    by_a_person = {State.DONE, State.FAILED, State.CANCELLED}
    assert {state for state in State if state.is_terminal} == by_a_person, "a new terminal state is also named here"
    reachable = {State.PENDING}
    while further := set().union(*(TRANSITIONS[state] for state in reachable)) - reachable:
        reachable |= further
    assert reachable == set(State), "no transition leads from pending to the others"


def test_columns_of_times_and_money_are_named_for_their_types() -> None:
    for table in metadata.sorted_tables:
        for column in table.columns:
            is_time = column.name == "at" or column.name.endswith(("_at", "_until", "collect_by"))
            assert isinstance(column.type, UTCDateTime) == is_time, column
            assert isinstance(column.type, Money) == column.name.endswith("_usd"), column
            assert isinstance(column.type, NanoUSD) == column.name.endswith("_nanousd"), column


@pytest.mark.parametrize(
    ("text", "stored"),
    [("a cut pair \ud83d", "a cut pair ?"), ("zero\0byte", "zero?byte"), ("\U0001f3ac é", "\U0001f3ac é")],
)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_text_that_no_database_can_store_is_recorded_with_replacements(table: Table, text: str, stored: str) -> None:
    job = table.bring(State.SUBMITTING)
    assert table.change(submission.rejected, job, Rejected(text, 400), table.now)
    assert (table.row().error, table.attempts()[0].error, table.events()[-1].detail) == (stored,) * 3
