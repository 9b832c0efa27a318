"""Brings a model into the engine: room for it, then its newest snapshot."""

from hone.engine.contract import LoadAdapter
from hone.errors import EngineLostError, HoneError, NotFoundError
from hone.protocol.lora import check_lora
from hone.server.journal import Entry
from hone.server.lanes.presence import Presence
from hone.server.lanes.shared import Shared
from hone.server.operations.create_model import new_model
from hone.server.residency import BYTES_PER_PARAMETER

NOTHING_COVERED = -1
"""The number up to which a model without a snapshot is there."""


async def bytes_needed(model_id: str, shared: Shared, first: Entry | None) -> int:
    """In the engine's memory; 0 for what only the engine can tell. `first` is what comes first for the model: perhaps
    what makes it."""
    context = shared.context
    try:
        run = await context.store.run(model_id)
        base_model, lora = run.base_model, run.lora
    except NotFoundError:
        if first is None or first.kind != "create_model":
            return 0
        try:
            base_model, lora = new_model(first)
            check_lora(lora)
        except HoneError:
            return 0  # its answer will say what is wrong
    if base_model not in context.models:
        return 0
    return BYTES_PER_PARAMETER * context.models[base_model].adapter_parameters(lora)


async def load_snapshot(model_id: str, shared: Shared, presence: Presence, generation: int) -> int | None:
    """The number up to which the engine now has the model; None if the engine ended."""
    context = shared.context
    try:
        run = await context.store.run(model_id)
    except NotFoundError:
        return NOTHING_COVERED  # not made yet
    if run.snapshot_directory is None:
        return NOTHING_COVERED
    await context.blobs.fetch(run.snapshot_directory)
    directory = str(context.blobs.path(run.snapshot_directory))
    share = await context.shares.of_session(run.session_id)
    load = LoadAdapter(model_id, run.base_model, directory, with_optimizer=True, share=share)
    try:
        await shared.keeper.submit(load)
    except EngineLostError:
        presence.lost(generation)
        return None
    return run.snapshot_seq
