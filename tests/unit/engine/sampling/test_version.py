"""A version prepared for sampling computes what the adapter it was made from computes."""

import pytest
import torch

from hone.engine.lora.linear import Segment, project
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.version import AdapterVersion
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import trained_adapter


@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe"])
def test_every_projection_is_the_same(family: str, models: dict[str, LoadedModel]) -> None:
    state = trained_adapter(models[family].config, LoraConfig(4, 1))
    version = AdapterVersion(state.layout, state.weights.clone())
    assert set(version.fused) == set(state.weight_views)
    for name, group in state.layout.groups.items():
        plain, fused = state.weight_views[name], version.fused[name]
        if group.a_experts or group.b_experts:
            plain, fused = plain.expert(3), fused.expert(3)
        x = torch.randn(6, plain.a.shape[1])
        weight = torch.zeros(sum(b.shape[0] for b in plain.b), x.shape[1])
        wanted = project(x, weight, [Segment(0, 6, plain, None, state.layout.scale)])
        found = project(x, weight, [Segment(0, 6, fused, None, version.scale)])
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_version_does_not_follow_its_adapter(qwen3: LoadedModel) -> None:
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    version = AdapterVersion(state.layout, state.weights.clone())
    before = version.fused["head"].a.clone()
    state.weights.zero_()
    assert torch.equal(version.fused["head"].a, before)
