"""Sessions, runs, samplers, the journal of operations, checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("user_metadata", sa.JSON),
        sa.Column("display_name", sa.String),
        sa.Column("project_id", sa.String),
        sa.Column("sdk_version", sa.String, nullable=False),
        sa.Column("idempotency_key", sa.String, unique=True),
        sa.Column("finished_at", sa.Float),
        sa.Column("finish_reason", sa.String),
        sa.Column("finish_detail", sa.Text),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("session_id", sa.String, sa.ForeignKey("sessions.id"), nullable=False, index=True),
        sa.Column("base_model", sa.String, nullable=False),
        sa.Column("lora", sa.JSON, nullable=False),
        sa.Column("user_metadata", sa.JSON),
        sa.Column("created_at", sa.Float, nullable=False, index=True),
        sa.Column("snapshot_seq", sa.Integer),
        sa.Column("snapshot_directory", sa.String),
    )
    op.create_table(
        "samplers",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("session_id", sa.String, sa.ForeignKey("sessions.id"), nullable=False, index=True),
        sa.Column("base_model", sa.String, nullable=False),
        sa.Column("model_path", sa.String),
        sa.Column("version", sa.String),
        sa.Column("ephemeral", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "operations",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("lane", sa.String, nullable=False),
        sa.Column("seq_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column("accepted_at", sa.Float, nullable=False),
        sa.Column("finished_at", sa.Float),
        sa.Column("failed", sa.Boolean),
        sa.Column("media_type", sa.String),
        sa.Column("outcome", sa.LargeBinary),
    )
    op.create_index("operations_order", "operations", ["lane", "seq_id"], unique=True)
    op.create_index(
        "operations_unfinished",
        "operations",
        ["lane"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("operations_finished", "operations", ["finished_at"])
    op.create_table(
        "checkpoints",
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), nullable=False, index=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False, index=True),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("user_metadata", sa.JSON),
        sa.Column("base_model", sa.String, nullable=False),
        sa.Column("lora", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("checkpoints", "operations", "samplers", "runs", "sessions"):
        op.drop_table(table)
