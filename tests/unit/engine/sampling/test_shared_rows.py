"""Decoding on two threads: the same tokens and log-probabilities, bit for bit, as alone on one."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from hone.engine.attention import KeyValueCache
from hone.engine.models.load import LoadedModel
from hone.engine.sampling import shared_rows
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.shared_rows import LEAST_ROWS, SharedRows
from hone.engine.sampling.version import AdapterVersion
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import trained_adapter
from tests.unit.engine.sampling.material import assert_equal, one, prompt, request, run


def sampler(model: LoadedModel, threads: int) -> Sampler:
    config = model.config
    block_bytes = KeyValueCache.block_bytes(config.layers, config.kv_heads, config.head_dim)
    return Sampler(model, 64, 256 * block_bytes, 256, threads)


@pytest.mark.parametrize("family", ["qwen3", "llama", "qwen3_moe"])
def test_shares_change_nothing(models: dict[str, LoadedModel], family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models[family]
    shared = []
    plain = SharedRows.logits

    def counted(rows: SharedRows) -> torch.Tensor:
        shared.append(len(rows.sequences))
        return plain(rows)

    monkeypatch.setattr(SharedRows, "logits", counted)
    monkeypatch.setattr(shared_rows, "LEAST_ROWS", 5)
    states = {str(seed): trained_adapter(model.config, LoraConfig(rank=4, seed=seed)) for seed in range(2)}
    versions = {None: None, **{name: AdapterVersion(s.layout, s.weights) for name, s in states.items()}}
    asked: list[Any] = []
    for number in range(12):
        name = [None, "0", "1"][number % 3]
        op = request(prompt(number, 3 + 5 * number), name, samples=3, seed=number, max_tokens=8 + number)
        asked.append((op, versions[name]))
    together = run(sampler(model, 2), asked, joining_every=2)
    assert len(set(shared)) > 2, "shares of several sizes"
    for place, (op, version) in enumerate(asked):
        assert_equal(together[place], one(sampler(model, 1), replace(op), version))


def test_few_rows_stay_together(models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_rows, "SharedRows", None)
    one(sampler(models["qwen3"], 2), request(prompt(1, 5), samples=2 * LEAST_ROWS - 1))


def test_a_share_that_fails_fails_the_step_when_the_others_have_ended(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []
    plain = shared_rows._logits

    def fails(rows: Any) -> torch.Tensor:
        plain(rows)
        ended.append(rows)
        raise RuntimeError("broken")

    monkeypatch.setattr(shared_rows, "_logits", fails)
    with pytest.raises(RuntimeError, match="broken"):
        one(sampler(models["qwen3"], 2), request(prompt(1, 5), samples=2 * LEAST_ROWS))
    assert len(ended) == 1
