"""What the operations that save under a name have in common."""

import time
from pathlib import Path

from hone.protocol.uris import CheckpointPath
from hone.server.journal import Entry
from hone.server.operations.handler import Context
from hone.server.store import Checkpoint, name_in_use
from hone.storage.atomic import remove_tree


def checkpoint_directory(path: CheckpointPath, entry: Entry) -> str:
    """Relative to the data directory. The number makes it a fresh one for each save under the same name."""
    return f"checkpoints/{path.run_id}/{path.kind}/{path.name}@{entry.seq_id}"


async def free_directory(path: CheckpointPath, entry: Entry, overwrite: bool, context: Context) -> Path:
    """Where this save goes; `UserError` if the name is in use."""
    if not overwrite and await context.store.has_checkpoint(path):
        raise name_in_use(path)
    directory = context.blobs.path(checkpoint_directory(path, entry))
    remove_tree(directory)  # left there if a save was cut short after its files and before its answer
    return directory


async def saved_now(
    path: CheckpointPath,
    entry: Entry,
    size_bytes: int | None,
    ttl_seconds: int | None,
    user_metadata: dict[str, str] | None,
    context: Context,
) -> Checkpoint:
    """The new checkpoint of the entry's run."""
    run, now = await context.store.run(entry.lane), time.time()
    return Checkpoint(
        path=path,
        created_at=now,
        directory=checkpoint_directory(path, entry),
        size_bytes=size_bytes,
        public=False,
        expires_at=None if ttl_seconds is None else now + ttl_seconds,
        user_metadata=user_metadata,
        base_model=run.base_model,
        lora=run.lora,
    )
