"""Runs that are copies of a checkpoint, and what is remembered of checkpoints whose time was over."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("copied_from", sa.String))
    op.add_column("runs", sa.Column("copy_key", sa.String))
    op.create_index("runs_copy_key", "runs", ["copy_key"], unique=True)
    op.create_index("checkpoints_expiry", "checkpoints", ["expires_at"])
    op.create_table(
        "expired_checkpoints",
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("expired_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("expired_checkpoints")
    op.drop_index("checkpoints_expiry", "checkpoints")
    op.drop_index("runs_copy_key", "runs")
    op.drop_column("runs", "copy_key")
    op.drop_column("runs", "copied_from")
