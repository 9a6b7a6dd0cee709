"""The job table and its companions, as SQLAlchemy Core tables.

Times are ISO-8601 UTC text in SQLite and `timestamptz` in PostgreSQL; money is decimal text in SQLite and `numeric` in
PostgreSQL, so both are exact. CHECK constraints make impossible rows impossible, and one partial index makes a second
paid attempt impossible. Databases are made by `migrations/`, never from this module; a test holds the two together.
The conditions of partial indexes are told for SQLite only: a word of PostgreSQL here would import its dialect at every
start.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from batchgen.jobs import State
from batchgen.jobtable.columns import Money, Total, UTCDateTime, Words


class Outcome(StrEnum):
    """What became of one create request. `OPEN` outcomes may have cost money and bar a second attempt."""

    SENDING = "sending"  #: committed before the request leaves; still so after a crash
    UNCONFIRMED = "unconfirmed"  #: sent, and no readable answer: being looked up in the service's log
    ACCEPTED = "accepted"  #: a generation exists; its id is stored
    REJECTED = "rejected"  #: refused for good, nothing charged
    NOT_SENT = "not_sent"  #: proof that it never left
    THROTTLED = "throttled"  #: too fast; nothing charged
    BLOCKED = "blocked"  #: key or credits; nothing charged
    ABSENT = "absent"  #: not in the service's log after all patience, and given up


OPEN = (Outcome.SENDING, Outcome.UNCONFIRMED, Outcome.ACCEPTED)


SENT = (State.SUBMITTING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING, State.DONE)
"""States of a job that may have cost money."""


def one_of(column: str, values: Iterable[str]) -> str:
    """SQL: `column` holds one of `values`."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def if_and_only_if(state: State, column: str) -> str:
    """SQL: a job is in `state` exactly when `column` is set."""
    return f"(state = '{state}') = ({column} IS NOT NULL)"


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "%(constraint_name)s",
    }
)

batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("service", Text, nullable=False),
    Column("manifest_path", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("enrolled_at", UTCDateTime, nullable=False),
    # What the attempts of the batch amount to, kept by `jobtable/ledger.py` with every change of one.
    Column("spent", Total, nullable=False),
    Column("reserved", Total, nullable=False),
    Column("unpriced", Integer, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("service", Text, nullable=False),
    Column("base_url", Text),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("input_pointers", Text, nullable=False),
    Column("input_digests", Text),
    Column("fingerprint", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("attempt_id", Integer),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("generation_id", Words),
    Column("remote_status", Words),
    Column("video_url", Words),
    Column("etag", Words),
    Column("output_path", Text, nullable=False),
    Column("bytes", BigInteger),
    Column("sha256", Text),
    Column("estimated_usd", Money),
    Column("cost_usd", Money),
    Column("error_class", Text),
    Column("error", Words),
    Column("created_at", UTCDateTime, nullable=False),
    Column("submitted_at", UTCDateTime),
    Column("polled_at", UTCDateTime),
    Column("finished_at", UTCDateTime),
    Column("delivered_at", UTCDateTime),
    Column("failed_at", UTCDateTime),
    Column("cancelled_at", UTCDateTime),
    Column("deadline_at", UTCDateTime),
    Column("next_at", UTCDateTime),
    Column("leased_by", Text),
    Column("leased_until", UTCDateTime),
    Column("selection", Text),
    UniqueConstraint("batch_id", "key"),
    CheckConstraint(one_of("state", State), name="state_is_known"),
    CheckConstraint(if_and_only_if(State.DONE, "delivered_at"), name="done_iff_delivered_at"),
    CheckConstraint(if_and_only_if(State.FAILED, "failed_at"), name="failed_iff_failed_at"),
    CheckConstraint(if_and_only_if(State.CANCELLED, "cancelled_at"), name="cancelled_iff_cancelled_at"),
    CheckConstraint(
        f"NOT ({one_of('state', (State.GENERATING, State.DOWNLOADING, State.DONE))}) OR generation_id IS NOT NULL",
        name="accepted_has_generation_id",
    ),
    CheckConstraint(
        f"NOT ({one_of('state', (State.PENDING, State.SUBMITTING, State.UNCONFIRMED))}) OR generation_id IS NULL",
        name="unaccepted_has_no_generation_id",
    ),
    CheckConstraint(f"NOT ({one_of('state', SENT)}) OR attempt_id IS NOT NULL", name="sent_has_attempt"),
    CheckConstraint(f"state <> '{State.DONE}' OR (sha256 IS NOT NULL AND bytes > 0)", name="done_has_file"),
    CheckConstraint("(leased_by IS NULL) = (leased_until IS NULL)", name="lease_is_whole"),
    CheckConstraint(f"state <> '{State.SUBMITTING}' OR leased_by IS NOT NULL", name="submitting_is_leased"),
    Index("ix_jobs_pending", "batch_id", "state", text("priority DESC"), "id"),
    Index("ix_jobs_due", "batch_id", "state", "next_at"),
    Index(
        "ix_jobs_in_flight",
        "service",
        "state",
        sqlite_where=text(one_of("state", (State.SUBMITTING, State.UNCONFIRMED, State.GENERATING))),
    ),
    Index(
        "ix_jobs_leased",
        "leased_by",
        sqlite_where=text("leased_by IS NOT NULL"),
    ),
    Index(
        "ix_jobs_selected",
        "selection",
        "batch_id",
        "state",
        text("priority DESC"),
        "id",
        sqlite_where=text("selection IS NOT NULL"),
    ),
    Index(
        "ix_jobs_failed",
        "batch_id",
        "failed_at",
        sqlite_where=text("failed_at IS NOT NULL"),
    ),
)

tallies = Table(
    # How many jobs of a batch stand in a state, and their bytes. Triggers keep it, whoever writes to `jobs`.
    "tallies",
    metadata,
    Column("batch_id", Integer, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

manifests = Table(
    # What a manifest was when it was last enrolled, if that left nothing to be decided (see `jobtable/memory.py`).
    "manifests",
    metadata,
    Column("batch_id", Integer, ForeignKey("batches.id"), primary_key=True),
    Column("sha256", Text),
    Column("batchgen", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("validated", Boolean, nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("rows_held", Integer, nullable=False),
    Column("limits", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("named", Text, nullable=False),
    Column("images", Text, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("client_request_id", Text, nullable=False, unique=True),
    Column("sent_at", UTCDateTime, nullable=False),
    Column("answered_at", UTCDateTime),
    Column("outcome", Text, nullable=False),
    Column("generation_id", Words),
    Column("http_status", Integer),
    Column("estimated_usd", Money),
    Column("cost_usd", Money),
    Column("error", Words),
    Column("released_at", UTCDateTime),
    CheckConstraint(one_of("outcome", Outcome), name="outcome_is_known"),
    CheckConstraint(f"outcome <> '{Outcome.ACCEPTED}' OR generation_id IS NOT NULL", name="accepted_attempt_has_id"),
    Index("ix_attempts_job", "job_id"),
    Index(
        "ux_attempts_one_open",
        "job_id",
        unique=True,
        sqlite_where=text(f"released_at IS NULL AND {one_of('outcome', OPEN)}"),
    ),
    Index(
        "ix_attempts_uncharged",
        "job_id",
        sqlite_where=text(f"cost_usd IS NULL AND outcome = '{Outcome.ACCEPTED}'"),
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("detail", Words),
    Index("ix_events_job", "job_id"),
)

limits = Table(
    "limits",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next_free_at", UTCDateTime),
    Column("paused_until", UTCDateTime),
    Column("reason", Words),
    Column("failures", Integer, nullable=False),
    # What was found of the account: see `discovery.py`. Empty where a person told the limits.
    Column("proven", Integer),
    Column("ceiling", Integer),
    Column("tries", Integer),
    Column("wait", Integer),
    Column("try_at", UTCDateTime),
    Column("refused_at", UTCDateTime),
    Column("willing_at", UTCDateTime),
    Column("refusals", Integer),
    Column("per_minute", Float),
    Column("good", Float),
    Column("rate_tries", Integer),
    Column("rate_wait", Integer),
    Column("resumed_at", UTCDateTime),
    Column("used_at", UTCDateTime),
)

timings = Table(
    "timings",
    metadata,
    Column("service", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("duration", Text, primary_key=True),
    Column("generations", Integer, nullable=False),
    Column("mean", Float, nullable=False),
    Column("squares", Float, nullable=False),
)

prices = Table(
    "prices",
    metadata,
    Column("service", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("pricing", Text),
    Column("etag", Text),
    Column("listed_at", UTCDateTime),
    Column("highest_usd", Money),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", UTCDateTime, nullable=False),
    Column("seen_at", UTCDateTime, nullable=False),
    Column("ended_at", UTCDateTime),
    Column("exit_code", Integer),
)
