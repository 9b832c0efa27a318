"""Passes over data: cut into pieces, computed with those of others, put together again.

A pass that fails half-way leaves no trace in its adapter, and takes nobody else's with it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from hone.engine import contract as c
from hone.engine.batch import Piece, cut
from hone.engine.limits import Limits
from hone.engine.lora.state import AdapterState
from hone.engine.losses.custom.evaluate import check_custom_datum
from hone.engine.models.load import LoadedModel
from hone.engine.models.vision import check_images
from hone.engine.scheduler import Job, Scheduler
from hone.engine.shortage import free_device_memory, halves, is_lack_of_memory, too_large
from hone.engine.side_by_side import SideBySide
from hone.engine.trainer import PieceResult
from hone.engine.workers import Workers
from hone.errors import UserError
from hone.protocol.losses import LOSSES, check_datum
from hone.protocol.types import ForwardBackwardResult

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Adapter:
    """One in training."""

    model: str
    state: AdapterState
    share: c.Share


@dataclass(eq=False)
class _Pass:
    """A forward or backward pass under way: its pieces' results so far."""

    results: list[tuple[Piece, PieceResult]]
    gradient_before: Tensor | None
    """What to put back if a piece fails, so that a failed operation leaves no trace."""
    arrived: float
    started: float = 0.0
    cycle: int = 0
    """The number of the last micro-batch that it was in."""
    device_seconds: float = 0.0
    """Of its micro-batches, by its share of their tokens."""
    fills: list[float] = field(default_factory=list)
    """How full they were."""

    def took_part(self, cycle: int, started: float, seconds: float, share: float, fill: float) -> None:
        self.started, self.cycle = self.started or started, cycle
        self.device_seconds += seconds * share
        self.fills.append(fill)

    def metrics(self) -> dict[str, float]:
        """As clients see them; how each is put together from the parts of a chunked pass stands behind the colon."""
        return {
            "engine/cycle:max": float(self.cycle),
            "engine/queue_seconds:max": self.started - self.arrived,
            "engine/batch_fill:mean": sum(self.fills) / len(self.fills),
            "engine/device_seconds:sum": self.device_seconds,
        }


class Passes:
    def __init__(
        self,
        limits: Limits,
        scheduler: Scheduler,
        reply: Callable[[int, Any], None],
        fail: Callable[[int, Exception], None],
        workers: Workers,
    ) -> None:
        self._limits, self._scheduler, self._reply, self._fail = limits, scheduler, reply, fail
        self._passing = SideBySide(workers, limits.activation_bytes // 8)
        self._under_way: dict[int, _Pass] = {}
        self._cycle = 0
        """Micro-batches so far."""

    def begin(self, job: Job, op: c.ForwardBackward, adapter: Adapter, model: LoadedModel) -> None:
        """Check the data and cut it; the pieces then wait at the head of their adapter's line."""
        check_pass(op, model)
        gradient = None if op.forward_only else _gradient_copy(adapter.state)
        self._under_way[job.ticket] = _Pass([], gradient, job.arrived)
        self._scheduler.put_back(job, cut(op, self._limits.micro_batch_tokens), adapter.model, adapter.share)

    def compute(self, batch: list[tuple[Job, Piece]], model: LoadedModel, states: Mapping[str, AdapterState]) -> None:
        """A micro-batch; what it finishes is answered. `states` are those of its adapters, by name."""
        jobs, pieces = [job for job, _ in batch], [piece for _, piece in batch]
        self._cycle += 1
        tokens, started = sum(piece.tokens for piece in pieces), time.perf_counter()
        results = _compute(self._passing, model, pieces, states, self._recomputed(model, pieces, states))
        if isinstance(results, Exception) and len(batch) > 1:  # apart, only the one that is at fault fails
            for one in batch:
                self.compute([one], model, states)
            return
        if isinstance(results, Exception) and is_lack_of_memory(results):
            logger.warning("a pass over %d tokens found no memory; trying its halves: %s", tokens, results)
            pieces = halves(pieces[0])
            jobs *= len(pieces)
            results = _compute_apart(self._passing, model, pieces, states)
        if isinstance(results, Exception):
            self._abandon(*batch[0], states[pieces[0].adapter], results)
            return
        seconds, fill = time.perf_counter() - started, tokens / self._limits.micro_batch_tokens
        for job, piece, result in zip(jobs, pieces, results, strict=True):
            work = self._under_way[job.ticket]
            work.took_part(self._cycle, started, seconds, piece.tokens / tokens, fill)
            work.results.append((piece, result))
        for job, _ in batch:
            if not job.pieces:
                self._reply(job.ticket, _pass_result(job.operation, self._under_way.pop(job.ticket)))

    def _recomputed(self, model: LoadedModel, pieces: list[Piece], states: Mapping[str, AdapterState]) -> int:
        """How many layers a pass computes again."""
        if not pieces[0].backward:
            return 0
        inner = sum(piece.tokens * states[piece.adapter].layout.inner for piece in pieces)
        tokens, room = sum(piece.tokens for piece in pieces), self._limits.activation_bytes
        return model.memory.recomputed(tokens, inner, room, self._limits.training_threads)

    def _abandon(self, job: Job, piece: Piece, state: AdapterState, error: Exception) -> None:
        """A pass that failed half-way: put its adapter's gradient back and go on with the next operation."""
        work = self._under_way.pop(job.ticket)
        if piece.backward:
            state.set_gradient(work.gradient_before)
        self._scheduler.remove(job)
        self._fail(job.ticket, error)


def _compute(
    passing: SideBySide, model: LoadedModel, pieces: list[Piece], states: Mapping[str, AdapterState], recomputed: int
) -> list[PieceResult] | Exception:
    """The pieces' results; or why there are none, with all gradients as they were."""
    gradients: dict[str, Tensor | None] = {}
    try:
        gradients = {name: _gradient_copy(state) for name, state in states.items()}
        return passing.run_pieces(model.decoder, pieces, states, recomputed)
    except Exception as error:
        # the frames of the traceback hold all that the pass had kept
        failure = error.with_traceback(None) if is_lack_of_memory(error) else error
    for name, gradient in gradients.items():
        states[name].set_gradient(gradient)
    if is_lack_of_memory(failure):
        free_device_memory()
    return failure


def _compute_apart(
    passing: SideBySide, model: LoadedModel, pieces: list[Piece], states: Mapping[str, AdapterState]
) -> list[PieceResult] | Exception:
    """One piece after another, with every layer computed again, for want of memory."""
    results: list[PieceResult] = []
    for piece in pieces:
        found = _compute(passing, model, [piece], states, model.decoder.layers)
        if isinstance(found, Exception):
            return too_large(piece, found) if is_lack_of_memory(found) else found
        results += found
    return results


def _gradient_copy(state: AdapterState) -> Tensor | None:
    return None if state.gradient is None else state.gradient.clone()


def check_pass(op: c.ForwardBackward, model: LoadedModel) -> None:
    """`UserError` unless every datum fits the loss and the model."""
    if op.custom is None and op.loss_fn not in LOSSES:
        raise UserError(f"loss_fn {op.loss_fn!r} is unknown; this server has {', '.join(sorted(LOSSES))}")
    if not op.data:
        raise UserError("data is empty; forward and forward_backward need at least one datum")
    for i, datum in enumerate(op.data):
        if op.custom is not None:
            check_custom_datum(op.custom, datum, i, model.config.vocab_size)
        else:
            check_datum(op.loss_fn, datum, i, model.config.vocab_size)
        if len(datum.tokens) > model.config.max_context:
            found, context = len(datum.tokens), model.config.max_context
            raise UserError(f"data[{i}].model_input has {found} tokens; this model's context is {context}")
        check_images(datum.images, model.vision, f"data[{i}].model_input")


def _pass_result(op: c.AdapterOperation, work: _Pass) -> ForwardBackwardResult:
    assert isinstance(op, c.ForwardBackward)
    results = work.results
    logprobs: list[np.ndarray] = [np.empty(0)] * len(op.data)
    for piece, result in results:
        for place, values in zip(piece.places, result.logprobs, strict=True):
            logprobs[place] = values
    metrics = {"loss:sum": sum(result.loss for _, result in results)}
    for _, result in results:
        for key, value in result.metrics.items():
            metrics[key] = metrics.get(key, 0.0) + (value / len(op.data) if key.endswith(":mean") else value)
    if op.loss_fn == "stable_reinforce":
        metrics["stable_reinforce_substitute:mean"] = 1.0
    return ForwardBackwardResult(tuple(logprobs), metrics | work.metrics())
