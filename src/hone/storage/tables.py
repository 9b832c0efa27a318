"""What the database holds. Times are Unix seconds; directories are relative to the data directory.

A change here needs a new revision in `migrations/versions`; a test compares the two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("user_metadata", JSON),
    Column("display_name", String),
    Column("project_id", String),
    # The API key that opened it.
    Column("key_id", Integer),
    Column("sdk_version", String, nullable=False),
    # The client chooses no id, so only this tells a repeated request from a second session.
    Column("idempotency_key", String, unique=True),
    Column("finished_at", Float),
    Column("finish_reason", String),
    Column("finish_detail", Text),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False, index=True),
    Column("base_model", String, nullable=False),
    Column("lora", JSON, nullable=False),
    Column("user_metadata", JSON),
    Column("created_at", Float, nullable=False, index=True),
    # The state that a replay starts from: everything up to and including this sequence number.
    Column("snapshot_seq", Integer),
    Column("snapshot_directory", String),
    # The path of the checkpoint that this run holds a copy of; such a run cannot be trained.
    Column("copied_from", String),
    # What the client named the request by; tells a repeated request from a second copy.
    Column("copy_key", String),
)
Index("runs_copy_key", runs.c.copy_key, unique=True)

samplers = Table(
    "samplers",
    metadata,
    Column("id", String, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False, index=True),
    Column("base_model", String, nullable=False),
    Column("model_path", String),
    # The directory of the adapter version; null samples from the base model itself.
    Column("version", String),
    # Whether the version belongs to this sampler alone and goes with its session.
    Column("ephemeral", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    # The run whose newest inflight weights this sampler follows; null keeps its version for good.
    Column("inflight", String, index=True),
    # How many clients have joined the one that made it; each has a block of sequence numbers.
    Column("clones", Integer, nullable=False, server_default="0"),
)

operations = Table(
    "operations",
    metadata,
    Column("request_id", String, primary_key=True),
    # A model or a sampling session; sequence numbers count within it.
    Column("lane", String, nullable=False),
    Column("seq_id", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    # Tells a repeated submission from a different one under the same number.
    Column("digest", LargeBinary, nullable=False),
    # The request, until a snapshot covers it (models) or it is answered (samples).
    Column("payload", LargeBinary),
    # Drawn at acceptance where the client gave none, so that a replay draws the same.
    Column("seed", BigInteger, nullable=False),
    Column("samples", Integer, nullable=False),
    # The API key that asked; usage is counted for it.
    Column("key_id", Integer),
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("failed", Boolean),
    Column("media_type", String),
    # The bytes of the answer, until their retention time is over.
    Column("outcome", LargeBinary),
    # Of a pass over data: numbers by name, see `Passed`.
    Column("engine", JSON(none_as_null=True)),
)
Index("operations_order", operations.c.lane, operations.c.seq_id, unique=True)
Index(
    "operations_unfinished",
    operations.c.lane,
    sqlite_where=operations.c.finished_at.is_(None),
    postgresql_where=operations.c.finished_at.is_(None),
)
Index("operations_finished", operations.c.finished_at)
Index("operations_completed", operations.c.lane, operations.c.finished_at)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("path", String, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", Float, nullable=False, index=True),
    # A fresh directory for each save, so that overwriting never touches what is being read.
    Column("directory", String, nullable=False),
    Column("size_bytes", BigInteger),
    Column("public", Boolean, nullable=False),
    Column("expires_at", Float),
    Column("user_metadata", JSON),
    Column("base_model", String, nullable=False),
    Column("lora", JSON, nullable=False),
    # Up to when its storage is in `usage`.
    Column("metered_until", Float),
)
Index("checkpoints_expiry", checkpoints.c.expires_at)

# Only to say why a path is gone.
expired_checkpoints = Table(
    "expired_checkpoints",
    metadata,
    Column("path", String, primary_key=True),
    Column("expired_at", Float, nullable=False),
)

organizations = Table(
    "organizations",
    metadata,
    Column("id", String, primary_key=True),
    Column("created_at", Float, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String, primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    # US dollars over all time, by the price table; null is no limit.
    Column("budget_usd", Float),
)

users = Table(
    "users",
    metadata,
    Column("id", String, primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("email", String, nullable=False),
    Column("created_at", Float, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    # 1 is the server's own; the others count up and are never used again.
    Column("id", Integer, primary_key=True, autoincrement=False),
    # SHA-256 of the key: the key itself is nowhere.
    Column("digest", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("note", String, nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("scopes", JSON, nullable=False),
    # Names of base models; null is all of them.
    Column("models", JSON(none_as_null=True)),
    Column("spend_limit_usd", Float),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

# Sums per hour. The project is that of the session, wherever it is moved.
usage = Table(
    "usage",
    metadata,
    # Hours since the epoch.
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("session_id", String, primary_key=True),
    # Empty where a base model itself was sampled.
    Column("run_id", String, primary_key=True),
    # 0 for what was done before there were keys to tell apart.
    Column("key_id", Integer, primary_key=True, autoincrement=False),
    Column("base_model", String, primary_key=True),
    Column("kind", String, primary_key=True),
    # Tokens, checkpoints, or byte-seconds of storage.
    Column("quantity", BigInteger, nullable=False),
)
Index("usage_sessions", usage.c.session_id)
Index("usage_runs", usage.c.run_id)
Index("usage_keys", usage.c.key_id)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    # `<resource>_<action>`
    Column("event", String, nullable=False),
    Column("organization_id", String, nullable=False),
    Column("project_id", String),
    Column("details", JSON, nullable=False),
)
