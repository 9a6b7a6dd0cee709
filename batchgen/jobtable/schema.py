"""The job table and its companions, as SQLAlchemy Core tables.

Times are ISO-8601 UTC text in SQLite and `timestamptz` in PostgreSQL. Money is decimal text in SQLite and `numeric` in
PostgreSQL, so both are exact. Databases are created by `migrations/`, never from this module, which has what statements
need: columns, and how they refer to one another. Checks that refuse impossible rows, and indexes (one of them refuses a
second attempt that may be paid), are in the migrations alone; `tests/test_schema.py` compares them with `jobs.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from batchgen.jobs import ChargeSource, ErrorClass, Outcome, State, Verdict
from batchgen.jobtable.columns import ForeignText, Money, NanoUSD, UTCDateTime, Word
from batchgen.jobtable.kinds import Hold, LimitKind, SettingName

metadata = MetaData()

batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("service", Text, nullable=False),
    Column("manifest_path", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("synced_at", UTCDateTime, nullable=False),
    # When all pending jobs were last compared with the service's log; NULL where some may never have been.
    Column("compared_at", UTCDateTime),
    # Running totals over the batch's attempts (see `ledger.py`) and its delivered files.
    Column("spent_nanousd", NanoUSD, nullable=False),
    Column("reserved_nanousd", NanoUSD, nullable=False),
    Column("unpriced", Integer, nullable=False),
    Column("delivered_bytes", BigInteger, nullable=False),
)

jobs = Table(
    # What was asked, and where it stands.
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("state", Word(State), nullable=False),
    Column("priority", Integer, nullable=False),
    # A person's order, which goes before the manifest's priority: the highest first; 0 for every other job.
    Column("rank", Integer, nullable=False, default=0),
    Column("service", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("clip_seconds", Float),
    Column("input_pointers", Text, nullable=False),
    # The SHA-256 of each local file by its name, as JSON: an object store of outputs has the files by these digests.
    Column("input_files", Text),
    Column("take", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    # The request that a person ordered although it was paid for before.
    Column("repeat_ordered", Text),
    Column("output_path", Text, nullable=False),
    Column("tags", Text, nullable=False),
    # The job that this one was made from by `batchgen next`: its batch may be in another table, or gone.
    Column("parent_batch", Text),
    Column("parent_key", Text),
    Column("attempt_id", Integer, ForeignKey("attempts.id", use_alter=True, deferrable=True)),
    Column("failures", Integer, nullable=False),
    Column("error_class", Word(ErrorClass)),
    Column("error", ForeignText),
    Column("created_at", UTCDateTime, nullable=False),
    Column("delivered_at", UTCDateTime),
    Column("failed_at", UTCDateTime),
    Column("cancelled_at", UTCDateTime),
    Column("next_at", UTCDateTime),
    Column("leased_by", Text),
    Column("leased_until", UTCDateTime),
    UniqueConstraint("batch_id", "key"),
)

attempts = Table(
    # One row for each create request, never deleted: the ledger, and the owner of everything remote.
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("service", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("client_request_id", Text, nullable=False, unique=True),
    # Of the request that was sent: the job's own may be another by now.
    Column("fingerprint", Text, nullable=False),
    Column("intent_at", UTCDateTime, nullable=False),
    Column("answered_at", UTCDateTime),
    Column("outcome", Word(Outcome), nullable=False),
    Column("generation_id", ForeignText),
    Column("handle", ForeignText),
    Column("input_digests", Text),
    Column("remote_status", ForeignText),
    Column("polled_at", UTCDateTime),
    Column("deadline_at", UTCDateTime, nullable=False),
    Column("finished_at", UTCDateTime),
    Column("collect_by", UTCDateTime),
    Column("estimated_usd", Money),
    Column("cost_usd", Money),
    Column("charge_source", Word(ChargeSource)),
    # What the service had named as the charge, where its transactions say something else.
    Column("quoted_usd", Money),
    Column("http_status", Integer),
    Column("error_class", Word(ErrorClass)),
    Column("error", ForeignText),
    Column("released_at", UTCDateTime),
    UniqueConstraint("job_id", "number"),
)

outputs = Table(
    # One row for each file of a generation.
    "outputs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("attempt_id", Integer, ForeignKey("attempts.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("url", ForeignText, nullable=False),
    Column("path", Text),
    Column("bytes", BigInteger),
    Column("sha256", Text),
    Column("etag", ForeignText),
    Column("refused", Text),
    Column("remark", ForeignText),
    Column("delivered_at", UTCDateTime),
    Column("seconds", Float),
    Column("width", Integer),
    Column("height", Integer),
    Column("fps", Float),
    Column("codec", ForeignText),
    # What the file shows (see `files/measures.py`); empty until it was measured, and where it cannot be.
    Column("measured_at", UTCDateTime),
    Column("black", Float),
    Column("frozen", Float),
    Column("unlike_input", Float),
    Column("seconds_off", Float),
    Column("signature", Text),
    Column("copy_of", Integer, ForeignKey("outputs.id", deferrable=True)),
    UniqueConstraint("attempt_id", "number"),
)

verdicts = Table(
    # What a person says of the clip of an attempt. Append-only: the newest row counts, an empty one takes back.
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("attempt_id", Integer, ForeignKey("attempts.id"), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("verdict", Word(Verdict)),
    Column("stars", Integer),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("from_state", Word(State)),
    Column("to_state", Word(State), nullable=False),
    Column("detail", ForeignText),
)

limits = Table(
    # A rate with its pauses, or a number in flight: of a whole service, or (`account`, `model`) as it was learned.
    "limits",
    metadata,
    Column("service", Text, primary_key=True),
    Column("kind", Word(LimitKind), primary_key=True),
    Column("account", Text, primary_key=True, default=""),
    Column("model", Text, primary_key=True, default=""),
    Column("next_free_at", UTCDateTime),
    Column("paused_until", UTCDateTime),
    Column("reason", ForeignText),
    Column("failures", Integer, nullable=False),
    # What AIMD has learned (see `limits/adaptive.py`). Empty where the manifest names the limits.
    Column("window", Float),
    Column("threshold", Float),
    Column("failed_probes", Integer, nullable=False, default=0),
    Column("successes", Integer, nullable=False, default=0),
    Column("used_at", UTCDateTime),
)

timings = Table(
    "timings",
    metadata,
    Column("service", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("clip_seconds", Float, primary_key=True),
    Column("generations", Integer, nullable=False),
    Column("log_mean", Float, nullable=False),
    Column("log_m2", Float, nullable=False),
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
    Column("charged", Text),
    # Of a model that the catalogue lacks: the model of this further name, or its live document with the schemas in it.
    Column("alias_of", Text),
    Column("document_url", ForeignText),
    Column("schemas", Text),
    Column("documented_at", UTCDateTime),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    # False for a run that only its leases show to be alive (`run_lock.py`).
    Column("holds_lock", Boolean, nullable=False),
    Column("started_at", UTCDateTime, nullable=False),
    Column("seen_at", UTCDateTime, nullable=False),
    # The options of the run that select jobs, as JSON; empty where it may send every job.
    Column("selection", Text),
    # The limits that were typed as options of the run, as JSON; empty where it has none.
    Column("limits", Text),
    Column("ended_at", UTCDateTime),
    Column("exit_code", Integer),
    Column("message", ForeignText),
    # What kept the next job from being sent, where the run ended for that.
    Column("hold", Word(Hold)),
)

settings = Table(
    # What governs a batch while runs are at work on it. Append-only: the row that is not replaced counts, and an empty
    # value gives back what the run itself has.
    "settings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("name", Word(SettingName), nullable=False),
    Column("value", Text),
    Column("set_at", UTCDateTime, nullable=False),
    # The person and the machine: anna@studio.
    Column("set_by", Text, nullable=False),
    Column("replaced_at", UTCDateTime),
)

hook_runs = Table(
    # How the command of `--exec` ended for a delivered file. `command` is its SHA-256: the text may hold a secret.
    "hook_runs",
    metadata,
    Column("output_id", Integer, ForeignKey("outputs.id"), primary_key=True),
    Column("command", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Column("began_at", UTCDateTime, nullable=False),
    Column("ended_at", UTCDateTime),
    Column("exit_code", Integer),
    Column("message", ForeignText),
)

moves = Table(
    # The batches that `batchgen db copy` moves to another job table, or has brought from one. `id` names one copy, and
    # is the same in both tables. No run works on a batch that goes to another table, unless it was given back.
    "moves",
    metadata,
    Column("batch_id", Integer, ForeignKey("batches.id"), primary_key=True),
    Column("id", Text, primary_key=True),
    # Path or URL of the other table, without a password.
    Column("goes_to", Text),
    Column("came_from", Text),
    Column("began_at", UTCDateTime, nullable=False),
    # When the copy was complete and verified; NULL while the batch is being moved.
    Column("moved_at", UTCDateTime),
    Column("given_back_at", UTCDateTime),
)
