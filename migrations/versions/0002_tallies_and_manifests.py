"""Counts that the database keeps of itself, manifests that need not be read again, and an index over failures.

Literal on purpose: a migration says what a database of its day looked like, whatever the code says now. A later one
that makes `jobs` or `batches` anew (as Alembic's batch mode does in SQLite) has to make their triggers anew as well.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

STATES = ("pending", "submitting", "unconfirmed", "generating", "downloading", "done", "failed", "cancelled")

SQLITE = (
    """
    CREATE TRIGGER tally_batch AFTER INSERT ON batches BEGIN
        INSERT INTO tallies (batch_id, state, jobs, bytes) VALUES
            (NEW.id, 'pending', 0, 0), (NEW.id, 'submitting', 0, 0), (NEW.id, 'unconfirmed', 0, 0),
            (NEW.id, 'generating', 0, 0), (NEW.id, 'downloading', 0, 0), (NEW.id, 'done', 0, 0),
            (NEW.id, 'failed', 0, 0), (NEW.id, 'cancelled', 0, 0);
    END
    """,
    """
    CREATE TRIGGER untally_batch AFTER DELETE ON batches BEGIN
        DELETE FROM tallies WHERE batch_id = OLD.id;
    END
    """,
    """
    CREATE TRIGGER tally_job AFTER INSERT ON jobs BEGIN
        UPDATE tallies SET jobs = jobs + 1, bytes = bytes + coalesce(NEW.bytes, 0)
        WHERE batch_id = NEW.batch_id AND state = NEW.state;
    END
    """,
    """
    CREATE TRIGGER untally_job AFTER DELETE ON jobs BEGIN
        UPDATE tallies SET jobs = jobs - 1, bytes = bytes - coalesce(OLD.bytes, 0)
        WHERE batch_id = OLD.batch_id AND state = OLD.state;
    END
    """,
    """
    CREATE TRIGGER retally_job AFTER UPDATE OF batch_id, state, bytes ON jobs
    WHEN OLD.state <> NEW.state OR OLD.bytes IS NOT NEW.bytes OR OLD.batch_id <> NEW.batch_id BEGIN
        UPDATE tallies SET jobs = jobs - 1, bytes = bytes - coalesce(OLD.bytes, 0)
        WHERE batch_id = OLD.batch_id AND state = OLD.state;
        UPDATE tallies SET jobs = jobs + 1, bytes = bytes + coalesce(NEW.bytes, 0)
        WHERE batch_id = NEW.batch_id AND state = NEW.state;
    END
    """,
)

# Rows that come or go do so by the thousand and are counted once a statement; rows that move do so one by one.
POSTGRESQL = (
    """
    CREATE FUNCTION tally_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO tallies (batch_id, state, jobs, bytes) VALUES
            (NEW.id, 'pending', 0, 0), (NEW.id, 'submitting', 0, 0), (NEW.id, 'unconfirmed', 0, 0),
            (NEW.id, 'generating', 0, 0), (NEW.id, 'downloading', 0, 0), (NEW.id, 'done', 0, 0),
            (NEW.id, 'failed', 0, 0), (NEW.id, 'cancelled', 0, 0);
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION untally_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        DELETE FROM tallies WHERE batch_id = OLD.id;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION tally_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE tallies SET jobs = tallies.jobs + come.jobs, bytes = tallies.bytes + come.bytes
        FROM (SELECT batch_id, state, count(*) AS jobs, coalesce(sum(bytes), 0) AS bytes FROM these GROUP BY 1, 2) come
        WHERE tallies.batch_id = come.batch_id AND tallies.state = come.state;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION untally_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE tallies SET jobs = tallies.jobs - gone.jobs, bytes = tallies.bytes - gone.bytes
        FROM (SELECT batch_id, state, count(*) AS jobs, coalesce(sum(bytes), 0) AS bytes FROM these GROUP BY 1, 2) gone
        WHERE tallies.batch_id = gone.batch_id AND tallies.state = gone.state;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION retally_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE tallies SET jobs = jobs - 1, bytes = bytes - coalesce(OLD.bytes, 0)
        WHERE batch_id = OLD.batch_id AND state = OLD.state;
        UPDATE tallies SET jobs = jobs + 1, bytes = bytes + coalesce(NEW.bytes, 0)
        WHERE batch_id = NEW.batch_id AND state = NEW.state;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER tally_batch AFTER INSERT ON batches FOR EACH ROW EXECUTE FUNCTION tally_batch()",
    "CREATE TRIGGER untally_batch AFTER DELETE ON batches FOR EACH ROW EXECUTE FUNCTION untally_batch()",
    "CREATE TRIGGER tally_job AFTER INSERT ON jobs REFERENCING NEW TABLE AS these"
    " FOR EACH STATEMENT EXECUTE FUNCTION tally_job()",
    "CREATE TRIGGER untally_job AFTER DELETE ON jobs REFERENCING OLD TABLE AS these"
    " FOR EACH STATEMENT EXECUTE FUNCTION untally_job()",
    "CREATE TRIGGER retally_job AFTER UPDATE OF batch_id, state, bytes ON jobs FOR EACH ROW"
    " WHEN (OLD.state <> NEW.state OR OLD.bytes IS DISTINCT FROM NEW.bytes OR OLD.batch_id <> NEW.batch_id)"
    " EXECUTE FUNCTION retally_job()",
)


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("jobs", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "state", name="pk_tallies"),
        sqlite_with_rowid=False,
    )
    for state in STATES:
        op.execute(
            "INSERT INTO tallies (batch_id, state, jobs, bytes)"  # noqa: S608
            f" SELECT batches.id, '{state}', count(jobs.id), coalesce(sum(jobs.bytes), 0)"
            f" FROM batches LEFT JOIN jobs ON jobs.batch_id = batches.id AND jobs.state = '{state}' GROUP BY batches.id"
        )
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)
    op.create_table(
        "manifests",
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("batchgen", sa.Text, nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("validated", sa.Boolean, nullable=False),
        sa.Column("jobs", sa.Integer, nullable=False),
        sa.Column("rows_held", sa.Integer, nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("named", sa.Text, nullable=False),
        sa.Column("images", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", name="pk_manifests"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_manifests_batch_id"),
    )
    failed = sa.text("failed_at IS NOT NULL")
    op.create_index("ix_jobs_failed", "jobs", ["batch_id", "failed_at"], sqlite_where=failed, postgresql_where=failed)
