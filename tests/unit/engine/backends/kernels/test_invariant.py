"""The invariant mode: the sampler's log-probabilities are the trainer's, to the bit, whoever is beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hone.engine.backends.gpu import GpuBackend
from hone.engine.backends.graphs import call_again
from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward, ModelSource, Sample
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.sampling.sampler import Sampler
from hone.engine.trainer import run_pieces
from hone.protocol.types import LoraConfig, SamplingParams
from tests.unit.engine.material import random_datum, trained_adapter

pytest.importorskip("triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_trainer_and_sampler_agree_exactly(dtype: torch.dtype, device: torch.device, qwen3: LoadedModel) -> None:
    record = None if device.type == "cuda" else call_again
    model = load_model(ModelSource("x", qwen3.directory), GpuBackend(device, dtype, invariant=True, record=record))
    states = {name: trained_adapter(model.config, LoraConfig(rank, rank)) for name, rank in (("a", 4), ("b", 9))}
    for state in states.values():
        state.move(device)
    sampler, results = Sampler(model, 4, 1 << 22, 64), {}
    for ticket, (name, state) in enumerate(states.items()):
        version = model.backend.version(state.layout, state.weights.clone())
        prompt = np.arange(3 + 20 * ticket, dtype=np.int32)
        sampler.add(ticket, Sample("x", name, prompt, 1, SamplingParams(max_tokens=3, stop=()), ticket), version)
    while sampler:
        results |= dict(sampler.step())

    data, found = {}, []
    for ticket, name in enumerate(states):
        (sequence,) = results[ticket].sequences
        tokens = np.concatenate([np.arange(3 + 20 * ticket, dtype=np.int32), sequence.tokens])
        inputs = {"target_tokens": tokens[1:].astype(np.int64), "weights": np.ones(len(tokens) - 1, np.float32)}
        data[name] = replace(random_datum(np.random.default_rng(0), 1), tokens=tokens[:-1], loss_inputs=inputs)
        found.append(sequence.logprobs)
    pieces = [cut(ForwardBackward(n, (d,), "cross_entropy", {}, True), 4096)[0] for n, d in data.items()]
    together = run_pieces(model.decoder, pieces, states)
    for piece, result, sampled in zip(pieces, together, found, strict=True):
        assert result.logprobs[0][-3:].tolist() == sampled.tolist()
        (alone,) = run_pieces(model.decoder, [piece], states)
        assert alone.logprobs[0].tolist() == result.logprobs[0].tolist()
