"""What was found of an account's limits, kept in the rows that hold its rate and its pauses."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TIME = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    for name, kind in (
        ("proven", sa.Integer),
        ("ceiling", sa.Integer),
        ("tries", sa.Integer),
        ("wait", sa.Integer),
        ("try_at", TIME),
        ("refused_at", TIME),
        ("willing_at", TIME),
        ("refusals", sa.Integer),
        ("per_minute", sa.Float),
        ("good", sa.Float),
        ("rate_tries", sa.Integer),
        ("rate_wait", sa.Integer),
        ("resumed_at", TIME),
        ("used_at", TIME),
    ):
        op.add_column("limits", sa.Column(name, kind))
