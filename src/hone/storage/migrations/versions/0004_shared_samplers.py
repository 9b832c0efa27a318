"""Samplers with many clients or with weights that move on, and answers in the order in which they came."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("samplers", sa.Column("inflight", sa.String))
    op.add_column("samplers", sa.Column("clones", sa.Integer, nullable=False, server_default="0"))
    op.create_index("ix_samplers_inflight", "samplers", ["inflight"])
    op.create_index("operations_completed", "operations", ["lane", "finished_at"])


def downgrade() -> None:
    op.drop_index("operations_completed", "operations")
    op.drop_index("ix_samplers_inflight", "samplers")
    op.drop_column("samplers", "clones")
    op.drop_column("samplers", "inflight")
