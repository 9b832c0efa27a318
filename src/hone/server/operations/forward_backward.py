"""Gradients of a loss, or with `forward_only` its outputs alone."""

import asyncio

from hone.engine import contract
from hone.protocol import codec
from hone.protocol.futures import PROTOBUF, Outcome
from hone.protocol.types import ForwardBackwardResult
from hone.server.bodies import LARGE_BYTES
from hone.server.custom_losses import stored_loss
from hone.server.ids import session_of
from hone.server.journal import Entry, Passed
from hone.server.operations.handler import Concluded, Context
from hone.server.provenance import check_provenance
from hone.server.usage import Amounts


class ForwardBackward:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return not codec.parse_forward_backward(entry.payload).forward_only

    async def prepare(self, entry: Entry, context: Context) -> contract.ForwardBackward:
        if len(entry.payload) > LARGE_BYTES:
            body = await asyncio.to_thread(_decode, entry.payload)
        else:
            body = _decode(entry.payload)
        if body.loss_fn == "stable_reinforce":
            await check_provenance(body.data, entry.lane, context.journal)
        custom = None
        if body.loss_fn == "custom":
            custom = await stored_loss(body.loss_config.get("loss_id"), session_of(entry.lane), context.journal)
        return contract.ForwardBackward(
            entry.lane, body.data, body.loss_fn, body.loss_config, body.forward_only, custom
        )

    async def conclude(
        self, entry: Entry, operation: contract.ForwardBackward, result: ForwardBackwardResult, context: Context
    ) -> Concluded:
        tokens = sum(len(datum.tokens) for datum in operation.data)
        answer = Outcome(codec.encode_forward_backward(result), PROTOBUF)
        return Concluded(answer, used=Amounts(training=tokens), passed=_passed(result.metrics))


def _passed(metrics: dict[str, float]) -> Passed | None:
    try:
        return Passed(
            cycle=round(metrics["engine/cycle:max"]),
            queue_seconds=metrics["engine/queue_seconds:max"],
            batch_fill=metrics["engine/batch_fill:mean"],
            device_seconds=metrics["engine/device_seconds:sum"],
        )
    except KeyError:  # an engine that does not say
        return None


def _decode(payload: bytes) -> codec.ForwardBackwardBody:
    return codec.decode_forward_backward(codec.parse_forward_backward(payload))
