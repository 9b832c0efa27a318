"""Models of transformers behind the engine's contract: against transformers itself, and against our own decoder."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hone.engine import contract as c
from hone.engine.backends.cpu import CPU
from hone.engine.batch import cut
from hone.engine.checkpoints import capture, peft_tensors
from hone.engine.exports import rewrite_for_peft, write_export
from hone.engine.lora.state import AdapterState
from hone.engine.models.config import OtherArchitecture
from hone.engine.models.hf import HfDecoder, load_hf
from hone.engine.models.load import LoadedModel, load_model, read_shape
from hone.engine.parity import merge
from hone.engine.trainer import run_pieces
from hone.errors import UserError
from hone.protocol.types import AdamParams, Datum, LoraConfig, SamplingParams
from tests.support.architectures import MODELS, PACKED, SHAPE, reference
from tests.unit.engine.material import (
    VOCAB,
    Engine,
    forward_backward,
    random_datum,
    reference_logprobs,
    relative_error,
    trained_adapter,
    weight_gradient,
)

TOLERANCE = 1e-5
"""Nats, in float32."""
GRADIENTS = 1e-4
"""Relative."""
SAMPLER = 2e-6
"""Nats between a sampled token's log-probability and the trainer's."""
SAMPLER_ANEW = 1e-5
"""The same of models without a cache: the order of a recurrence's sums depends on the whole length. Up to 7e-6 seen."""


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Loads one of `MODELS`, once."""
    folder = tmp_path_factory.mktemp("others")

    @functools.cache
    def load(name: str) -> LoadedModel:
        reference(name).save_pretrained(folder / name)
        return load_model(c.ModelSource(name, folder / name))

    return load


def as_hf(directory: Path) -> HfDecoder:
    """The hf path on a model that our own decoder runs."""
    return load_hf(directory, CPU, OtherArchitecture("for the test"))


def moved(model: LoadedModel, rank: int = 3) -> AdapterState:
    return trained_adapter(model.config, LoraConfig(rank, 5), size=0.02)


def logprobs(model: LoadedModel, state: AdapterState, sequences: list[np.ndarray]) -> list[np.ndarray]:
    data = []
    for tokens in sequences:
        inputs = {"target_tokens": tokens[1:].astype(np.int64), "weights": np.ones(len(tokens) - 1, np.float32)}
        data.append(Datum(tokens[:-1].astype(np.int32), inputs))
    pieces = cut(c.ForwardBackward("a", tuple(data), "cross_entropy", {}, forward_only=True), 4096)
    (result,) = run_pieces(model.decoder, pieces, {"a": state})
    found: list[np.ndarray] = [np.empty(0)] * len(data)
    for place, values in zip(pieces[0].places, result.logprobs, strict=True):
        found[place] = values
    return found


def merged(name: str, state: AdapterState) -> Any:
    model = copy.deepcopy(reference(name))
    merge(model, peft_tensors(capture(state, with_optimizer=False)), state.layout.scale)
    return model


# against our own decoder


@pytest.mark.parametrize("name", ["llama", "llama_tied", "llama_rope", "qwen3", "qwen3_moe", "qwen3_moe_dense_layer"])
def test_what_both_paths_run_is_the_same(
    name: str, models: dict[str, LoadedModel], model_directories: dict[str, Path]
) -> None:
    own, other = models[name], as_hf(model_directories[name])
    mine = trained_adapter(own.config, LoraConfig(4, 3))
    theirs = AdapterState(other.config, LoraConfig(4, 3))
    sites, copies = (s.layout.site_views(s.weights) for s in (mine, theirs))
    assert set(sites) == set(copies)
    for site, pair in sites.items():
        for source, target in zip(pair, copies[site], strict=True):
            target.copy_(source)
    rng = np.random.default_rng(3)
    data = [random_datum(rng, n) for n in (1, 5, 30, 30, 90)]
    (wanted,), (found,) = forward_backward(own.decoder, mine, data), forward_backward(other, theirs, data)
    for a, b in zip(found.logprobs, wanted.logprobs, strict=True):
        assert np.abs(a - b).max() <= TOLERANCE
    assert mine.gradient is not None
    assert theirs.gradient is not None
    gradients, others = mine.layout.site_views(mine.gradient), theirs.layout.site_views(theirs.gradient)
    for site, pair in gradients.items():
        for a, b in zip(others[site], pair, strict=True):
            assert relative_error(a, b) <= GRADIENTS, site


# against transformers


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_are_those_of_transformers(name: str, others: Any) -> None:
    """Of the base model, and with an adapter those of its weights merged into the model's."""
    model, rng = others(name), np.random.default_rng(3)
    assert isinstance(model.decoder, HfDecoder)
    assert model.config.cached == (name in PACKED)
    sequences = [rng.integers(0, VOCAB, n) for n in (2, 3, 22, 22, 60)]
    for state, plain in (
        (AdapterState(model.config, LoraConfig(3, 5)), reference(name)),
        (moved(model), merged(name, moved(model))),
    ):
        for found, tokens in zip(logprobs(model, state, sequences), sequences, strict=True):
            assert np.abs(found - reference_logprobs(plain, tokens[:-1], tokens[1:])).max() <= TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_merged_weights(name: str, others: Any) -> None:
    """With W' = W + s B A: dB = s dW' A^T, dA = s B^T dW'."""
    model, state = others(name), moved(others(name))
    datum = random_datum(np.random.default_rng(4), 40)
    forward_backward(model.decoder, state, [datum])
    plain = merged(name, state).requires_grad_(True)
    targets, weights = (torch.from_numpy(datum.loss_inputs[k]) for k in ("target_tokens", "weights"))
    tokens = torch.from_numpy(datum.tokens.astype(np.int64))[None]
    scored = torch.log_softmax(plain(tokens, use_cache=False).logits[0].float(), -1).gather(1, targets[:, None])[:, 0]
    (-(weights * scored).sum()).backward()
    assert state.gradient is not None
    gradients, sites = state.layout.site_views(state.gradient), state.layout.site_views(state.weights)
    scale = state.layout.scale
    for site, (a, b) in sites.items():
        if site == "model.unembed_tokens":
            continue  # `test_what_both_paths_run_is_the_same` has heads
        dweight = weight_gradient(plain, site)
        da, db = gradients[site]
        assert relative_error(db, (scale * dweight @ a.mT).sum_to_size(db.shape)) <= GRADIENTS, site
        assert relative_error(da, (scale * b.mT @ dweight).sum_to_size(da.shape)) <= GRADIENTS, site


@pytest.mark.parametrize("name", MODELS)
def test_what_is_computed_again_changes_no_bit(name: str, others: Any) -> None:
    model, state = others(name), moved(others(name))
    rng = np.random.default_rng(4)
    data = tuple(random_datum(rng, n) for n in (5, 30, 30))
    (piece,) = cut(c.ForwardBackward("a", data, "cross_entropy", {}), 4096)
    gradients = []
    for recomputed in (0, 1, model.decoder.layers):
        state.set_gradient(None)
        run_pieces(model.decoder, [piece], {"a": state}, recomputed)
        assert state.gradient is not None
        gradients.append(state.gradient)
    assert model.decoder.layers == model.decoder.model.config.get_text_config().num_hidden_layers
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
    assert model.memory.most > 1.5 * model.memory.least > 0


@pytest.mark.parametrize("name", MODELS)
def test_neighbours_change_no_bit(name: str, others: Any) -> None:
    model, rng = others(name), np.random.default_rng(7)
    state, sequences = moved(model), [rng.integers(0, VOCAB, n) for n in (9, 2, 30, 17)]
    together = logprobs(model, state, sequences)
    for found, tokens in zip(together, sequences, strict=True):
        np.testing.assert_array_equal(found, logprobs(model, state, [tokens])[0])


# through the engine


def scored(prompt: np.ndarray, sampled: np.ndarray, adapter: str) -> c.ForwardBackward:
    tokens = np.concatenate([prompt, sampled]).astype(np.int32)
    inputs = {"target_tokens": tokens[1:].astype(np.int64), "weights": np.ones(len(tokens) - 1, np.float32)}
    return c.ForwardBackward(adapter, (Datum(tokens[:-1], inputs),), "cross_entropy", {}, forward_only=True)


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_and_samples_through_the_engine(name: str, others: Any, tmp_path: Path) -> None:
    model, rng = others(name), np.random.default_rng(1)
    data = tuple(random_datum(rng, n) for n in (12, 12, 20))
    step = (c.ForwardBackward("a", data, "cross_entropy", {}), c.OptimStep("a", AdamParams(learning_rate=1e-2)))
    prompts = [np.random.default_rng(i).integers(0, VOCAB, n).astype(np.int32) for i, n in enumerate((5, 21, 40))]
    params = SamplingParams(max_tokens=14, stop=())
    asked = [c.Sample(name, version, p, 2, params, 3) for version in (None, "v") for p in prompts]
    longer = c.Sample(name, "v", np.concatenate([prompts[2], prompts[1]]), 1, params, 3)  # begins as an earlier one
    with Engine({name: model}) as engine:
        engine.ask(c.CreateAdapter("a", name, LoraConfig(4, 1)), c.CreateAdapter("base", name, LoraConfig(4, 1)))
        losses = [result.metrics["loss:sum"] for result in engine.ask(*step * 6)[::2]]
        assert losses[-1] < 0.9 * losses[0]
        engine.ask(c.Publish("a", "v", str(tmp_path / "v")))
        results = [*engine.ask(*asked), *engine.ask(longer)]
        assert results[-1].prompt_cache_hit_tokens == (32 if name in PACKED else 0)
        for op, result in zip([*asked, longer], results, strict=True):
            adapter = "base" if op.version is None else "a"
            for sequence in result.sequences:
                (trained,) = engine.ask(scored(op.prompt, sequence.tokens, adapter))
                limit = SAMPLER if name in PACKED else SAMPLER_ANEW
                assert np.abs(trained.logprobs[0][len(op.prompt) - 1 :] - sequence.logprobs).max() <= limit


@pytest.mark.parametrize("name", ["gpt_oss", "qwen2", "qwen3_5"])
def test_what_is_sampled_does_not_depend_on_the_batch(name: str, others: Any) -> None:
    prompts = [np.random.default_rng(i).integers(0, VOCAB, n).astype(np.int32) for i, n in enumerate((5, 21, 40))]
    ops = [c.Sample(name, None, p, 2, SamplingParams(max_tokens=9, stop=()), 3) for p in prompts]
    with Engine({name: others(name)}) as together:
        results = together.ask(*ops)
    for op, result in zip(ops, results, strict=True):
        with Engine({name: others(name)}) as engine:
            (alone,) = engine.ask(op)
        for a, b in zip(result.sequences, alone.sequences, strict=True):
            np.testing.assert_array_equal(a.tokens, b.tokens)
            np.testing.assert_array_equal(a.logprobs, b.logprobs)


def test_an_export_that_peft_has_no_form_for_is_not_rewritten(others: Any, tmp_path: Path) -> None:
    for name, refused in (("gpt_oss", True), ("deepseek_v3", False)):
        state = moved(others(name))
        write_export(capture(state, with_optimizer=False), name, tmp_path / name, (), "not compared")
        if refused:
            with pytest.raises(UserError, match="no form for"):
                rewrite_for_peft(tmp_path / name, tmp_path / f"{name}-peft")


def test_adapters_can_be_laid_out_without_the_weights(others: Any) -> None:
    for name in ("gpt_oss", "gpt2"):
        model = others(name)
        assert read_shape(model.directory).modules == model.config.modules


# what cannot work


def saved(model: Any, directory: Path) -> Path:
    model.save_pretrained(directory)
    return directory


def _small(prefix: str, **more: Any) -> Any:
    return getattr(transformers, f"{prefix}Config")(**{**SHAPE, **more})


def _t5() -> Any:
    config = transformers.T5Config(vocab_size=VOCAB, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return transformers.T5ForConditionalGeneration(config)


REFUSED: dict[str, tuple[Any, str]] = {
    "encoder and decoder": (_t5, "encoder with a decoder"),
    "no language model": (
        lambda: transformers.ViTModel(
            transformers.ViTConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        ),
        "no causal language model head",
    ),
    "looks ahead": (
        lambda: transformers.BertLMHeadModel(_small("Bert", is_decoder=False)),
        "head|later token",
    ),
    "head with a bias": (lambda: transformers.PhiForCausalLM(_small("Phi")), "no plain projection"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        load_model(c.ModelSource(name, saved(make(), tmp_path / "model")))


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["NoSuchLM"], "model_type": "no_such"}))
    with pytest.raises(UserError, match="no_such"):
        load_model(c.ModelSource("x", tmp_path))


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    model = transformers.Qwen2ForCausalLM(_small("Qwen2"))
    state = {k: v for k, v in model.state_dict().items() if "layers.1.mlp.up_proj" not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up_proj"):
        load_model(c.ModelSource("x", tmp_path))


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    saved(transformers.Qwen2ForCausalLM(_small("Qwen2")), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="quantised"):
        load_model(c.ModelSource("x", tmp_path))
