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
)

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
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("failed", Boolean),
    Column("media_type", String),
    # The bytes of the answer, until their retention time is over.
    Column("outcome", LargeBinary),
)
Index("operations_order", operations.c.lane, operations.c.seq_id, unique=True)
Index(
    "operations_unfinished",
    operations.c.lane,
    sqlite_where=operations.c.finished_at.is_(None),
    postgresql_where=operations.c.finished_at.is_(None),
)
Index("operations_finished", operations.c.finished_at)

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
)
