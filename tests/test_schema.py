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
from sqlalchemy import CheckConstraint, Connection
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import TypeEngine

from batchgen.jobs import TRANSITIONS, Outcome, State
from batchgen.jobtable import submission
from batchgen.jobtable.columns import Money, UTCDateTime
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import metadata
from batchgen.services.base import Rejected
from tests.table import Table

BATCH = {
    "id": 1,
    "name": "spring",
    "service": "aimlapi",
    "manifest_path": "/m.yaml",
    "manifest_sha256": "00",
    "created_at": "2026-03-01T12:00:00.000000Z",
    "enrolled_at": "2026-03-01T12:00:00.000000Z",
    "spent": 0,
    "reserved": 0,
    "unpriced": 0,
}
JOB = {
    "batch_id": 1,
    "key": "mona",
    "state": "pending",
    "priority": 0,
    "service": "aimlapi",
    "endpoint": "/v2/video/generations",
    "model": "m",
    "request": "{}",
    "input_pointers": "[]",
    "fingerprint": "00",
    "tags": "[]",
    "attempts": 0,
    "failures": 0,
    "output_path": "mona.mp4",
    "created_at": "2026-03-01T12:00:00.000000Z",
}
ATTEMPT = {"job_id": 1, "client_request_id": "c-1", "sent_at": "2026-03-01T12:00:00.000000Z", "outcome": "sending"}
NOW = "2026-03-01T12:00:00.000000Z"
SENT_JOB = {"attempt_id": 1, "generation_id": "g-1"}
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

    def comparable(_object: Any, name: str | None, *_: Any) -> bool:
        # Alembic cannot read their "DESC"; their words are compared below.
        return name not in ("ix_jobs_pending", "ix_jobs_selected")

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": another_type, "compare_server_default": True, "include_object": comparable}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    assert database.read_now(differences) == []


def test_the_migrated_checks_are_those_made_from_the_facts_on_states(raw: sqlite3.Connection) -> None:
    for table in metadata.sorted_tables:
        made = normal(raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table.name,)).fetchone()[0])
        described = {
            f"CONSTRAINT {check.name} CHECK ({normal(str(check.sqltext))})"
            for check in table.constraints
            if isinstance(check, CheckConstraint)
        }
        assert {text for text in described if text not in made} == set()
        assert made.count(" CHECK ") == len(described)


def test_the_migrated_indexes_are_those_made_from_the_facts_on_states(
    raw: sqlite3.Connection, database: Database
) -> None:
    for table in metadata.sorted_tables:
        for index in table.indexes:
            made = raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index.name,)).fetchone()[0]
            assert normal(made) == normal(str(CreateIndex(index).compile(database.engine)))


@pytest.mark.parametrize(("table", "column", "words"), [("jobs", "state", State), ("attempts", "outcome", Outcome)])
def test_the_checks_allow_every_state_and_every_outcome(
    raw: sqlite3.Connection, table: str, column: str, words: Iterable[str]
) -> None:
    made = raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    match = re.search(rf"CHECK \({column} IN \(([^)]*)\)\)", made)
    assert match
    assert re.findall(r"'(\w+)'", match[1]) == [str(word) for word in words]


IMPOSSIBLE_JOBS = [
    ("state_is_known", {"state": "lost"}),
    ("done_iff_delivered_at", {"state": "done", **SENT_JOB, "sha256": "00", "bytes": 1}),
    ("done_iff_delivered_at", {"delivered_at": NOW}),
    ("failed_iff_failed_at", {"state": "failed"}),
    ("failed_iff_failed_at", {"failed_at": NOW}),
    ("cancelled_iff_cancelled_at", {"state": "cancelled"}),
    ("cancelled_iff_cancelled_at", {"cancelled_at": NOW}),
    ("accepted_has_generation_id", {"state": "generating", "attempt_id": 1}),
    ("accepted_has_generation_id", {"state": "downloading", "attempt_id": 1}),
    ("accepted_has_generation_id", {"state": "done", "attempt_id": 1, "sha256": "00", "bytes": 1, "delivered_at": NOW}),
    ("unaccepted_has_no_generation_id", {"generation_id": "g-1"}),
    ("unaccepted_has_no_generation_id", {"state": "submitting", **SENT_JOB, **LEASE}),
    ("unaccepted_has_no_generation_id", {"state": "unconfirmed", **SENT_JOB}),
    ("sent_has_attempt", {"state": "submitting", **LEASE}),
    ("sent_has_attempt", {"state": "unconfirmed"}),
    ("sent_has_attempt", {"state": "generating", "generation_id": "g-1"}),
    ("done_has_file", {"state": "done", **SENT_JOB, "delivered_at": NOW, "bytes": 1}),
    ("done_has_file", {"state": "done", **SENT_JOB, "delivered_at": NOW, "sha256": "00", "bytes": 0}),
    ("lease_is_whole", {"leased_by": "run"}),
    ("lease_is_whole", {"leased_until": NOW}),
    ("submitting_is_leased", {"state": "submitting", "attempt_id": 1}),
]


@pytest.mark.parametrize(("constraint", "row"), IMPOSSIBLE_JOBS)
def test_an_impossible_job_is_refused(raw: sqlite3.Connection, constraint: str, row: dict[str, Any]) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=constraint):
        put(raw, "jobs", JOB, row)


def test_every_check_of_a_job_has_an_impossible_row() -> None:
    checks = {check.name for check in metadata.tables["jobs"].constraints if isinstance(check, CheckConstraint)}
    assert {name for name, _ in IMPOSSIBLE_JOBS} == checks


def test_a_key_is_unique_in_its_batch(raw: sqlite3.Connection) -> None:
    put(raw, "jobs", JOB)
    with pytest.raises(sqlite3.IntegrityError, match=r"jobs\.batch_id, jobs\.key"):
        put(raw, "jobs", JOB)


@pytest.mark.parametrize(
    ("constraint", "row"),
    [
        ("outcome_is_known", {"outcome": "perhaps"}),
        ("accepted_attempt_has_id", {"outcome": "accepted"}),
        ("FOREIGN KEY", {"job_id": 99}),
    ],
)
def test_an_impossible_attempt_is_refused(raw: sqlite3.Connection, constraint: str, row: dict[str, Any]) -> None:
    put(raw, "jobs", JOB)
    with pytest.raises(sqlite3.IntegrityError, match=constraint):
        put(raw, "attempts", ATTEMPT, row)


@pytest.mark.parametrize("first", MAY_BE_PAID)
@pytest.mark.parametrize("second", MAY_BE_PAID)
def test_a_job_never_has_two_attempts_that_may_be_paid_for(
    raw: sqlite3.Connection, first: Outcome, second: Outcome
) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT, {"outcome": first, "generation_id": "g-1"})
    with pytest.raises(sqlite3.IntegrityError, match=r"attempts\.job_id"):
        put(raw, "attempts", ATTEMPT, {"client_request_id": "c-2", "outcome": second, "generation_id": "g-2"})
    raw.execute("UPDATE attempts SET released_at = ?", (NOW,))
    put(raw, "attempts", ATTEMPT, {"client_request_id": "c-2", "outcome": second, "generation_id": "g-2"})
    assert raw.execute("SELECT count(*) FROM attempts").fetchone() == (2,)


@pytest.mark.parametrize("first", [outcome for outcome in Outcome if not outcome.may_be_paid])
def test_an_attempt_that_cost_nothing_allows_another(raw: sqlite3.Connection, first: Outcome) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT, {"outcome": first})
    put(raw, "attempts", ATTEMPT, {"client_request_id": "c-2"})
    assert raw.execute("SELECT outcome FROM attempts ORDER BY id").fetchall() == [(first,), (ATTEMPT["outcome"],)]


def test_a_client_request_id_names_one_attempt(raw: sqlite3.Connection) -> None:
    put(raw, "jobs", JOB)
    put(raw, "attempts", ATTEMPT, {"outcome": "rejected"})
    with pytest.raises(sqlite3.IntegrityError, match="client_request_id"):
        put(raw, "attempts", ATTEMPT)


def test_every_state_has_its_transitions_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(state.is_terminal is not bool(TRANSITIONS[state] - {State.PENDING}) for state in State)
    reachable = {State.PENDING}
    while further := set().union(*(TRANSITIONS[state] for state in reachable)) - reachable:
        reachable |= further
    assert reachable == set(State)


def test_columns_of_times_and_money_are_named_for_their_types() -> None:
    for table in metadata.sorted_tables:
        for column in table.columns:
            assert isinstance(column.type, UTCDateTime) == column.name.endswith(("_at", "_until", "at")), column
            assert isinstance(column.type, Money) == column.name.endswith("_usd"), column


@pytest.mark.parametrize(
    ("text", "stored"),
    [("a cut pair \ud83d", "a cut pair ?"), ("zero\0byte", "zero?byte"), ("\U0001f3ac é", "\U0001f3ac é")],
)
def test_text_that_no_database_can_store_is_recorded_with_replacements(table: Table, text: str, stored: str) -> None:
    intent = table.bring(State.SUBMITTING)
    assert table.change(submission.rejected, intent, Rejected(text, 400), table.now)
    assert (table.row().error, table.attempts()[0].error, table.events()[-1].detail) == (stored,) * 3
