"""Adapters that PEFT made, taken in: they compute here what they compute there."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from hone.engine.checkpoints import capture
from hone.engine.exports import write_export
from hone.engine.imports import read_peft
from hone.engine.models.load import LoadedModel
from hone.errors import UserError
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import (
    forward_backward,
    random_datum,
    reference_logprobs,
    reference_model,
    trained_adapter,
)


def made_by_peft(family: str, directory: Path, embeddings: bool = False, **settings: Any) -> Any:
    """A PEFT model whose adapter does something, and the adapter in `directory`."""
    config = peft.LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", **settings)
    torch.manual_seed(3)
    model = peft.get_peft_model(copy.deepcopy(reference_model(family)), config).eval()
    model.save_pretrained(str(directory), save_embedding_layers=embeddings)
    return model


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"target_modules": ["q_proj", "v_proj"], "lora_alpha": 8}, (False, False, True)),
        ({"target_modules": ["gate_proj", "o_proj"], "lora_alpha": 16, "use_rslora": True}, (False, True, True)),
        ({"target_modules": ["down_proj", "lm_head"], "lora_alpha": 4, "embeddings": True}, (True, True, False)),
    ],
)
def test_an_adapter_of_peft_computes_the_same_here(
    settings: dict[str, Any], flags: tuple[bool, bool, bool], qwen3: LoadedModel, tmp_path: Path
) -> None:
    theirs = made_by_peft("qwen3", tmp_path / "p", **settings)
    state = read_peft(tmp_path / "p", qwen3.config)
    assert (state.lora.train_unembed, state.lora.train_mlp, state.lora.train_attn) == flags
    datum = random_datum(np.random.default_rng(3), 30)
    (found,) = forward_backward(qwen3.decoder, state, [datum])
    wanted = reference_logprobs(theirs, datum.tokens, datum.loss_inputs["target_tokens"])
    plain = reference_logprobs(reference_model("qwen3"), datum.tokens, datum.loss_inputs["target_tokens"])
    assert np.abs(wanted - plain).max() > 0.01
    assert np.abs(found.logprobs[0] - wanted).max() < 1e-4


def test_modules_that_it_left_alone_can_be_trained_on(qwen3: LoadedModel, tmp_path: Path) -> None:
    made_by_peft("qwen3", tmp_path / "p", target_modules=["q_proj"], lora_alpha=8)
    state = read_peft(tmp_path / "p", qwen3.config)
    a, b = state.layout.site_views(state.weights)["model.layers.0.self_attn.k_proj"]
    assert a.any()
    assert not b.any()


@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe", "qwen3_tied"])
def test_an_export_comes_back_bit_for_bit(family: str, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    state = trained_adapter(models[family].config, LoraConfig(4, 1))
    write_export(capture(state, with_optimizer=False), "base", tmp_path / "e", [], "not asked for")
    assert torch.equal(read_peft(tmp_path / "e", models[family].config).weights, state.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "no LoRA adapter"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"r": 8}, r"should be \[8"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    change: dict[str, Any], message: str, qwen3: LoadedModel, tmp_path: Path
) -> None:
    made_by_peft("qwen3", tmp_path / "p", target_modules=["q_proj"], lora_alpha=8)
    file = tmp_path / "p" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_peft(tmp_path / "p", qwen3.config)


def test_another_model_and_an_empty_directory_are_refused(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    made_by_peft("qwen3", tmp_path / "p", target_modules=["q_proj"], lora_alpha=8)
    with pytest.raises(UserError, match=r"q_proj\.lora_B should be"):
        read_peft(tmp_path / "p", models["qwen3_tied"].config)
    with pytest.raises(UserError, match="not a PEFT adapter"):
        read_peft(tmp_path, models["qwen3"].config)
    made_by_peft("qwen3", tmp_path / "norms", target_modules=["embed_tokens"], lora_alpha=8)
    with pytest.raises(UserError, match="only plain LoRA"):
        read_peft(tmp_path / "norms", models["qwen3"].config)
