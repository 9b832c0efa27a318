"""What every kind of operation is, to the worker that runs it."""

from dataclasses import dataclass
from typing import Any, Protocol

from hone.engine.contract import BaseModel, Operation
from hone.errors import UserError
from hone.protocol.futures import Outcome
from hone.server.journal import Entry, Journal, Passed, Write
from hone.server.shares import Shares
from hone.server.store import Store
from hone.server.usage import NOTHING, Amounts
from hone.storage.blobs import Blobs


@dataclass(frozen=True)
class Context:
    """What handlers may look at."""

    models: dict[str, BaseModel]
    store: Store
    journal: Journal
    blobs: Blobs
    shares: Shares

    def base_model(self, name: str) -> BaseModel:
        if name not in self.models:
            raise UserError(f"base_model {name!r} is not served here; this server has {', '.join(self.models)}")
        return self.models[name]


@dataclass(frozen=True)
class Concluded:
    """An answer, and what is written and counted in the database in the same transaction."""

    outcome: Outcome
    write: Write | None = None
    used: Amounts = NOTHING
    passed: Passed | None = None


class Handler(Protocol):
    """One kind of operation, from the accepted request to the engine and back.

    An operation is prepared again after a crash, so `prepare` reads nothing that later operations of its model change.
    Both methods raise `HoneError` for what becomes a failed answer.
    """

    def repeats(self, entry: Entry, context: Context) -> bool:
        """Whether rebuilding the model needs this operation again although it was answered."""
        ...

    async def prepare(self, entry: Entry, context: Context) -> Operation: ...

    async def conclude(self, entry: Entry, operation: Any, result: Any, context: Context) -> Concluded: ...
