"""Builds a running engine; beside the contract, the only thing that the server imports from here."""

from collections.abc import Sequence

from hone.engine.contract import Device, Engine, ModelSource
from hone.engine.remote import RemoteEngine


async def start_engine(
    sources: Sequence[ModelSource],
    *,
    threads: int | None = None,
    held: Sequence[int] = (),
    device: Device | None = None,
    memory_bytes: int | None = None,
    **limits: int | None,
) -> Engine:
    """An engine process with these base models, ready for operations.

    `threads` of the math library, by default one, and as many workers as there are cores for (`hone.cores`). `held` are
    files that the process keeps open until it ends. `device` is a CPU if none is given. `memory_bytes` is divided as
    `hone.memory` says; `limits` are those of `hone.engine.limits.Limits`, which go before it. Raises `UserError` if a
    model cannot be loaded, or not in so much memory.
    """
    given = {name: limit for name, limit in limits.items() if limit is not None}
    engine = RemoteEngine(sources, threads, held, device or Device(), memory_bytes, given)
    await engine.start()
    return engine
