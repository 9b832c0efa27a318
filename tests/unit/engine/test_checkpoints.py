"""Adapters on disk: the same bits back, nothing half-written, and readable by PEFT."""

import copy
import json
import os
import threading
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from hone.engine import checkpoints
from hone.engine.checkpoints import capture, read_adapter, write_image
from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel
from hone.engine.optim.adamw import adamw_step
from hone.errors import ServerError, UserError
from hone.protocol.types import AdamParams, LoraConfig
from tests.unit.engine.material import (
    forward_backward,
    random_datum,
    reference_logprobs,
    reference_model,
    trained_adapter,
)


@pytest.fixture(params=["qwen3", "qwen3_moe", "qwen3_moe_dense_layer"])
def model(request: pytest.FixtureRequest, models: dict[str, LoadedModel]) -> LoadedModel:
    return models[request.param]


@pytest.fixture
def state(model: LoadedModel) -> AdapterState:
    """Three steps old, with a gradient that waits for the fourth."""
    return used_adapter(model)


def used_adapter(model: LoadedModel, **flags: bool) -> AdapterState:
    state = trained_adapter(model.config, LoraConfig(4, 1, **flags))
    rng = np.random.default_rng(1)
    for _ in range(3):
        forward_backward(model.decoder, state, [random_datum(rng, 9)])
        adamw_step(state, AdamParams())
    forward_backward(model.decoder, state, [random_datum(rng, 9)])
    return state


def test_a_snapshot_brings_everything_back_bit_for_bit(model: LoadedModel, state: AdapterState, tmp_path: Path) -> None:
    size = write_image(capture(state, with_optimizer=True, with_gradient=True), "base", tmp_path / "s")
    assert size == sum(f.stat().st_size for f in (tmp_path / "s").iterdir())
    found = read_adapter(tmp_path / "s", model.config, with_optimizer=True)
    assert (found.lora, found.steps) == (state.lora, 3)
    assert torch.equal(found.weights, state.weights)
    assert torch.equal(found.moment1, state.moment1)
    assert torch.equal(found.moment2, state.moment2)
    assert state.gradient is not None
    assert found.gradient is not None
    assert torch.equal(found.gradient, state.gradient)
    adamw_step(found, AdamParams())
    adamw_step(state, AdamParams())
    assert torch.equal(found.weights, state.weights)


def test_a_gradient_goes_on_gathering_after_a_snapshot(tmp_path: Path, qwen3: LoadedModel) -> None:
    state = used_adapter(qwen3)
    write_image(capture(state, with_optimizer=True, with_gradient=True), "base", tmp_path / "s")
    found = read_adapter(tmp_path / "s", qwen3.config, with_optimizer=True)
    data = [random_datum(np.random.default_rng(5), 11)]
    for each in (state, found):
        forward_backward(qwen3.decoder, each, data)
    assert state.gradient is not None
    assert found.gradient is not None
    assert torch.equal(found.gradient, state.gradient)


def test_weights_only_start_fresh_elsewhere(model: LoadedModel, state: AdapterState, tmp_path: Path) -> None:
    write_image(capture(state, with_optimizer=True, with_gradient=True), "base", tmp_path / "s")
    found = read_adapter(tmp_path / "s", model.config, with_optimizer=False)
    assert torch.equal(found.weights, state.weights)
    assert (found.steps, found.gradient) == (0, None)
    assert not found.moment1.any()
    assert not found.moment2.any()


def test_a_checkpoint_without_optimizer_says_so_when_it_is_asked(qwen3: LoadedModel, tmp_path: Path) -> None:
    write_image(capture(used_adapter(qwen3), with_optimizer=False), "base", tmp_path / "weights")
    assert not (tmp_path / "weights" / "optimizer.safetensors").exists()
    with pytest.raises(UserError, match="weights holds no optimizer state"):
        read_adapter(tmp_path / "weights", qwen3.config, with_optimizer=True)
    read_adapter(tmp_path / "weights", qwen3.config, with_optimizer=False)


def test_a_checkpoint_holds_no_gradient_unless_it_is_a_snapshot(qwen3: LoadedModel, tmp_path: Path) -> None:
    write_image(capture(used_adapter(qwen3), with_optimizer=True), "base", tmp_path / "c")
    assert read_adapter(tmp_path / "c", qwen3.config, with_optimizer=True).gradient is None


def test_an_image_does_not_follow_its_adapter(qwen3: LoadedModel, tmp_path: Path) -> None:
    state = used_adapter(qwen3)
    before = state.weights.clone()
    image = capture(state, with_optimizer=True, with_gradient=True)
    for tensor in (state.weights, state.moment1, state.gradient):
        assert tensor is not None
        tensor.zero_()
    write_image(image, "base", tmp_path / "s")
    found = read_adapter(tmp_path / "s", qwen3.config, with_optimizer=True)
    assert torch.equal(found.weights, before)
    assert found.moment1.any()
    assert found.gradient is not None
    assert found.gradient.any()


def test_a_model_of_another_shape_is_refused(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    write_image(capture(used_adapter(models["qwen3"]), with_optimizer=False), "Qwen/some", tmp_path / "c")
    for other in ("qwen3_tied", "qwen3_moe"):
        with pytest.raises(UserError, match=r"c was made for Qwen/some.*self_attn"):
            read_adapter(tmp_path / "c", models[other].config, with_optimizer=False)


def test_nothing_there_and_an_unknown_format_are_told_apart(qwen3: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing or incomplete"):
        read_adapter(tmp_path / "nothing", qwen3.config, with_optimizer=False)
    write_image(capture(used_adapter(qwen3), with_optimizer=False), "base", tmp_path / "c")
    meta = json.loads((tmp_path / "c" / "hone.json").read_text())
    (tmp_path / "c" / "hone.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        read_adapter(tmp_path / "c", qwen3.config, with_optimizer=False)


def test_the_directory_appears_complete_or_not_at_all(
    qwen3: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watched at every file that is made durable: until the last one, there is nothing under the final name."""
    target, seen = tmp_path / "c", []
    plain = os.fsync

    def watched(descriptor: int) -> None:
        seen.append(target.exists())
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_image(capture(used_adapter(qwen3), with_optimizer=True), "base", target)
    names = {f.name for f in target.iterdir()}
    assert len(seen) >= len(names) == 4
    assert not any(seen[: len(names)])


def test_a_failed_write_leaves_nothing(qwen3: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_write_json", full)
    with pytest.raises(ServerError, match="could not write the checkpoint c: No space left on device"):
        write_image(capture(used_adapter(qwen3), with_optimizer=True), "base", tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_checkpoint_is_not_overwritten(qwen3: LoadedModel, tmp_path: Path) -> None:
    state = used_adapter(qwen3)
    write_image(capture(state, with_optimizer=False), "base", tmp_path / "c")
    before = (tmp_path / "c" / "adapter_model.safetensors").read_bytes()
    state.weights.zero_()
    with pytest.raises(ServerError):
        write_image(capture(state, with_optimizer=False), "base", tmp_path / "c")
    assert (tmp_path / "c" / "adapter_model.safetensors").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["c"]


def test_two_writers_of_one_name_cannot_mix(qwen3: LoadedModel, tmp_path: Path) -> None:
    image, outcomes = capture(used_adapter(qwen3), with_optimizer=True), []

    def write() -> None:
        try:
            outcomes.append(write_image(image, "base", tmp_path / "c"))
        except ServerError:
            outcomes.append(-1)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[:3] == [-1, -1, -1]
    assert sorted(outcomes)[3] > 0
    assert [f.name for f in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("family", ["qwen3", "llama_tied"])
def test_peft_loads_the_files_and_computes_the_same(
    family: str, models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    model = models[family]
    state = used_adapter(model, train_unembed=False)
    write_image(capture(state, with_optimizer=True), "base", tmp_path / "c")
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(reference_model(family)), str(tmp_path / "c")).eval()
    datum = random_datum(np.random.default_rng(3), 30)
    targets = datum.loss_inputs["target_tokens"]
    (found,) = forward_backward(model.decoder, state, [datum])
    wanted = reference_logprobs(theirs, datum.tokens, targets)
    plain = reference_logprobs(reference_model(family), datum.tokens, targets)
    assert np.abs(wanted - plain).max() > 0.01  # the adapter was loaded, not skipped
    assert np.abs(found.logprobs[0] - wanted).max() < 2e-5
