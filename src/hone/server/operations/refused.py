"""A numbered request that could not be read: it uses up its number, and its future says what was wrong."""

from hone.engine.contract import Operation
from hone.errors import UserError
from hone.server.journal import Entry
from hone.server.operations.handler import Concluded, Context

REFUSED = "refused"


class Refused:
    """The payload is the message."""

    def repeats(self, entry: Entry, context: Context) -> bool:
        return False

    async def prepare(self, entry: Entry, context: Context) -> Operation:
        raise UserError(entry.payload.decode())

    async def conclude(self, entry: Entry, operation: Operation, result: object, context: Context) -> Concluded:
        raise AssertionError("never prepared, so never run")
