"""The job table, its ledger of attempts, its events, the limits, the timings, the prices and the runs.

A migration is literal: it imports nothing of batchgen, so that it creates the same tables whatever the code says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
MONEY = sa.Text().with_variant(sa.Numeric(16, 7), "postgresql")


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("manifest_path", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("enrolled_at", TIME, nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("unpriced", sa.Integer, nullable=False),
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
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("base_url", sa.Text),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("input_pointers", sa.Text, nullable=False),
        sa.Column("input_digests", sa.Text),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("attempt_id", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("generation_id", sa.Text),
        sa.Column("remote_status", sa.Text),
        sa.Column("video_url", sa.Text),
        sa.Column("etag", sa.Text),
        sa.Column("output_path", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("estimated_usd", MONEY),
        sa.Column("cost_usd", MONEY),
        sa.Column("error_class", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("submitted_at", TIME),
        sa.Column("polled_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("delivered_at", TIME),
        sa.Column("failed_at", TIME),
        sa.Column("cancelled_at", TIME),
        sa.Column("deadline_at", TIME),
        sa.Column("next_at", TIME),
        sa.Column("leased_by", sa.Text),
        sa.Column("leased_until", TIME),
        sa.Column("selection", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_jobs_batch_id"),
        sa.UniqueConstraint("batch_id", "key", name="uq_jobs_batch_id_key"),
        sa.CheckConstraint(
            "state IN ('pending', 'submitting', 'unconfirmed', 'generating', 'downloading', 'done', 'failed',"
            " 'cancelled')",
            name="state_is_known",
        ),
        sa.CheckConstraint("(state = 'done') = (delivered_at IS NOT NULL)", name="done_iff_delivered_at"),
        sa.CheckConstraint("(state = 'failed') = (failed_at IS NOT NULL)", name="failed_iff_failed_at"),
        sa.CheckConstraint("(state = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled_iff_cancelled_at"),
        sa.CheckConstraint(
            "NOT (state IN ('generating', 'downloading', 'done')) OR generation_id IS NOT NULL",
            name="accepted_has_generation_id",
        ),
        sa.CheckConstraint(
            "NOT (state IN ('pending', 'submitting', 'unconfirmed')) OR generation_id IS NULL",
            name="unaccepted_has_no_generation_id",
        ),
        sa.CheckConstraint(
            "NOT (state IN ('submitting', 'unconfirmed', 'generating', 'downloading', 'done'))"
            " OR attempt_id IS NOT NULL",
            name="sent_has_attempt",
        ),
        sa.CheckConstraint("state <> 'done' OR (sha256 IS NOT NULL AND bytes > 0)", name="done_has_file"),
        sa.CheckConstraint("(leased_by IS NULL) = (leased_until IS NULL)", name="lease_is_whole"),
        sa.CheckConstraint("state <> 'submitting' OR leased_by IS NOT NULL", name="submitting_is_leased"),
    )
    op.create_index("ix_jobs_pending", "jobs", ["batch_id", "state", sa.text("priority DESC"), "id"])
    op.create_index("ix_jobs_due", "jobs", ["batch_id", "state", "next_at"])
    in_flight = sa.text("state IN ('submitting', 'unconfirmed', 'generating')")
    op.create_index(
        "ix_jobs_in_flight", "jobs", ["service", "state"], sqlite_where=in_flight, postgresql_where=in_flight
    )
    leased = sa.text("leased_by IS NOT NULL")
    op.create_index("ix_jobs_leased", "jobs", ["leased_by"], sqlite_where=leased, postgresql_where=leased)
    selected = sa.text("selection IS NOT NULL")
    op.create_index(
        "ix_jobs_selected",
        "jobs",
        ["selection", "batch_id", "state", sa.text("priority DESC"), "id"],
        sqlite_where=selected,
        postgresql_where=selected,
    )
    failed = sa.text("failed_at IS NOT NULL")
    op.create_index("ix_jobs_failed", "jobs", ["batch_id", "failed_at"], sqlite_where=failed, postgresql_where=failed)
    done = sa.text("state = 'done'")
    op.create_index(
        "ix_jobs_delivered", "jobs", ["batch_id", "state", "bytes"], sqlite_where=done, postgresql_where=done
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("client_request_id", sa.Text, nullable=False),
        sa.Column("sent_at", TIME, nullable=False),
        sa.Column("answered_at", TIME),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("generation_id", sa.Text),
        sa.Column("http_status", sa.Integer),
        sa.Column("estimated_usd", MONEY),
        sa.Column("cost_usd", MONEY),
        sa.Column("error", sa.Text),
        sa.Column("released_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
        sa.UniqueConstraint("client_request_id", name="uq_attempts_client_request_id"),
        sa.CheckConstraint(
            "outcome IN ('sending', 'unconfirmed', 'accepted', 'rejected', 'not_sent', 'throttled', 'blocked',"
            " 'absent')",
            name="outcome_is_known",
        ),
        sa.CheckConstraint("outcome <> 'accepted' OR generation_id IS NOT NULL", name="accepted_attempt_has_id"),
    )
    op.create_index("ix_attempts_job", "attempts", ["job_id"])
    unreleased = sa.text("released_at IS NULL AND outcome IN ('sending', 'unconfirmed', 'accepted')")
    op.create_index(
        "ux_attempts_one_open",
        "attempts",
        ["job_id"],
        unique=True,
        sqlite_where=unreleased,
        postgresql_where=unreleased,
    )
    uncharged = sa.text("cost_usd IS NULL AND outcome = 'accepted'")
    op.create_index("ix_attempts_uncharged", "attempts", ["job_id"], sqlite_where=uncharged, postgresql_where=uncharged)
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("from_state", sa.Text),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id"),
    )
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
        sa.Column("clip_seconds", sa.Text, nullable=False),
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
        sa.PrimaryKeyConstraint("service", "model", name="pk_prices"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("exit_code", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_runs_batch_id"),
    )
