"""What kept the next job of a run from being sent, where the run ended for that."""

import sqlalchemy as sa
from alembic import op

revision = "v004"
down_revision = "v003"

HOLD = sa.CheckConstraint("hold IN ('budget', 'price', 'time')", name="hold_is_known")


def upgrade() -> None:
    op.add_column("runs", sa.Column("hold", sa.Text, HOLD))
