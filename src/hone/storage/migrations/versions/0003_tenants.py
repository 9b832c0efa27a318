"""Organisations, projects, users and keys; an owner for everything; usage and audit.

What is there already belongs to the project `default`, or to the project that its session named.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    organizations = op.create_table(
        "organizations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    projects = op.create_table(
        "projects",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("organization_id", sa.String, sa.ForeignKey("organizations.id"), nullable=False, index=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("budget_usd", sa.Float),
    )
    users = op.create_table(
        "users",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("organization_id", sa.String, sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("email", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String, nullable=False, unique=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("user_id", sa.String, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("spend_limit_usd", sa.Float),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_table(
        "usage",
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("session_id", sa.String, primary_key=True),
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("key_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("base_model", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("quantity", sa.BigInteger, nullable=False),
    )
    op.create_index("usage_sessions", "usage", ["session_id"])
    op.create_index("usage_runs", "usage", ["run_id"])
    op.create_index("usage_keys", "usage", ["key_id"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False, index=True),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("organization_id", sa.String, nullable=False),
        sa.Column("project_id", sa.String),
        sa.Column("details", sa.JSON, nullable=False),
    )
    op.add_column("sessions", sa.Column("key_id", sa.Integer))
    op.add_column("operations", sa.Column("key_id", sa.Integer))
    op.add_column("checkpoints", sa.Column("metered_until", sa.Float))

    now = time.time()
    op.bulk_insert(organizations, [{"id": "local", "created_at": now}])
    op.execute("UPDATE sessions SET project_id = 'default' WHERE project_id IS NULL OR project_id = ''")
    named = op.get_bind().execute(sa.text("SELECT DISTINCT project_id FROM sessions")).scalars()
    made = [{"id": id, "organization_id": "local", "created_at": now} for id in sorted({"default", *named})]
    op.bulk_insert(projects, made)
    op.bulk_insert(users, [{"id": "local", "organization_id": "local", "email": "local@localhost", "created_at": now}])


def downgrade() -> None:
    op.drop_column("checkpoints", "metered_until")
    op.drop_column("operations", "key_id")
    op.drop_column("sessions", "key_id")
    for table in ("audit", "usage", "api_keys", "users", "projects", "organizations"):
        op.drop_table(table)
