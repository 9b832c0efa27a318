"""Any causal language model of transformers, behind the contract of our own decoder.

A model whose attention goes through transformers' `AttentionInterface` runs on packed rows and from the paged cache, as
our decoder does. Any other (recurrent and convolutional layers, masks of its own) runs sequence by sequence with
transformers' attention, and is computed anew for every token that it samples. Which of the two a model is, is tried out
when it is loaded: both must compute the same.

Legend: T tokens, h hidden, V vocabulary.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hone.engine.attention import BLOCK, Attend, DecodeAttention, KeyValueCache, PackedAttention, PrefillAttention
from hone.engine.backends.backend import Backend
from hone.engine.backends.cpu import CPU
from hone.engine.head import Head
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.lora.state import new_adapter
from hone.engine.models.config import ModelConfig, OtherArchitecture
from hone.engine.models.hf_config import auto_class, is_experts, is_linear, read_hf_config
from hone.engine.models.hf_plugs import (
    NAME,
    CannotPack,
    Pass,
    ProjectedLinear,
    prepare_experts,
    prepare_layers,
    register,
    running,
)
from hone.engine.models.pictures import Pictured, rotary_positions, sight
from hone.engine.models.vision import Vision, load_vision, probe_image
from hone.errors import UserError
from hone.protocol.types import LoraConfig, PlacedImage

logger = logging.getLogger(__name__)

PROBE = (13, 7)
"""Lengths of the sequences that are tried when a model is loaded."""
TOLERANCE = 1e-3
"""Of the largest number; what sees a neighbour or a later token is off by far more."""

ROWS = 32
"""Packs are padded to a multiple of this: matrix products keep their bits from four rows up, and the vector loops of
the framework's functions end without a rest, which they would compute in another way than what stands before it."""

_PACKED_LAYERS = {"full_attention", "sliding_attention"}
_PACKED_ROPES = {"default", "linear", "llama3", "yarn", "proportional"}
"""The angles of others depend on the longest sequence of a batch."""


@dataclass(frozen=True)
class HfWeights:
    embedding: Tensor
    """[vocab, hidden]"""
    head: Tensor
    """[vocab, hidden]"""


class HfDecoder:
    """A frozen base model that transformers runs."""

    written_in_c: None = None

    def __init__(self, config: ModelConfig, model: Any) -> None:
        self.config, self.model = config, model
        self.backend: Backend = CPU
        below = (model.base_model, model.get_decoder(), getattr(model, "model", model))
        self._base = next((m for m in below if m is not model), model)
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        self.weights = HfWeights(embedding.weight, head.weight)
        self.parameters: int = sum(p.numel() for p in model.parameters())
        self._embedding = embedding
        self.vision: Vision | str = "it reads text only"
        """What sees images; text says why there is none."""
        rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
        self._rotates_in_three = "mrope_section" in rope
        """Whether rotary positions are time, height and width."""
        self._scale = 1.0
        """Of the hidden states, before the head."""
        modules = {m.name for m in config.modules}
        for name, module in list(model.named_modules()):
            if is_experts(module) and name in modules:
                prepare_experts(module, name)
            elif name.endswith("experts") and any(p.ndim == 3 for p in module.parameters(recurse=False)):
                logger.warning("%s: %s has products of its own and cannot be trained", config.architecture, name)
            elif is_linear(module) and module is not head and not re.search(r"experts\.\d", name):
                weight = module.weight.data if isinstance(module, nn.Linear) else module.weight.data.t().contiguous()
                projected = ProjectedLinear(name if name in modules else None, weight, module.bias)
                parent, _, last = name.rpartition(".")
                setattr(model.get_submodule(parent), last, projected)
        self.layers = prepare_layers(getattr(self._base, "language_model", self._base))
        """That can be computed again."""
        # so that autograd visits the first layer's adapters too
        embedding.register_forward_hook(lambda _, __, out: out.requires_grad_() if torch.is_grad_enabled() else out)

    def move(self, backend: Backend) -> None:
        self.backend = backend
        if backend is CPU:
            return
        if isinstance(self.vision, Vision):
            self.vision = "images are computed on a CPU in float32 only (HONE_DEVICE=cpu, HONE_DTYPE=float32)"
        self.model.to(backend.device, backend.dtype)
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        self.weights = HfWeights(embedding.weight, head.weight)

    def forward(
        self,
        tokens_T: Tensor,
        positions_T: Tensor,
        attend: Attend,
        lora: LoraBatch,
        recomputed: int = 0,
        pictured: Sequence[Pictured] = (),
    ) -> Tensor:
        """Final hidden states as the head wants them, [T, h]. With gradients enabled the result can be differentiated
        down to the adapters; the first `recomputed` layers then keep only their inputs, see `recompute.py`. Where an
        image is, tokens are negative."""
        grad = torch.is_grad_enabled()
        # models keep tensors from one pass to the next, which must not be ones that autograd refuses
        with torch.inference_mode(False), torch.set_grad_enabled(grad):
            if self.config.cached:
                one = _packed(lora, tokens_T, attend, self.config.head_dim)
                one.recomputed = recomputed
                return self._run(tokens_T, positions_T, one, pictured) * self._scale
            parts = []
            for start, stop in _sequences(positions_T):
                rows, one = slice(start, stop), _alone(lora.part(start, stop), stop - start)
                one.recomputed = recomputed
                mine = [p.moved(-start) for p in pictured if p.start == start]
                parts.append(self._run(tokens_T[rows], positions_T[rows], one, mine))
            return torch.cat(parts) * self._scale

    def _run(self, tokens_T: Tensor, positions_T: Tensor, one: Pass, pictured: Sequence[Pictured] = ()) -> Tensor:
        padding = (0, one.given - one.rows)
        with running(one):
            if pictured:
                out = self._look(F.pad(tokens_T, padding), F.pad(positions_T, padding), pictured)
            else:
                tokens, positions = (F.pad(x, padding)[None] for x in (tokens_T, positions_T))
                out = self._base(input_ids=tokens, position_ids=positions, use_cache=False)
        hidden: Tensor = out[0][0, : one.rows]
        return hidden

    def _look(self, tokens_T: Tensor, positions_T: Tensor, pictured: Sequence[Pictured]) -> Any:
        """The text model with what the tower sees in the place of embeddings."""
        assert isinstance(self.vision, Vision)
        seen, more = sight(pictured, self.vision), {}
        embeds_Th = self._embedding(tokens_T.clamp(min=0))
        if seen is not None:
            rows_n = seen.rows_n.to(tokens_T.device)
            embeds_Th = embeds_Th.index_copy(0, rows_n, seen.features_nh.to(embeds_Th.dtype))
            if seen.deeper:
                there_T = torch.zeros(len(tokens_T), dtype=torch.bool, device=tokens_T.device)
                there_T.index_fill_(0, rows_n, True)
                more = {"visual_pos_masks": there_T[None], "deepstack_visual_embeds": list(seen.deeper)}
        if self._rotates_in_three:
            positions_T = rotary_positions(positions_T.cpu(), pictured, self.vision).to(tokens_T.device)
        positions = positions_T.unsqueeze(-2)  # [1, T] or [3, 1, T]
        return self._base.language_model(inputs_embeds=embeds_Th[None], position_ids=positions, use_cache=False, **more)

    def head(self, lora: LoraBatch) -> Head:
        """Of rows that one adapter has, if any."""
        return Head(self.weights.head, lora, self.config.logit_cap, self.backend.head_room)

    # --- trying it out ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def settle(self, packs: bool) -> None:
        """Find out how the model can be run, and that it is one that this engine can run."""
        self.config = replace(self.config, cached=False)
        tokens_T = torch.randint(0, self.config.vocab_size, (sum(PROBE),), generator=torch.Generator().manual_seed(0))
        positions_T = torch.cat([torch.arange(n) for n in PROBE])
        nobody = PackedAttention(PROBE)  # not asked
        try:
            hidden_Th = self.forward(tokens_T, positions_T, nobody, LoraBatch([]))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.config.architecture}: transformers' model does not run on tokens and positions alone: {error}"
            ) from error
        if hidden_Th.shape[1] != self.config.hidden_size:
            raise UserError(
                f"{self.config.architecture}: the model below the head gives {hidden_Th.shape[1]} numbers per token; "
                f"its head takes {self.config.hidden_size}"
            )
        self._check_causal(tokens_T[: PROBE[0]], hidden_Th[: PROBE[0]])
        self._check_head(tokens_T[: PROBE[0]], hidden_Th[: PROBE[0]])
        if packs and self._set_attention(NAME) and not self._try_packed(tokens_T, positions_T, hidden_Th * self._scale):
            self._set_attention(None)
            self.config = replace(self.config, cached=False)
        if self.layers and not self._try_again(tokens_T, positions_T):
            logger.warning("%s keeps all its layers in memory: computed again, they differ", self.config.architecture)
            self.layers = 0

    @torch.enable_grad()
    def _try_again(self, tokens_T: Tensor, positions_T: Tensor) -> bool:
        """Whether layers that are computed again give the same gradient: they may have passed on something in
        secret."""
        state = new_adapter(self.config, LoraConfig(rank=1, seed=0))
        state.weights.add_(0.01)
        gradients = []
        for recomputed in (0, self.layers):
            state.set_gradient(None)
            span = LoraSpan(0, len(tokens_T), state.weight_views, state.gradient_views(), state.layout.scale)
            attend, lora = PackedAttention(PROBE), LoraBatch([span])
            self.forward(tokens_T, positions_T, attend, lora, recomputed).square().sum().backward()
            gradients.append(state.gradient)
        kept, again = gradients
        assert kept is not None
        assert again is not None
        return _close(again, kept)

    def _check_causal(self, tokens_T: Tensor, hidden_Th: Tensor) -> None:
        changed_T = tokens_T.clone()
        changed_T[-1] = (changed_T[-1] + 1) % self.config.vocab_size
        one = _alone(LoraBatch([]), len(tokens_T))
        found_Th = self._run(changed_T, torch.arange(len(tokens_T)), one)
        if not _close(found_Th[:-1], hidden_Th[:-1]):
            raise UserError(
                f"{self.config.architecture}: a later token changes the hidden states before it; "
                "only causal language models are supported"
            )
        unused = [m.name for m in self.config.modules if not {m.name, f"{m.name}.down"} & one.used]
        if unused:
            logger.warning(
                "%s: %d projections are not used for text and cannot be trained, the first is %s",
                self.config.architecture,
                len(unused),
                unused[0],
            )

    def _check_head(self, tokens_T: Tensor, hidden_Th: Tensor) -> None:
        """Some models scale hidden states or logits, which is the same; others change logits in further ways."""
        with running(_alone(LoraBatch([]), len(tokens_T))):
            wanted = self.model(input_ids=tokens_T[None], use_cache=False).logits[0].float()
        text, cap = self.model.config.get_text_config(), self.config.logit_cap
        scales = [1.0, *(float(s) for n in ("logit_scale", "logits_scaling") if (s := getattr(text, n, None)))]
        for scale in (*scales, *(1 / s for s in scales)):
            logits = (hidden_Th * scale) @ self.weights.head.t()
            if _close(torch.tanh(logits / cap) * cap if cap else logits, wanted, 1e-4):
                self._scale = scale
                return
        raise UserError(
            f"{self.config.architecture}: its logits are not the head's product with the last hidden states; supported "
            "are final_logit_softcapping, logit_scale and logits_scaling"
        )

    def _set_attention(self, name: str | None) -> bool:
        """None: transformers' own choice."""
        config, name = self.model.config, name or self.model.hone_attention
        text = [key for key in config.sub_configs if getattr(config, key) is config.get_text_config()]
        try:
            self.model.set_attn_implementation({text[0]: name} if text else name)  # towers keep their own
        except ValueError:
            return False
        return True

    def _try_packed(self, tokens_T: Tensor, positions_T: Tensor, wanted_Th: Tensor) -> bool:
        """Whether a pack, and a token after cached ones, give what transformers' own attention gives."""
        one = _packed(LoraBatch([]), tokens_T, PackedAttention(PROBE))
        try:
            packed_Th = self._run(tokens_T, positions_T, one) * self._scale
        except (CannotPack, AssertionError, RuntimeError, TypeError, KeyError) as error:
            logger.warning("%s runs sequence by sequence: %s", self.config.architecture, error)
            return False
        heads, widths = {h for h, _ in one.seen.values()}, {w for _, w in one.seen.values()}
        if not _close(packed_Th, wanted_Th) or len(heads) != 1:
            logger.warning("%s runs sequence by sequence: a pack of sequences gives others", self.config.architecture)
            return False
        self.config = replace(
            self.config, cached=True, layers=max(one.seen) + 1, kv_heads=heads.pop(), head_dim=max(widths)
        )
        cache = KeyValueCache(self.config.layers, 3, self.config.kv_heads, self.config.head_dim)
        last = PROBE[0] - 1
        prefill = PrefillAttention([last], cache, torch.arange(BLOCK, BLOCK + last))
        self.forward(tokens_T[:last], positions_T[:last], prefill, LoraBatch([]))
        at = torch.tensor([last])
        decode = DecodeAttention(cache, torch.tensor([[1]]), at + BLOCK, at)
        rows = torch.tensor([last, 0, 0, 0])
        next_Th = self.forward(tokens_T[rows], rows, decode, LoraBatch([]))
        if not _close(next_Th[:1], wanted_Th[last : last + 1]):
            logger.warning("%s runs sequence by sequence: a cache gives other tokens", self.config.architecture)
            return False
        return True

    # --- images -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def open_eyes(self, directory: Path) -> None:
        """Load what images need, and look at one: it must give what transformers' own pass gives."""
        vision = load_vision(directory, self._base)
        if isinstance(vision, Vision):
            try:
                self.vision = vision
                found_Th, wanted_Th = self._glance(vision)
                if not _close(found_Th, wanted_Th):
                    vision = "its decoder does with images what this engine does not"
            except (CannotPack, AttributeError, KeyError, RuntimeError, TypeError, ValueError, AssertionError) as error:
                vision = f"transformers' model takes images in another way: {error}"
        if isinstance(vision, str) and hasattr(self._base, "get_image_features"):
            logger.warning("%s reads no images: %s", self.config.architecture, vision)
        self.vision = vision

    def _glance(self, vision: Vision) -> tuple[Tensor, Tensor]:
        """Hidden states of a text with an image, ours and those of transformers with its own attention."""
        image = probe_image()
        placed = PlacedImage(3, vision.count(image, "probe"), image)
        length = placed.stop + 4
        tokens_T = torch.arange(length) % self.config.vocab_size
        tokens_T[placed.start : placed.stop] = self.model.config.image_token_id
        positions_T, lora = torch.arange(length), LoraBatch([])
        found_Th = self.forward(
            tokens_T, positions_T, PackedAttention([length]), lora, pictured=[Pictured(0, length, 0, (placed,))]
        )
        kinds_T = torch.zeros(length, dtype=torch.int32)
        kinds_T[placed.start : placed.stop] = 1
        packs = self.config.cached
        self._set_attention(None)
        try:
            with running(_alone(lora, length)):
                pixels = vision.pixels(image, "probe")
                out = self._base(input_ids=tokens_T[None], mm_token_type_ids=kinds_T[None], **pixels, use_cache=False)
        finally:
            if packs:
                self._set_attention(NAME)
        return found_Th, out[0][0] * self._scale


def _packed(lora: LoraBatch, tokens_T: Tensor, attend: Attend, head_dim: int = 0) -> Pass:
    return Pass(lora, len(tokens_T), -(-len(tokens_T) // ROWS) * ROWS, attend, head_dim)


def _alone(lora: LoraBatch, length: int) -> Pass:
    return Pass(lora, length, length)


def _sequences(positions_T: Tensor) -> Iterator[tuple[int, int]]:
    """First row and last of each sequence of a pack."""
    starts = (positions_T == 0).nonzero()[:, 0].tolist()
    yield from zip(starts, [*starts[1:], len(positions_T)], strict=True)


def _close(found: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> bool:
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max())


def load_hf(directory: Path, backend: Backend, refused: OtherArchitecture) -> HfDecoder:
    """The model in `directory`, which our own decoder has `refused`. It is tried out in float32 on the CPU, and
    moves to the device then."""
    transformers: Any = import_module("transformers")  # on use: it takes seconds

    register()
    config, raw = read_hf_config(directory, refused)
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = auto_class(raw).from_pretrained(
            directory, config=raw, dtype=CPU.dtype, output_loading_info=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"{directory}: transformers {transformers.__version__} cannot load it: {said}") from None
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{directory} lacks {len(missing)} tensors of the model, the first is {missing[0]!r}")
    model.requires_grad_(False).eval()
    model.hone_attention = model.config._attn_implementation
    if any(is_experts(module) for module in model.modules()):
        model.set_experts_implementation(NAME)
    decoder = HfDecoder(config, model)
    decoder.settle(packs=_may_pack(model))
    decoder.open_eyes(directory)
    decoder.move(backend)
    return decoder


def _may_pack(model: Any) -> bool:
    """Whether the layers are of kinds that our attention can stand in for; a short trial would not tell them apart."""
    text = model.config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ())
    ropes = getattr(text, "rope_parameters", None) or {}
    each = ropes.values() if ropes and all(isinstance(r, dict) for r in ropes.values()) else [ropes]
    kinds = {r.get("rope_type", "default") for r in each}
    chunked = getattr(text, "attention_chunk_size", None)
    return bool(
        model._supports_attention_backend and layers <= _PACKED_LAYERS and kinds <= _PACKED_ROPES and not chunked
    )
