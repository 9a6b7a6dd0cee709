"""What was charged for a model, by the length of the clip and by the price that was expected, as JSON."""

import sqlalchemy as sa
from alembic import op

revision = "v003"
down_revision = "v002"


def upgrade() -> None:
    with op.batch_alter_table("prices") as table:
        table.add_column(sa.Column("charged", sa.Text))
