"""The job table, its ledger of attempts, outputs, verdicts, events, limits, timings, prices, runs and settings.

A migration is literal: it imports nothing of batchgen, so that it creates the same tables whatever the code says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "v001"
down_revision = None

TIME = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
MONEY = sa.Text().with_variant(sa.Numeric(16, 7), "postgresql")
STATES = "('pending', 'submitting', 'unconfirmed', 'generating', 'downloading', 'done', 'failed', 'cancelled')"
ERROR_CLASSES = (
    "('parameter', 'input_file', 'moderation', 'capacity', 'expired', 'internal', 'unknown', 'no_file',"
    " 'unconfirmed', 'person', 'gone')"
)


def partial_index(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    # Jobs and attempts refer to one another. SQLite takes a reference to a later table, and no constraint afterwards.
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    attempt = sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_jobs_attempt_id", deferrable=True)
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("manifest_path", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("synced_at", TIME, nullable=False),
        sa.Column("compared_at", TIME),
        sa.Column("spent_nanousd", sa.BigInteger, nullable=False),
        sa.Column("reserved_nanousd", sa.BigInteger, nullable=False),
        sa.Column("unpriced", sa.Integer, nullable=False),
        sa.Column("delivered_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint("name", name="uq_batches_name"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("clip_seconds", sa.Float),
        sa.Column("input_pointers", sa.Text, nullable=False),
        sa.Column("input_files", sa.Text),
        sa.Column("take", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("repeat_ordered", sa.Text),
        sa.Column("output_path", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("parent_batch", sa.Text),
        sa.Column("parent_key", sa.Text),
        sa.Column("attempt_id", sa.Integer),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("error_class", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("delivered_at", TIME),
        sa.Column("failed_at", TIME),
        sa.Column("cancelled_at", TIME),
        sa.Column("next_at", TIME),
        sa.Column("leased_by", sa.Text),
        sa.Column("leased_until", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_jobs_batch_id"),
        *([attempt] if is_sqlite else []),
        sa.UniqueConstraint("batch_id", "key", name="uq_jobs_batch_id_key"),
        sa.CheckConstraint(f"state IN {STATES}", name="state_is_known"),
        sa.CheckConstraint(f"error_class IN {ERROR_CLASSES}", name="error_class_is_known"),
        sa.CheckConstraint("(state = 'done') = (delivered_at IS NOT NULL)", name="done_iff_delivered_at"),
        sa.CheckConstraint("(state = 'failed') = (failed_at IS NOT NULL)", name="failed_iff_failed_at"),
        sa.CheckConstraint("(state = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled_iff_cancelled_at"),
        sa.CheckConstraint(
            "NOT (state IN ('submitting', 'unconfirmed', 'generating', 'downloading', 'done'))"
            " OR attempt_id IS NOT NULL",
            name="sent_has_attempt",
        ),
        sa.CheckConstraint("state <> 'pending' OR attempt_id IS NULL", name="pending_has_no_attempt"),
        sa.CheckConstraint("(parent_batch IS NULL) = (parent_key IS NULL)", name="parent_is_whole"),
        sa.CheckConstraint("(leased_by IS NULL) = (leased_until IS NULL)", name="lease_is_whole"),
        sa.CheckConstraint("state <> 'submitting' OR leased_by IS NOT NULL", name="submitting_is_leased"),
    )
    order = [sa.text("rank DESC"), sa.text("priority DESC")]
    op.create_index("ix_jobs_pending", "jobs", ["batch_id", "state", *order, "id"])
    op.create_index("ix_jobs_due", "jobs", ["batch_id", "state", "next_at"])
    partial_index("ix_jobs_leased", "jobs", ["leased_by"], "leased_by IS NOT NULL")
    partial_index("ix_jobs_parent", "jobs", ["parent_batch", "parent_key"], "parent_key IS NOT NULL")
    partial_index("ix_jobs_failed", "jobs", ["batch_id", "failed_at"], "failed_at IS NOT NULL")
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("client_request_id", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("intent_at", TIME, nullable=False),
        sa.Column("answered_at", TIME),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("generation_id", sa.Text),
        sa.Column("handle", sa.Text),
        sa.Column("input_digests", sa.Text),
        sa.Column("remote_status", sa.Text),
        sa.Column("polled_at", TIME),
        sa.Column("deadline_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("collect_by", TIME),
        sa.Column("estimated_usd", MONEY),
        sa.Column("cost_usd", MONEY),
        sa.Column("charge_source", sa.Text),
        sa.Column("quoted_usd", MONEY),
        sa.Column("http_status", sa.Integer),
        sa.Column("error_class", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("released_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
        sa.UniqueConstraint("client_request_id", name="uq_attempts_client_request_id"),
        sa.UniqueConstraint("job_id", "number", name="uq_attempts_job_id_number"),
        sa.CheckConstraint(
            "outcome IN ('sending', 'unconfirmed', 'accepted', 'rejected', 'not_sent', 'throttled', 'blocked',"
            " 'absent')",
            name="outcome_is_known",
        ),
        sa.CheckConstraint(f"error_class IN {ERROR_CLASSES}", name="attempt_error_class_is_known"),
        sa.CheckConstraint(
            "charge_source IN ('answer', 'poll', 'log', 'ledger', 'estimate')", name="charge_source_is_known"
        ),
        sa.CheckConstraint("cost_usd IS NULL OR charge_source IS NOT NULL", name="cost_has_source"),
        sa.CheckConstraint("(outcome = 'accepted') = (generation_id IS NOT NULL)", name="accepted_iff_generation_id"),
        sa.CheckConstraint("outcome = 'accepted' OR finished_at IS NULL", name="finished_was_accepted"),
    )
    if not is_sqlite:
        op.create_foreign_key("fk_jobs_attempt_id", "jobs", "attempts", ["attempt_id"], ["id"], deferrable=True)
    unreleased = "released_at IS NULL AND outcome IN ('sending', 'unconfirmed', 'accepted')"
    partial_index("ux_attempts_one_open", "attempts", ["job_id"], unreleased, unique=True)
    op.create_index("ux_attempts_generation", "attempts", ["generation_id", "service", "account"], unique=True)
    op.create_index("ix_attempts_fingerprint", "attempts", ["fingerprint"])
    partial_index(
        "ix_attempts_in_flight", "attempts", ["service", "model", "outcome"], f"finished_at IS NULL AND {unreleased}"
    )
    partial_index("ix_attempts_uncharged", "attempts", ["job_id"], "cost_usd IS NULL AND outcome = 'accepted'")
    op.create_table(
        "outputs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("attempt_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("path", sa.Text),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("etag", sa.Text),
        sa.Column("refused", sa.Text),
        sa.Column("remark", sa.Text),
        sa.Column("delivered_at", TIME),
        sa.Column("seconds", sa.Float),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("fps", sa.Float),
        sa.Column("codec", sa.Text),
        sa.Column("measured_at", TIME),
        sa.Column("black", sa.Float),
        sa.Column("frozen", sa.Float),
        sa.Column("unlike_input", sa.Float),
        sa.Column("seconds_off", sa.Float),
        sa.Column("signature", sa.Text),
        sa.Column("copy_of", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_outputs"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_outputs_attempt_id"),
        sa.ForeignKeyConstraint(["copy_of"], ["outputs.id"], name="fk_outputs_copy_of", deferrable=True),
        sa.UniqueConstraint("attempt_id", "number", name="uq_outputs_attempt_id_number"),
        sa.CheckConstraint(
            "delivered_at IS NULL OR (path IS NOT NULL AND sha256 IS NOT NULL AND bytes IS NOT NULL AND bytes > 0)",
            name="delivered_has_file",
        ),
    )
    partial_index("ix_outputs_remarked", "outputs", ["attempt_id"], "remark IS NOT NULL")
    partial_index("ix_outputs_unmeasured", "outputs", ["id"], "delivered_at IS NOT NULL AND measured_at IS NULL")
    partial_index(
        *("ix_outputs_suspect", "outputs", ["attempt_id"]),
        "measured_at IS NOT NULL AND (black IS NULL OR black >= 0.5 OR frozen >= 0.5 OR unlike_input >= 0.55"
        " OR abs(seconds_off) > 0.5 OR copy_of IS NOT NULL)",
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("attempt_id", sa.Integer, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("stars", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_verdicts"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_verdicts_attempt_id"),
        sa.CheckConstraint("verdict IN ('picked', 'rejected')", name="verdict_is_known"),
        sa.CheckConstraint("stars BETWEEN 1 AND 5", name="stars_are_few"),
    )
    op.create_index("ix_verdicts_attempt", "verdicts", ["attempt_id", "id"])
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("from_state", sa.Text),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_events_batch_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id"),
        sa.CheckConstraint(f"from_state IN {STATES}", name="from_state_is_known"),
        sa.CheckConstraint(f"to_state IN {STATES}", name="to_state_is_known"),
    )
    op.create_index("ix_events_batch", "events", ["batch_id", "id"])
    op.create_index("ix_events_job", "events", ["job_id"])
    op.create_table(
        "limits",
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("next_free_at", TIME),
        sa.Column("paused_until", TIME),
        sa.Column("reason", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("window", sa.Float),
        sa.Column("threshold", sa.Float),
        sa.Column("failed_probes", sa.Integer, nullable=False),
        sa.Column("successes", sa.Integer, nullable=False),
        sa.Column("used_at", TIME),
        sa.PrimaryKeyConstraint("service", "kind", "account", "model", name="pk_limits"),
        sa.CheckConstraint("kind IN ('submits', 'polls', 'in_flight')", name="limit_kind_is_known"),
    )
    op.create_table(
        "timings",
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("clip_seconds", sa.Float, nullable=False),
        sa.Column("generations", sa.Integer, nullable=False),
        sa.Column("log_mean", sa.Float, nullable=False),
        sa.Column("log_m2", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("service", "model", "clip_seconds", name="pk_timings"),
    )
    op.create_table(
        "prices",
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("pricing", sa.Text),
        sa.Column("etag", sa.Text),
        sa.Column("listed_at", TIME),
        sa.Column("highest_usd", MONEY),
        sa.Column("alias_of", sa.Text),
        sa.Column("document_url", sa.Text),
        sa.Column("schemas", sa.Text),
        sa.Column("documented_at", TIME),
        sa.PrimaryKeyConstraint("service", "model", name="pk_prices"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("holds_lock", sa.Boolean, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("selection", sa.Text),
        sa.Column("limits", sa.Text),
        sa.Column("ended_at", TIME),
        sa.Column("exit_code", sa.Integer),
        sa.Column("message", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_runs_batch_id"),
    )
    op.create_index("ix_runs_batch", "runs", ["batch_id"])
    op.create_table(
        "settings",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text),
        sa.Column("set_at", TIME, nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("replaced_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_settings"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_settings_batch_id"),
        sa.CheckConstraint(
            "name IN ('manifest', 'paused', 'in_flight', 'submits_per_minute', 'polls_per_minute', 'downloads',"
            " 'max_cost', 'until', 'prioritized', 'retried', 'cancelled', 'resolved')",
            name="setting_name_is_known",
        ),
    )
    partial_index("ux_settings_current", "settings", ["batch_id", "name"], "replaced_at IS NULL", unique=True)
    op.create_table(
        "hook_runs",
        sa.Column("output_id", sa.Integer, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("exit_code", sa.Integer),
        sa.Column("message", sa.Text),
        sa.PrimaryKeyConstraint("output_id", "command", name="pk_hook_runs"),
        sa.ForeignKeyConstraint(["output_id"], ["outputs.id"], name="fk_hook_runs_output_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_hook_runs_run_id"),
        sa.CheckConstraint("(ended_at IS NULL) = (exit_code IS NULL)", name="ended_has_exit_code"),
    )
    op.create_table(
        "moves",
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("goes_to", sa.Text),
        sa.Column("came_from", sa.Text),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("moved_at", TIME),
        sa.Column("given_back_at", TIME),
        sa.PrimaryKeyConstraint("batch_id", "id", name="pk_moves"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_moves_batch_id"),
        sa.CheckConstraint("(goes_to IS NULL) <> (came_from IS NULL)", name="move_has_one_direction"),
        sa.CheckConstraint("moved_at IS NULL OR given_back_at IS NULL", name="move_has_one_end"),
    )
