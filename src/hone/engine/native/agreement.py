"""Whether the C computes a model to the framework's bits on this machine, found out by computing both.

Legend: B rows, V vocabulary, L positions.
"""

import torch
from torch import Tensor

from hone.engine.attention import BLOCK, TILE, DecodeAttention, KeyValueCache, PackedAttention, stable_blocks
from hone.engine.lora.batch import LoraBatch
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.native.decoder import NativeDecoder, serves
from hone.engine.native.layers import NativeLayers
from hone.engine.native.library import library
from hone.engine.native.matrices import PANEL

POSITIONS = (0, BLOCK, 3 * BLOCK + 5, 230, 400, TILE + 3 * BLOCK + 5)
"""Of a row each: the first, within a block, over sums that break at their several places."""
LENGTHS = (3, 2 * BLOCK, 203, 420, TILE + 3 * BLOCK + 5)
"""Of whole sequences, likewise."""


def trusted_decoder(model: LoadedModel, cache: KeyValueCache) -> NativeDecoder | None:
    """None where the C cannot serve this model, or not to the same bits. Nothing lies in `cache` yet."""
    native = NativeDecoder.of(model, cache)
    return native if native is not None and agrees(model, native, cache) else None


def trusted_layers(decoder: Decoder) -> NativeLayers | None:
    """None where the C cannot compute whole sequences of this model, or not to the same bits."""
    config = decoder.config
    if (
        library() is None
        or not serves(config, decoder)
        or config.hidden_size % PANEL
        or config.intermediate_size % PANEL
    ):
        return None
    native = NativeLayers(decoder.config, decoder.weights)
    return native if _agree(decoder, native) else None


@torch.inference_mode()
def _agree(decoder: Decoder, native: NativeLayers) -> bool:
    """The first layer, over sequences of several lengths, and the head."""
    lengths = [min(length, decoder.config.max_context) for length in LENGTHS]
    positions_T = torch.cat([torch.arange(length) for length in lengths])
    cos_T1d, sin_T1d = (table[positions_T, None] for table in decoder.rope)
    generator = torch.Generator().manual_seed(0)
    x_Th = torch.randn(len(positions_T), decoder.config.hidden_size, generator=generator)
    attend, lora = PackedAttention(lengths), LoraBatch([])
    found = native.begin(attend, lora, cos_T1d, sin_T1d)
    assert found is not None
    goals_T = torch.randint(decoder.config.vocab_size, positions_T.shape, generator=generator)
    head = native.head(lora)
    assert head is not None
    same_layer = torch.equal(found(0, x_Th), decoder.plain_layer(cos_T1d, sin_T1d, attend, lora, 0, x_Th))
    return same_layer and torch.equal(head.logprobs(x_Th, goals_T), decoder.plain_head(lora).logprobs(x_Th, goals_T))


@torch.inference_mode()
def agrees(model: LoadedModel, native: NativeDecoder, cache: KeyValueCache) -> bool:
    """One step of several sequences over what happens to be in `cache`; it is empty again afterwards."""
    positions = [p for p in POSITIONS if p < model.config.max_context]
    while positions and 1 + len(positions) * _blocks(positions) > len(cache.entries[0]):
        positions.pop()
    if not positions:
        return False
    longest = _blocks(positions)
    blocks_BN = torch.arange(1, 1 + len(positions) * longest).view(len(positions), longest)
    positions_B = torch.tensor(positions)
    slots_B = blocks_BN.gather(1, positions_B[:, None] // BLOCK)[:, 0] * BLOCK + positions_B % BLOCK
    generator = torch.Generator().manual_seed(0)
    tokens_B = torch.randint(model.config.vocab_size, (len(positions),), generator=generator)
    used = [entries[: 1 + blocks_BN.numel()] for entries in cache.entries]
    for entries in used:
        entries.normal_(generator=generator)
    before = [entries.clone() for entries in used]
    expected_BV = _framework(model, cache, tokens_B, positions_B, slots_B, blocks_BN)
    after = [entries.clone() for entries in used]
    for entries, kept in zip(used, before, strict=True):
        entries.copy_(kept)
    found_BV = native.step([None] * len(positions), torch.stack([tokens_B, positions_B, slots_B]), blocks_BN)()
    same = torch.equal(found_BV, expected_BV) and all(map(torch.equal, used, after))
    for entries in used:
        entries.zero_()
    return same


def _blocks(positions: list[int]) -> int:
    return stable_blocks(positions[-1] // BLOCK + 1)


def _framework(
    model: LoadedModel,
    cache: KeyValueCache,
    tokens_B: Tensor,
    positions_B: Tensor,
    slots_B: Tensor,
    blocks_BN: Tensor,
) -> Tensor:
    lora = LoraBatch([])
    attend = DecodeAttention(cache, blocks_BN, slots_B, positions_B)
    hidden_Bh = model.decoder.forward(tokens_B, positions_B, attend, lora)
    return lora.project("head", hidden_Bh, model.decoder.weights.head)
