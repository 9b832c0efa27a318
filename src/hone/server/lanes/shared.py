"""What all lanes use."""

import logging
from dataclasses import dataclass

from hone.errors import UserError
from hone.server.budgets import Budgets
from hone.server.futures import Futures
from hone.server.journal import Entry, Journal
from hone.server.operations import Context
from hone.server.recovery import EngineKeeper
from hone.server.residency import Residency
from hone.server.snapshots import SnapshotPolicy
from hone.server.versions import Versions


@dataclass(frozen=True)
class Shared:
    context: Context
    journal: Journal
    futures: Futures
    keeper: EngineKeeper
    versions: Versions
    budgets: Budgets
    policy: SnapshotPolicy
    residency: Residency
    gap_seconds: float
    idle_seconds: float


def is_over(model_id: str) -> UserError:
    return UserError(
        f"model_id {model_id} takes no more work: it was unloaded, or its session is finished; "
        "make a training client from one of its checkpoints"
    )


def log_ours(log: logging.Logger, entry: Entry, error: Exception) -> None:
    """What is the caller's mistake is in the answer; what is ours is also in the log."""
    if not isinstance(error, UserError):
        log.error("%s (%s) failed", entry.request_id, entry.kind, exc_info=error)
