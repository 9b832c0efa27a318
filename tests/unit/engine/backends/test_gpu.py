"""The GPU's way of computing, on a CPU, against the CPU's own: the same numbers to rounding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hone.engine.backends.cpu import CPU as CPU_BACKEND
from hone.engine.backends.gpu import GpuBackend
from hone.engine.backends.graphs import call_again
from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward, ModelSource, Sample
from hone.engine.lora.state import AdapterState
from hone.engine.models.config import OtherArchitecture
from hone.engine.models.hf import load_hf
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.optim.adamw import adamw_step
from hone.engine.sampling.sampler import Sampler
from hone.engine.trainer import PieceResult, run_pieces
from hone.protocol.types import AdamParams, LoraConfig, SampleResult, SamplingParams
from tests.unit.engine.material import random_datum, relative_error, trained_adapter

CPU = torch.device("cpu")
CACHE = 1 << 22
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NATS = {"float32": 2e-5, "bfloat16": 0.15}
GRADIENTS = {"float32": 2e-5, "bfloat16": 0.1}
TENANTS = (LoraConfig(4, 1), LoraConfig(8, 2, train_mlp=False), LoraConfig(3, 3, train_unembed=False))
FAMILIES = ["qwen3", "qwen3_moe", "llama_tied"]
Trained = tuple[list[PieceResult], dict[str, AdapterState]]


def close(found: np.ndarray, wanted: np.ndarray, dtype: str) -> bool:
    """Experts are chosen by rounded scores: in bfloat16 a token may go to others, and is far off then."""
    apart = np.abs(found - wanted)
    return bool(apart.max(initial=0) < NATS[dtype]) or (dtype == "bfloat16" and bool(np.median(apart) < 0.03))


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, dtype: str, models: dict[str, LoadedModel]) -> tuple[LoadedModel, LoadedModel]:
    """The same model on both."""
    own = models[request.param]
    return own, load_model(ModelSource("x", own.directory), GpuBackend(CPU, DTYPES[dtype], record=call_again))


def train(model: LoadedModel, loss_fn: str, forward_only: bool = False) -> Trained:
    """One pass over three tenants of different ranks and sites, together."""
    states = {f"t{i}": trained_adapter(model.config, lora) for i, lora in enumerate(TENANTS)}
    rng = np.random.default_rng(5)
    pieces = []
    for i, name in enumerate(states):
        data = tuple(random_datum(rng, n, loss_fn) for n in (7, 12, 7, 1 + i))
        pieces += cut(ForwardBackward(name, data, loss_fn, {}, forward_only), 4096)
    return run_pieces(model.decoder, pieces, states), states


@pytest.mark.parametrize("loss_fn", ["cross_entropy", "gspo"])
def test_training(pair: tuple[LoadedModel, LoadedModel], dtype: str, loss_fn: str) -> None:
    (wanted, theirs), (found, ours) = (train(model, loss_fn) for model in pair)
    for a, b in zip(found, wanted, strict=True):
        for x, y in zip(a.logprobs, b.logprobs, strict=True):
            assert x.dtype == np.float32
            assert close(x, y, dtype)
    for name, state in ours.items():
        gradient = theirs[name].gradient
        assert state.gradient is not None
        assert gradient is not None
        assert state.gradient.dtype == state.weights.dtype == torch.float32
        assert relative_error(state.gradient, gradient) < GRADIENTS[dtype]
        adamw_step(state, AdamParams(learning_rate=1e-2))
    again, _ = train(pair[1], loss_fn, forward_only=True)
    assert [[x.tolist() for x in r.logprobs] for r in again] == [[x.tolist() for x in r.logprobs] for r in found]


def sample(model: LoadedModel, rows: int = 8) -> list[SampleResult]:
    """Requests of several adapters and of none, of which some continue what others left in the cache."""
    states = [trained_adapter(model.config, lora) for lora in TENANTS]
    versions = [model.backend.version(s.layout, s.weights.clone()) for s in states]
    sampler = Sampler(model, rows, CACHE, 64)
    rng, params = np.random.default_rng(7), SamplingParams(max_tokens=6, temperature=0.0, stop=())
    results: dict[int, SampleResult] = {}
    prompts = [rng.integers(0, model.config.vocab_size, n).astype(np.int32) for n in (5, 40, 17, 3)]
    for ticket, prompt in enumerate([*prompts, np.concatenate([prompts[1], prompts[0]])]):
        which = ticket % 4
        op = Sample("x", None if which == 3 else f"v{which}", prompt, 2, params, ticket, prompt_logprobs=ticket == 0)
        sampler.add(ticket, op, None if which == 3 else versions[which])
    late: Sample | None = replace(
        op, version="v1", prompt=np.concatenate([prompts[1], prompts[2]]), topk_prompt_logprobs=0
    )
    while sampler:
        results |= dict(sampler.step())
        if late is not None and 1 in results:
            sampler.add(9, late, versions[1])
            late = None
    assert results[9].prompt_cache_hit_tokens == 32
    return [result for _, result in sorted(results.items())]


def test_sampling(pair: tuple[LoadedModel, LoadedModel], dtype: str) -> None:
    wanted, found = (sample(model) for model in pair)
    for a, b in zip(found, wanted, strict=True):
        for x, y in zip(a.sequences, b.sequences, strict=True):
            if dtype == "float32":
                assert x.tokens.tolist() == y.tokens.tolist()
            same = int(np.argmin(np.append(x.tokens == y.tokens, False)))  # greedy choices may part at a tie
            assert close(x.logprobs[:same], y.logprobs[:same], dtype)
    scored, exact = found[0].prompt_logprobs, wanted[0].prompt_logprobs
    assert scored is not None
    assert exact is not None
    assert close(scored[1:], exact[1:], dtype)


def test_samples_are_scored_alike_by_the_trainer(pair: tuple[LoadedModel, LoadedModel], dtype: str) -> None:
    model = pair[1]
    state = trained_adapter(model.config, TENANTS[0])
    sampler, params = Sampler(model, 4, CACHE, 64), SamplingParams(max_tokens=12, stop=())
    prompt = np.arange(20, dtype=np.int32)
    sampler.add(0, Sample("x", "v", prompt, 1, params, 3), model.backend.version(state.layout, state.weights.clone()))
    done = []
    while sampler:
        done += sampler.step()
    (sequence,) = done[0][1].sequences
    tokens = np.concatenate([prompt, sequence.tokens])
    inputs = {"target_tokens": tokens[1:].astype(np.int64), "weights": np.ones(len(tokens) - 1, np.float32)}
    data = (replace(random_datum(np.random.default_rng(0), 1), tokens=tokens[:-1], loss_inputs=inputs),)
    pieces = cut(ForwardBackward("a", data, "cross_entropy", {}, True), 4096)
    (result,) = run_pieces(model.decoder, pieces, {"a": state})
    assert close(result.logprobs[0][19:], sequence.logprobs, dtype)


def test_another_architecture(model_directories: dict[str, Path]) -> None:
    """A model of transformers, moved after it was tried out."""
    directory, samples = model_directories["qwen3"], []
    for backend in (CPU_BACKEND, GpuBackend(CPU, torch.float32)):
        decoder = load_hf(directory, backend, OtherArchitecture("for the test"))
        samples.append(sample(LoadedModel(directory, decoder.config, decoder)))
    for wanted, found in zip(*samples, strict=True):
        for x, y in zip(wanted.sequences, found.sequences, strict=True):
            assert x.tokens.tolist() == y.tokens.tolist()
            assert close(y.logprobs, x.logprobs, "float32")
