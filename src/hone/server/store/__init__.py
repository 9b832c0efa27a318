"""What the database knows, one file for each kind of thing."""

from hone.server.store.checkpoints import Checkpoint, CheckpointStore, name_in_use, put_checkpoint
from hone.server.store.copies import CopyStore
from hone.server.store.runs import Run, RunStore, RunSummary, change_run_lora, insert_run
from hone.server.store.samplers import Sampler, SamplerStore, insert_sampler, move_inflight
from hone.server.store.sessions import FoundSession, SessionStore, SessionSummary


class Store(SessionStore, RunStore, SamplerStore, CheckpointStore, CopyStore):
    """All of it behind one name; each part is complete without the others."""


__all__ = [
    "Checkpoint",
    "FoundSession",
    "Run",
    "RunSummary",
    "Sampler",
    "SessionSummary",
    "Store",
    "change_run_lora",
    "insert_run",
    "insert_sampler",
    "move_inflight",
    "name_in_use",
    "put_checkpoint",
]
