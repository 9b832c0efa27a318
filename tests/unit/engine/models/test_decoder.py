"""The decoder against transformers, through the files that transformers writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from hone.engine.attention import PackedAttention
from hone.engine.contract import ModelSource
from hone.engine.lora.batch import LoraBatch
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel, load_model
from tests.unit.engine.material import FAMILIES, VOCAB, reference_logprobs, reference_model

TOLERANCE = 1e-5
"""Nats, in float32."""


def logprobs(decoder: Decoder, sequences: list[np.ndarray]) -> list[torch.Tensor]:
    """The full distributions [N, V] after every token of each sequence, computed in one pack."""
    lengths = [len(s) for s in sequences]
    with torch.no_grad():
        hidden = decoder.forward(
            torch.from_numpy(np.concatenate(sequences).astype(np.int64)),
            torch.cat([torch.arange(n) for n in lengths]),
            PackedAttention(lengths),
            LoraBatch([]),
        )
        return list(torch.log_softmax(hidden @ decoder.weights.head.t(), -1).split(lengths))


def chosen(distributions: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    return distributions[torch.arange(len(targets)), torch.from_numpy(targets.astype(np.int64))].numpy()


@pytest.mark.parametrize("name", FAMILIES)
def test_log_probabilities_are_those_of_transformers(name: str, models: dict[str, LoadedModel]) -> None:
    rng = np.random.default_rng(3)
    sequences = [rng.integers(0, VOCAB, n) for n in (1, 2, 37, 37, 200)]
    for found, tokens in zip(logprobs(models[name].decoder, sequences), sequences, strict=True):
        targets = rng.integers(0, VOCAB, len(tokens))
        wanted = reference_logprobs(reference_model(name), tokens, targets)
        assert np.abs(chosen(found, targets) - wanted).max() < TOLERANCE


def test_scaled_positions_change_the_result(models: dict[str, LoadedModel]) -> None:
    """Guards the test above: without an effect of rope scaling, agreement beyond the original context says little."""
    tokens = np.random.default_rng(3).integers(0, VOCAB, 200)
    scaled = models["llama_rope"]
    assert scaled.config.rope_scaling is not None
    assert scaled.config.rope_scaling.original_context < 200 <= scaled.config.max_context
    plain = Decoder(type(scaled.config)(**{**vars(scaled.config), "rope_scaling": None}), scaled.decoder.weights)
    (with_scaling,), (without,) = logprobs(scaled.decoder, [tokens]), logprobs(plain, [tokens])
    assert (with_scaling[100:] - without[100:]).abs().max() > 1e-3


def test_a_sequence_does_not_see_its_neighbours(qwen3: LoadedModel) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, VOCAB, 20), rng.integers(0, VOCAB, 20)
    alone = logprobs(qwen3.decoder, [first])[0]
    packed = logprobs(qwen3.decoder, [second, first, second])[1]
    assert torch.equal(alone, packed)


def test_a_later_token_changes_nothing_before_it(qwen3: LoadedModel) -> None:
    tokens = np.random.default_rng(5).integers(0, VOCAB, 20)
    changed = tokens.copy()
    changed[12] = (changed[12] + 1) % VOCAB
    before, after = logprobs(qwen3.decoder, [tokens])[0], logprobs(qwen3.decoder, [changed])[0]
    assert torch.equal(before[:12], after[:12])
    assert not torch.equal(before[12:], after[12:])


def test_golden_log_probabilities_of_a_real_llama(shared_models: Path) -> None:
    directory = shared_models / "stories260k"
    decoder = load_model(ModelSource("stories", directory)).decoder
    golden = json.loads((directory / "golden.json").read_text())
    for case in golden:
        prompt, answer = case["prompt_ids"], case["greedy_ids"]
        tokens = np.array(prompt + answer)
        (found,) = logprobs(decoder, [tokens])
        scored = chosen(found[:-1], tokens[1:])
        assert np.abs(scored[: len(prompt) - 1] - np.array(case["prompt_logprobs"][1:])).max() < 2e-5
        assert np.abs(scored[len(prompt) - 1 :] - np.array(case["greedy_logprobs"])).max() < 2e-5
        assert found[len(prompt) - 1 : -1].argmax(-1).tolist() == answer


def test_a_real_qwen3_is_that_of_transformers(shared_models: Path) -> None:
    directory = shared_models / "tiny_qwen3_35min"
    loaded = load_model(ModelSource("tiny", directory))
    reference = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokens = np.random.default_rng(6).integers(0, loaded.config.vocab_size, 300)
    (found,) = logprobs(loaded.decoder, [tokens[:-1]])
    wanted = reference_logprobs(reference, tokens[:-1], tokens[1:])
    assert np.abs(chosen(found, tokens[1:]) - wanted).max() < 2e-5
