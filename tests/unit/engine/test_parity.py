"""The comparison that is kept with an export: small where the export is right, large where it is not."""

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load, save

from hone.engine.checkpoints import capture, peft_config, peft_tensors
from hone.engine.exports import write_export
from hone.engine.models.load import LoadedModel
from hone.engine.parity import TOLERANCE, compare, merge, take_probe
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import reference_logprobs, reference_model, save_model, trained_adapter


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen3_tied", "qwen3_moe", "qwen3_moe_dense_layer"])
def test_transformers_computes_the_same_with_the_merged_export(family: str, models: dict[str, LoadedModel]) -> None:
    state = trained_adapter(models[family].config, LoraConfig(4, 1))
    image = capture(state, with_optimizer=False)
    probe, config = take_probe(models[family], state), peft_config(image, "base")
    theirs = copy.deepcopy(reference_model(family))
    plain = reference_logprobs(theirs, probe.tokens[:-1], probe.tokens[1:])
    assert np.abs(plain - probe.logprobs).max() > 0.01, "the adapter changes something"
    merge(theirs, load(save(peft_tensors(image))), config["lora_alpha"] / config["r"])
    found = reference_logprobs(theirs, probe.tokens[:-1], probe.tokens[1:])
    assert np.abs(found - probe.logprobs).max() <= TOLERANCE


def test_the_report_lies_beside_the_export(qwen3: LoadedModel, tmp_path: Path) -> None:
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    image = capture(state, with_optimizer=False)
    probe = replace(take_probe(qwen3, state), base=save_model("qwen3", tmp_path / "base"))
    write_export(image, "base", tmp_path / "e", [], probe)
    parity = json.loads((tmp_path / "e" / "hone_export.json").read_text())["parity"]
    assert (parity["checked"], parity["within_tolerance"], parity["tokens"]) == (True, True, 48)
    assert 0 < parity["max_difference_nats"] <= TOLERANCE
    assert parity["by"].startswith("transformers ")


def test_a_wrong_export_is_told_from_a_right_one_and_why_nothing_was_compared_is_said(
    qwen3: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    image = capture(state, with_optimizer=False)
    probe, config = take_probe(qwen3, state), peft_config(image, "base")

    def compared(answer: str, status: int = 0) -> dict[str, Any]:
        program = f"import sys; print({answer!r}); sys.stderr.write('no model'); sys.exit({status})"
        monkeypatch.setattr("hone.engine.parity.COMMAND", [sys.executable, "-c", program])
        return compare(probe, config, b"")

    right = {"logprobs": probe.logprobs.tolist(), "transformers": "5"}
    assert compared(json.dumps(right))["within_tolerance"] is True
    right["logprobs"][7] += 2e-4  # type: ignore[index]
    assert compared(json.dumps(right))["within_tolerance"] is False
    assert compared("", status=1) == {"checked": False, "why": "no model"}
    monkeypatch.setattr("hone.engine.parity.SECONDS", 0.001)
    assert "longer than" in compared("")["why"]
