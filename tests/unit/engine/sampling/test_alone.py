"""Pages of a lone sequence, read where they lie: what gathering them finds, and no longer than that is so."""

import pytest
import torch

from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.alone import AlonePages
from hone.engine.sampling.version import make_version
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import trained_adapter
from tests.unit.engine.sampling.material import assert_equal, one, prompt, request, sampler_of


@pytest.fixture
def cache() -> KeyValueCache:
    cache = KeyValueCache(layers=2, blocks=12, kv_heads=2, head_dim=4)
    for entries in cache.entries:
        entries.copy_(torch.randn(entries.shape))
    return cache


@pytest.mark.parametrize("position", [0, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_they_are_what_lies_in_the_blocks(cache: KeyValueCache, position: int) -> None:
    pages = AlonePages.of(cache, [2, 3, 4, 5], most=8)
    assert pages is not None
    found = pages.at(position, 4)
    for i, entries in enumerate(cache.entries):
        wanted = entries[[2, 3, 4, 5]].flatten(0, 1)[None].transpose(1, 2)
        assert torch.equal(found.pages[i], wanted)
    assert found.mask.shape == (1, 1, 1, 4 * BLOCK)
    assert torch.equal(found.mask.flatten() == 0, torch.arange(4 * BLOCK) <= position)


def test_what_is_written_later_is_seen(cache: KeyValueCache) -> None:
    pages = AlonePages.of(cache, [2, 3], most=8)
    assert pages is not None
    found = pages.at(20, 2)
    cache.entries[1][3, 7] = 5.0
    assert (found.pages[1][0, :, BLOCK + 7] == 5.0).all()


def test_blocks_must_follow_one_another_with_room_for_more(cache: KeyValueCache) -> None:
    assert AlonePages.of(cache, [2, 4], most=8) is None
    assert AlonePages.of(cache, [3, 2], most=8) is None
    assert AlonePages.of(cache, [5, 6], most=8) is None
    pages = AlonePages.of(cache, [4, 5], most=8)
    assert pages is not None
    assert pages.continues_with([4, 5, 6])
    assert not pages.continues_with([4, 5, 9])


@pytest.mark.parametrize("with_adapter", [False, True])
def test_gathering_gives_the_same_bits(
    models: dict[str, LoadedModel], with_adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["qwen3"]
    state = trained_adapter(model.config, LoraConfig(rank=4, seed=1))
    version = make_version(state.layout, state.weights) if with_adapter else None
    asked = request(prompt(3, 40), "v" if with_adapter else None, max_tokens=60)
    alone = one(sampler_of(model), asked, version)
    monkeypatch.setattr(AlonePages, "of", lambda *_, **__: None)
    assert_equal(one(sampler_of(model), asked, version), alone)
