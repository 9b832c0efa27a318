"""Token sequences to training data: the one place where an off-by-one could live.

Position t of a datum's input predicts its target t, which is token t + 1 of the sequence. Legend: `_T` tokens of a
sequence, `_D` datums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import tinker

from hone.algorithms.types import Trajectory
from hone.errors import UserError

Floats = npt.NDArray[np.float32]
Spans = list[tinker.PromptProvenanceSpan | tinker.SampledProvenanceSpan]

IMAGE_TARGET = 0
"""Stands where the next token would be and there is an image; its weight is zero."""


def shift(sequence: tinker.ModelInput) -> tuple[tinker.ModelInput, npt.NDArray[np.int64]]:
    """The input (all but the last token) and the targets `[T - 1]` (all but the first).

    Raises:
        UserError: fewer than two tokens, or the sequence ends with an image, which nothing could learn from.
    """
    if sequence.length < 2:
        raise UserError(f"a sequence to learn from needs two tokens or more; this one has {sequence.length}")
    *before, last = sequence.chunks
    if not isinstance(last, tinker.EncodedTextChunk):
        raise UserError("a sequence to learn from ends with text; leave out an image that nothing follows")
    kept = [tinker.EncodedTextChunk(tokens=list(last.tokens[:-1]))] if len(last.tokens) > 1 else []
    targets_T = np.array([token for chunk in sequence.chunks for token in _target_tokens(chunk)], dtype=np.int64)
    return tinker.ModelInput(chunks=[*before, *kept]), targets_T[1:]


def unshifted(datum: tinker.Datum) -> tinker.ModelInput:
    """Input and last target together again: what another model is asked to score."""
    return datum.model_input.append_int(int(datum.loss_fn_inputs["target_tokens"].data[-1]))


def supervised_datum(
    sequence: tinker.ModelInput,
    weights: Sequence[float] | Floats,
    *,
    mean: bool = True,
    max_length: int | None = None,
) -> tinker.Datum:
    """Learn the tokens of `sequence` that carry weight.

    `mean` divides the weights by their sum, so that every example counts the same whatever its length.
    A sequence beyond `max_length` tokens loses its end, and nothing here says so: whoever sets it counts and names such
    rows with `data.cut`.

    Raises:
        UserError: another number of weights than of tokens, too few tokens, or `max_length` leaves none with weight.
    """
    weights_T: Floats = np.asarray(weights, dtype=np.float32)
    if len(weights_T) != sequence.length:
        raise UserError(f"{sequence.length} tokens need as many weights; there are {len(weights_T)}")
    if max_length is not None and sequence.length > max_length:
        length, learned = sequence.length, bool(weights_T[1:].any())
        sequence = truncate(sequence, max_length)
        weights_T = weights_T[: sequence.length]
        if learned and not weights_T[1:].any():
            raise UserError(
                f"a sequence of {length} tokens has nothing to learn in its first {max_length}; raise `max_length`, "
                "or leave it out"
            )
    model_input, targets_T = shift(sequence)
    weights_T = weights_T[1:]
    total = weights_T.sum()
    if mean and total > 0:
        weights_T = weights_T / total
    return tinker.Datum(
        model_input=model_input,
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_numpy(targets_T),
            "weights": tinker.TensorData.from_numpy(weights_T),
        },
    )


def truncate(sequence: tinker.ModelInput, max_length: int) -> tinker.ModelInput:
    """The first `max_length` tokens; an image that does not fit whole is left out, and so is all after it."""
    chunks: list[tinker.ModelInputChunk] = []
    room = max_length
    for chunk in sequence.chunks:
        if chunk.length <= room:
            chunks.append(chunk)
            room -= chunk.length
            continue
        if isinstance(chunk, tinker.EncodedTextChunk) and room:
            chunks.append(tinker.EncodedTextChunk(tokens=list(chunk.tokens[:room])))
        break
    while chunks and not isinstance(chunks[-1], tinker.EncodedTextChunk):
        chunks.pop()
    return tinker.ModelInput(chunks=chunks)


@dataclass(frozen=True)
class PolicyDatum:
    """A datum of reinforcement learning, with what is known of its tokens beside what the loss is given."""

    datum: tinker.Datum
    mask_T: Floats
    """1 where the target was sampled and is learned from."""

    @property
    def sampled_logprobs_T(self) -> Floats:
        return floats(self.datum.loss_fn_inputs["logprobs"])

    @property
    def advantages_T(self) -> Floats:
        return floats(self.datum.loss_fn_inputs["advantages"])

    def with_advantages(self, advantages_T: Floats) -> PolicyDatum:
        inputs = {**self.datum.loss_fn_inputs, "advantages": tinker.TensorData.from_numpy(advantages_T)}
        return replace(self, datum=replace(self.datum, loss_fn_inputs=inputs))


def policy_datums(trajectory: Trajectory, advantage: float, *, provenance: bool = False) -> list[PolicyDatum]:
    """What a trajectory teaches, with the same advantage on every sampled token.

    While each observation extends the one before it and its answer, all turns are one datum, and cost as much as
    their tokens; an observation that does not (a history rewritten) begins another. Transitions whose metrics say
    `parse_error_masked` are kept as context and not learned from. `provenance` notes which sampling request every
    token came from, which `stable_reinforce` asks for.
    """
    merged: list[_Merged] = []
    for transition in trajectory.transitions:
        observation = flatten(transition.observation)
        if not observation and not transition.action.tokens:
            continue  # an episode that ended before its first turn
        if not merged or not merged[-1].is_extended_by(observation):
            merged.append(_Merged())
        learned = float(transition.metrics.get("parse_error_masked", 0.0)) < 1.0
        action = transition.action
        merged[-1].append(
            observation, action.tokens, action.logprobs, advantage if learned else 0.0, learned, action.sequence_id
        )
    return [sequence.datum(provenance) for sequence in merged]


@dataclass
class _Merged:
    """Turns that extend each other. An image is one element and stands for as many positions as it has tokens."""

    elements: list[int | tinker.ModelInputChunk] = field(default_factory=list)
    logprobs_T: list[float] = field(default_factory=list)
    advantages_T: list[float] = field(default_factory=list)
    mask_T: list[float] = field(default_factory=list)
    spans: Spans | None = field(default_factory=list)
    """Where each token came from, while every action so far can be named."""

    def is_extended_by(self, observation: list[int | tinker.ModelInputChunk]) -> bool:
        return observation[: len(self.elements)] == self.elements

    def append(
        self,
        observation: list[int | tinker.ModelInputChunk],
        tokens: list[int],
        logprobs: list[float],
        advantage: float,
        learned: bool,
        sequence_id: str | None,
    ) -> None:
        new = observation[len(self.elements) :]
        new_length = sum(1 if isinstance(element, int) else element.length for element in new)
        if sequence_id is None:
            self.spans = None
        elif self.spans is not None:
            offset = len(self.logprobs_T)
            if new_length:
                self.spans.append(
                    tinker.PromptProvenanceSpan(sequence_id=sequence_id, offset=offset, length=new_length)
                )
            if tokens:
                self.spans.append(tinker.SampledProvenanceSpan(sequence_id=sequence_id, length=len(tokens)))
        self.elements += [*new, *tokens]
        self.logprobs_T += [0.0] * new_length + list(logprobs)
        self.advantages_T += [0.0] * new_length + [advantage] * len(tokens)
        self.mask_T += [0.0] * new_length + [float(learned)] * len(tokens)

    def datum(self, provenance: bool) -> PolicyDatum:
        model_input, targets_T = shift(joined(self.elements))
        datum = tinker.Datum(
            model_input=model_input,
            loss_fn_inputs={
                "target_tokens": tinker.TensorData.from_numpy(targets_T),
                "logprobs": tinker.TensorData.from_numpy(np.array(self.logprobs_T[1:], dtype=np.float32)),
                "advantages": tinker.TensorData.from_numpy(np.array(self.advantages_T[1:], dtype=np.float32)),
            },
        )
        if provenance and self.spans:
            target_spans = _without_first(self.spans)
            if any(isinstance(span, tinker.SampledProvenanceSpan) for span in target_spans):
                datum = datum.with_provenance(model_input=_without_last(self.spans), loss_fn_inputs=target_spans)
        return PolicyDatum(datum, np.array(self.mask_T[1:], dtype=np.float32))


def floats(tensor: tinker.TensorData) -> Floats:
    return np.asarray(tensor.data, dtype=np.float32)


def _target_tokens(chunk: tinker.ModelInputChunk) -> Sequence[int]:
    return chunk.tokens if isinstance(chunk, tinker.EncodedTextChunk) else [IMAGE_TARGET] * chunk.length


def flatten(sequence: tinker.ModelInput) -> list[int | tinker.ModelInputChunk]:
    """Tokens, and images as one element each; `joined` undoes it."""
    return list(_elements(sequence.chunks))


def _elements(chunks: Sequence[tinker.ModelInputChunk]) -> Iterator[int | tinker.ModelInputChunk]:
    for chunk in chunks:
        if isinstance(chunk, tinker.EncodedTextChunk):
            yield from chunk.tokens
        else:
            yield chunk


def joined(elements: Sequence[int | tinker.ModelInputChunk]) -> tinker.ModelInput:
    chunks: list[tinker.ModelInputChunk] = []
    text: list[int] = []
    for element in elements:
        if isinstance(element, int):
            text.append(element)
            continue
        if text:
            chunks.append(tinker.EncodedTextChunk(tokens=text))
            text = []
        chunks.append(element)
    if text:
        chunks.append(tinker.EncodedTextChunk(tokens=text))
    return tinker.ModelInput(chunks=chunks)


def _without_first(spans: Spans) -> Spans:
    """Spans of the same sequence without its first token."""
    first, *rest = spans
    if first.length == 1:
        return rest
    return [replace(first, offset=first.offset + 1, length=first.length - 1), *rest]


def _without_last(spans: Spans) -> Spans:
    """Spans of the same sequence without its last token."""
    *rest, last = spans
    if last.length == 1:
        return rest
    return [*rest, replace(last, length=last.length - 1)]
