"""The decoder: tokens to hidden states, for every supported architecture.

It works on packed rows: T tokens of any number of sequences and adapters, without padding. Who attends to whom is the
business of `attend`, which adapter applies where that of `lora`; so training, prefill and decoding are this one
forward with different views.

Legend: T tokens, h hidden size, H heads, K key-value heads, d head size, M intermediate size.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine import rowwise
from hone.engine.attention import Attend, PackedAttention
from hone.engine.backends.backend import Backend
from hone.engine.backends.cpu import CPU
from hone.engine.head import Head
from hone.engine.lora.batch import LoraBatch
from hone.engine.lora.linear import project
from hone.engine.models.config import ModelConfig
from hone.engine.models.dense_layer import run_layer
from hone.engine.models.pictures import Pictured
from hone.engine.models.rope import rope_tables, rotate
from hone.engine.models.weights import DenseMlp, LayerWeights, ModelWeights, MoeMlp
from hone.engine.recompute import computed_again

if TYPE_CHECKING:
    from hone.engine.native.head import NativeHead
    from hone.engine.native.layers import NativeLayers


class Decoder:
    """A frozen base model."""

    def __init__(self, config: ModelConfig, weights: ModelWeights, backend: Backend = CPU) -> None:
        self.config = config
        self.weights = weights
        self.backend = backend
        self.rope = rope_tables(config, weights.embedding.device)
        self.layers = config.layers
        """That can be computed again."""
        self.written_in_c: NativeLayers | None = None
        """What computes layers and head of whole sequences, where it can."""

    def forward(
        self,
        tokens_T: Tensor,
        positions_T: Tensor,
        attend: Attend,
        lora: LoraBatch,
        recomputed: int = 0,
        pictured: Sequence[Pictured] = (),
    ) -> Tensor:
        """Final normalised hidden states, [T, h]. With gradients enabled the result can be differentiated down to the
        adapters; the first `recomputed` layers then keep only their inputs, see `recompute.py`. It reads text only."""
        assert not pictured
        x_Th = F.embedding(tokens_T, self.weights.embedding)
        if torch.is_grad_enabled():
            x_Th.requires_grad_()  # so that autograd visits the first layer's adapters too
        cos_T1d, sin_T1d = (table[positions_T, None] for table in self.rope)
        run = self._layers(attend, lora, cos_T1d, sin_T1d)
        for i in range(len(self.weights.layers)):
            x_Th = computed_again(partial(run, i), x_Th) if i < recomputed else run(i, x_Th)
        return self._norm(x_Th, self.weights.final_norm)

    def head(self, lora: LoraBatch) -> "Head | NativeHead":
        """Of rows that one adapter has, if any."""
        found = None if self.written_in_c is None else self.written_in_c.head(lora)
        return found or self.plain_head(lora)

    def plain_head(self, lora: LoraBatch) -> Head:
        """The same in the framework's operations."""
        return Head(self.weights.head, lora, self.config.logit_cap, self.backend.head_room)

    def _layers(self, attend: Attend, lora: LoraBatch, cos_T1d: Tensor, sin_T1d: Tensor) -> Callable[..., Tensor]:
        """What computes a layer, given its number and its input."""
        if self.written_in_c is not None and isinstance(attend, PackedAttention):
            found = self.written_in_c.begin(attend, lora, cos_T1d, sin_T1d)
            if found is not None:
                return found
        return partial(self.plain_layer, cos_T1d, sin_T1d, attend, lora)

    def plain_layer(
        self, cos_T1d: Tensor, sin_T1d: Tensor, attend: Attend, lora: LoraBatch, i: int, x_Th: Tensor
    ) -> Tensor:
        """Layer `i` in the framework's operations, [T, h]."""
        layer = self.weights.layers[i]
        written_out = type(lora) is LoraBatch and isinstance(layer.mlp, DenseMlp)  # GPUs have a kind of their own
        if torch.is_grad_enabled() and written_out and isinstance(attend, PackedAttention):
            return run_layer(self.config, i, layer, cos_T1d, sin_T1d, attend, lora, x_Th)
        mixed_Th = self._attention(i, layer, self._norm(x_Th, layer.attention_norm), cos_T1d, sin_T1d, attend, lora)
        x_Th = x_Th + mixed_Th
        return x_Th + self._mlp(i, layer.mlp, self._norm(x_Th, layer.mlp_norm), lora)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.backend.rms_norm(x, weight, self.config.rms_norm_eps)

    def _attention(
        self,
        i: int,
        layer: LayerWeights,
        x_Th: Tensor,
        cos_T1d: Tensor,
        sin_T1d: Tensor,
        attend: Attend,
        lora: LoraBatch,
    ) -> Tensor:
        heads, kv_heads = self.config.heads, self.config.kv_heads
        qkv = lora.project(f"model.layers.{i}.qkv", x_Th, layer.qkv)
        # queries and keys get the same treatment, so they stay one tensor until they part
        qk, v = qkv.view(x_Th.shape[0], -1, self.config.head_dim).split([heads + kv_heads, kv_heads], dim=1)
        if layer.qk_norm is not None:
            qk = self._norm(qk, layer.qk_norm)
        q, k = rotate(qk, cos_T1d, sin_T1d).split([heads, kv_heads], dim=1)
        mixed = attend(i, q, k, v)
        return lora.project(f"model.layers.{i}.o", mixed, layer.o)

    def _mlp(self, i: int, mlp: DenseMlp | MoeMlp, x_Th: Tensor, lora: LoraBatch) -> Tensor:
        if isinstance(mlp, MoeMlp):
            return self._experts(i, mlp, x_Th, lora)
        gate_TM, up_TM = lora.project(f"model.layers.{i}.gate_up", x_Th, mlp.gate_up).chunk(2, dim=-1)
        return lora.project(f"model.layers.{i}.down", F.silu(gate_TM) * up_TM, mlp.down)

    def _experts(self, i: int, mlp: MoeMlp, x_Th: Tensor, lora: LoraBatch) -> Tensor:
        """Top-k routing in fp32; every expert is a dense MLP over the tokens that chose it."""
        scores_TE = torch.softmax(rowwise.linear(x_Th, mlp.router).float(), dim=-1)
        share_Tk, chosen_Tk = scores_TE.topk(self.config.experts_per_token, dim=-1)
        if self.config.norm_topk_prob:
            share_Tk = share_Tk / share_Tk.sum(dim=-1, keepdim=True)
        out_Th = torch.zeros_like(x_Th)
        for e in chosen_Tk.unique().tolist():
            rows, slots = (chosen_Tk == e).nonzero(as_tuple=True)
            up_segments = lora.expert_segments(f"model.layers.{i}.gate_up", e, rows)
            down_segments = lora.expert_segments(f"model.layers.{i}.down", e, rows)
            gate, up = project(x_Th[rows], mlp.gate_up[e], up_segments).chunk(2, dim=-1)
            y = project(F.silu(gate) * up, mlp.down[e], down_segments)
            out_Th = out_Th.index_add(0, rows, y * share_Tk[rows, slots, None].to(y.dtype))
        return out_Th
