"""Small models, adapters and data for the engine's tests."""

import functools
import os
import queue
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hone.engine.attention import PackedAttention
from hone.engine.attention_kinds import AttentionKind
from hone.engine.backends.cpu import CPU
from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward
from hone.engine.limits import Limits
from hone.engine.loop import EngineLoop
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.models.config import ModelConfig
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.trainer import PieceResult, run_pieces
from hone.engine.wire import CLOSE
from hone.protocol.types import Datum, LoraConfig

VOCAB = 199

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_EXPERTS = {"head_dim": 16, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**_SHAPE, "tie_word_embeddings": False}),
    "llama_tied": ("Llama", {**_SHAPE, "tie_word_embeddings": True}),
    "llama_without_gqa": ("Llama", {**_SHAPE, "num_key_value_heads": 4}),
    "llama_one_kv_head": ("Llama", {**_SHAPE, "num_key_value_heads": 1}),
    "llama_rope": ("Llama", {**_SHAPE, "head_dim": 32, "rope_parameters": _LLAMA3_ROPE}),
    "qwen3": ("Qwen3", {**_SHAPE, "head_dim": 20, "tie_word_embeddings": False}),
    "qwen3_long": ("Qwen3", {**_SHAPE, "head_dim": 32, "tie_word_embeddings": True, "max_position_embeddings": 1300}),
    "qwen3_tied": ("Qwen3", {**_SHAPE, "head_dim": 16, "tie_word_embeddings": True}),
    "qwen3_moe": ("Qwen3Moe", {**_SHAPE, **_EXPERTS, "norm_topk_prob": True}),
    "qwen3_moe_raw_shares": ("Qwen3Moe", {**_SHAPE, **_EXPERTS, "norm_topk_prob": False}),
    "qwen3_moe_dense_layer": ("Qwen3Moe", {**_SHAPE, **_EXPERTS, "mlp_only_layers": [0]}),
    "qwen3_moe_sparse_step": ("Qwen3Moe", {**_SHAPE, **_EXPERTS, "num_hidden_layers": 3, "decoder_sparse_step": 2}),
}
"""By name: the family's class prefix in transformers, and its configuration."""


def shared_folder() -> Path:
    """Where real checkpoints to compare with may lie; see CONTRIBUTING."""
    return Path(os.environ.get("TEST_SHARED", Path(__file__).parents[4] / "shared"))


@functools.cache
def reference_model(name: str) -> transformers.PreTrainedModel:
    """transformers' own model of this family with random weights, norms and routers far from their neutral start."""
    prefix, settings = FAMILIES[name]
    config = getattr(transformers, f"{prefix}Config")(**settings, attn_implementation="eager")
    torch.manual_seed(17)
    model: transformers.PreTrainedModel = getattr(transformers, f"{prefix}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.08)
    model.requires_grad_(False)
    return model


def save_model(name: str, directory: Path) -> Path:
    reference_model(name).save_pretrained(directory)
    return directory


def reference_logprobs(model: Any, tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What transformers gives `targets` [N] after `tokens` [N], alone and without a cache."""
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0].float()
    chosen = torch.log_softmax(logits, -1).gather(1, torch.from_numpy(targets.astype(np.int64))[:, None])
    return chosen[:, 0].numpy()


def random_datum(rng: np.random.Generator, length: int, loss_fn: str = "cross_entropy", vocab: int = VOCAB) -> Datum:
    """Random tokens, with plausible inputs for the loss."""
    tokens = rng.integers(0, vocab, length + 1)
    inputs: dict[str, np.ndarray] = {"target_tokens": tokens[1:].astype(np.int64)}
    if loss_fn == "cross_entropy":
        inputs["weights"] = rng.normal(1.0, 0.5, length).astype(np.float32)
    else:
        inputs["logprobs"] = rng.normal(-np.log(vocab), 0.3, length).astype(np.float32)
        inputs["advantages"] = rng.normal(size=length).astype(np.float32)
    if loss_fn == "gspo":
        inputs["sequence_ratio_mask"] = (rng.random(length) < 0.7).astype(np.float32)
    return Datum(tokens[:-1].astype(np.int32), inputs)


def trained_adapter(config: ModelConfig, lora: LoraConfig, size: float = 0.05) -> AdapterState:
    """A new adapter that looks as if it had been trained: B is not zero."""
    state = new_adapter(config, lora)
    generator = torch.Generator().manual_seed(1000 + (lora.seed or 0))
    state.weights.add_(torch.randn(state.weights.shape, generator=generator) * size)
    return state


def forward_backward(
    decoder: Decoder,
    state: AdapterState,
    data: Sequence[Datum],
    loss_fn: str = "cross_entropy",
    max_tokens: int = 4096,
    **settings: float,
) -> list[PieceResult]:
    """One adapter's operation, alone, piece by piece."""
    pieces = cut(ForwardBackward("alone", tuple(data), loss_fn, dict(settings)), max_tokens)
    return [result for piece in pieces for result in run_pieces(decoder, [piece], {"alone": state})]


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """L2 distance over L2 size."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def weight_gradient(model: Any, site: str) -> torch.Tensor:
    """[O, I], or of experts [E, O, I]."""
    path, _, last = site.rpartition(".")
    if not path.endswith(".experts"):
        module = model.get_submodule(site)
        gradient: torch.Tensor = module.weight.grad
        return gradient.t() if type(module).__name__ == "Conv1D" else gradient
    experts = model.get_submodule(path)
    gradient = (experts.down_proj if last == "w2" else experts.gate_up_proj).grad
    if type(experts).__name__ == "GptOssExperts":
        gradient = gradient.mT
        return gradient if last == "w2" else gradient[:, {"w1": 0, "w3": 1}[last] :: 2]
    return gradient if last == "w2" else gradient.chunk(2, dim=1)[{"w1": 0, "w3": 1}[last]]


class Engine:
    """An `EngineLoop` on a thread of its own."""

    def __init__(self, models: dict[str, LoadedModel]) -> None:
        self._replies: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._loop = EngineLoop(models, Limits(micro_batch_tokens=64), lambda *reply: self._replies.put(reply))
        self._thread = threading.Thread(target=self._loop.run, daemon=True)

    def __enter__(self) -> "Engine":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.put(0, CLOSE)
        self._thread.join(30)

    def ask(self, *operations: Any) -> list[Any]:
        for ticket, operation in enumerate(operations):
            self._loop.put(ticket, operation)
        replies = dict(self._replies.get(timeout=30) for _ in operations)
        for reply in replies.values():
            if isinstance(reply, Exception):
                raise reply
        return [replies[ticket] for ticket in range(len(operations))]


def layer_gradients(
    decoder: Decoder, states: Sequence[AdapterState], splits: Sequence[int], lengths: Sequence[int], autograd: bool
) -> list[torch.Tensor]:
    """The layers' output, and the gradient of each adapter, which has its share of the sequences: as they are computed,
    or with attention that hides what it is, so that the framework computes all and autograd the gradients."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.tensor([0, *lengths]).cumsum(0)[list(splits)].tolist()
    tokens_T = torch.randint(0, decoder.config.vocab_size, (sum(lengths),), generator=generator)
    positions_T = torch.cat([torch.arange(n) for n in lengths])
    for state in states:
        state.set_gradient(None)
    lora = CPU.training_lora([(*share, s) for share, s in zip(pairwise(rows), states, strict=True)], True)
    packed = PackedAttention(lengths)

    def plain(
        layer: int, q_THd: torch.Tensor, k_TKd: torch.Tensor, v_TKd: torch.Tensor, kind: AttentionKind | None = None
    ) -> torch.Tensor:
        return packed(layer, q_THd, k_TKd, v_TKd)

    hidden = decoder.forward(tokens_T, positions_T, plain if autograd else packed, lora)
    hidden.backward(torch.randn(hidden.shape, generator=generator))
    return [hidden.detach(), *[s.gradient for s in states if s.gradient is not None]]


def bound_head(monkeypatch: pytest.MonkeyPatch, module: ModuleType, how: str, chunk: int) -> str:
    """How much of the logits there may be at a time, and be kept: one of `HEAD_MEMORY`; `chunk` elements are a part."""
    elements, kept = {
        "whole": (1 << 22, 1 << 24),
        "kept chunks": (chunk, 1 << 24),
        "computed again": (chunk, 0),
        "one row at a time": (1, 0),
    }[how]
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(module, "KEEP_ELEMENTS", kept)
    return how


HEAD_MEMORY = ["whole", "kept chunks", "computed again", "one row at a time"]
