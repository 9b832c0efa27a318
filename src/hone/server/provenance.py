"""Whether training data really name the samples they came from: what `stable_reinforce` asks for.

Every accepted sample is in the journal under the names of its sequences, so recording is no step of its own.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from hone.errors import UserError
from hone.protocol.types import Datum, ProvenanceSpan
from hone.server.ids import session_of
from hone.server.journal import Journal


async def check_provenance(data: Iterable[Datum], model_id: str, journal: Journal) -> None:
    """Raise unless spans tile every datum, name known sequences of the session, and cover each non-zero advantage with
    sampled tokens."""
    named: dict[str, str] = {}
    for i, datum in enumerate(data):
        _check_tiling(datum.model_input_spans, len(datum.tokens), f"data[{i}].model_input_spans")
        targets = datum.loss_inputs.get("target_tokens")
        if targets is not None:
            _check_tiling(datum.loss_input_spans, len(targets), f"data[{i}].loss_fn_input_spans")
            _check_advantages(datum, f"data[{i}]")
        for span in (*datum.model_input_spans, *datum.loss_input_spans):
            if span.length:  # an empty run claims nothing
                named.setdefault(span.sequence_id, f"data[{i}]")
    await _check_known(named, session_of(model_id), journal)


def _check_tiling(spans: tuple[ProvenanceSpan, ...], length: int, where: str) -> None:
    covered = sum(span.length for span in spans)
    if covered != length:
        raise UserError(
            f"{where} cover {covered} positions of {length}; 'stable_reinforce' needs runs that tile the field, "
            "see Datum.with_provenance"
        )


def _check_advantages(datum: Datum, where: str) -> None:
    advantages = datum.loss_inputs.get("advantages")
    if advantages is None or advantages.shape != datum.loss_inputs["target_tokens"].shape:
        return  # the loss itself says what is wrong
    lengths = [span.length for span in datum.loss_input_spans]
    sampled = np.repeat([span.source == "sampled" for span in datum.loss_input_spans], lengths)
    wrong = np.flatnonzero((advantages != 0) & ~sampled)
    if len(wrong):
        raise UserError(
            f"{where}.advantages is not 0 at position {wrong[0]}, which loss_fn_input_spans attribute to a prompt; "
            "only sampled tokens may have an advantage"
        )


async def _check_known(named: dict[str, str], session_id: str, journal: Journal) -> None:
    by_sampler: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for sequence_id in named:
        sampler, _, rest = sequence_id.rpartition(":sample:")
        parts = rest.split(":")
        if sampler != session_id or len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise _unknown(sequence_id, named)
        by_sampler[f"{sampler}:sample:{parts[0]}"].append((int(parts[1]), int(parts[2]), sequence_id))
    for lane, sequences in by_sampler.items():
        counts = await journal.sample_counts(lane, sorted({seq_id for seq_id, _, _ in sequences}))
        for seq_id, index, sequence_id in sequences:
            if index >= counts.get(seq_id, 0):
                raise _unknown(sequence_id, named)


def _unknown(sequence_id: str, named: dict[str, str]) -> UserError:
    return UserError(
        f"{named[sequence_id]} names sequence_id {sequence_id!r}, which was not sampled in this session; "
        "use SampledSequence.sequence_id"
    )
