"""One loaded base model: the decoder, its tokenizer, and what the server wants to know about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from hone.engine.backends.backend import Backend
from hone.engine.backends.cpu import CPU
from hone.engine.contract import BaseModel, ModelSource
from hone.engine.lora.layout import LoraLayout
from hone.engine.models.config import ModelConfig, OtherArchitecture, read_config
from hone.engine.models.decoder import Decoder
from hone.engine.models.hf import HfDecoder, load_hf
from hone.engine.models.hf_config import read_hf_config
from hone.engine.models.vision import Vision
from hone.engine.models.weights import count_parameters, load_weights
from hone.engine.recompute import AT_WORK, PassMemory, measure
from hone.errors import UserError
from hone.protocol.types import LoraConfig

_FLAGS = ("attn", "mlp", "unembed")
PROBE_LENGTH = 16
"""Tokens of each sequence of a pass that is measured."""

_PARTS = [LoraConfig(1, 0, **{f"train_{p}": p == part for p in _FLAGS}) for part in _FLAGS]


@dataclass(frozen=True)
class LoadedModel:
    directory: Path
    config: ModelConfig
    decoder: Decoder | HfDecoder

    @property
    def backend(self) -> Backend:
        return self.decoder.backend

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Only stop strings need it, so it is read on first use."""
        file = self.directory / "tokenizer.json"
        if not file.is_file():
            raise UserError(
                f"stop strings need a tokenizer, and {self.directory} has no tokenizer.json; give stop token ids"
            )
        return Tokenizer.from_file(str(file))

    @property
    def vision(self) -> Vision | str:
        """What sees images, or why there is none."""
        return self.decoder.vision if isinstance(self.decoder, HfDecoder) else "it reads text only"

    @property
    def parameters(self) -> int:
        if isinstance(self.decoder, HfDecoder):
            return self.decoder.parameters
        return count_parameters(self.config, self.decoder.weights)

    @property
    def weight_bytes(self) -> int:
        """In memory, with the copy that training in C reads."""
        native = self.decoder.written_in_c
        copy = 0 if native is None else native.bytes
        return self.parameters * self.decoder.weights.embedding.element_size() + copy

    @cached_property
    def memory(self) -> PassMemory:
        """What forward and backward passes need."""

        def forward(tokens: int, recomputed: int) -> Tensor:
            lengths = [PROBE_LENGTH] * (tokens // PROBE_LENGTH)
            positions_T = torch.arange(PROBE_LENGTH, device=self.backend.device).repeat(len(lengths))
            attend, lora = self.backend.packed(lengths), self.backend.sampling_lora([None], [0, len(positions_T)])
            return self.decoder.forward(torch.zeros_like(positions_T), positions_T, attend, lora, recomputed)

        native = self.decoder.written_in_c
        at_work = AT_WORK if native is None else native.at_work
        return measure(forward, self.decoder.layers, self.config.vocab_size, at_work)

    def describe(self, name: str) -> BaseModel:
        attn, mlp, unembed = (LoraLayout(self.config, lora).size for lora in _PARTS)
        return BaseModel(
            name=name,
            directory=str(self.directory),
            architecture=self.config.architecture,
            max_context=self.config.max_context,
            vocab_size=self.config.vocab_size,
            parameters=self.parameters,
            weight_bytes=self.weight_bytes,
            lora_parameters=(attn, mlp, unembed),
        )


def load_model(source: ModelSource, backend: Backend = CPU) -> LoadedModel:
    directory = source.directory.resolve()
    if not directory.is_dir():
        raise UserError(f"model {source.name!r}: {source.directory} is not a directory")
    try:
        config = read_config(directory)
    except OtherArchitecture as refused:
        other = load_hf(directory, backend, refused)
        return LoadedModel(directory, other.config, other)
    weights = load_weights(directory, config, backend.device, backend.dtype)
    decoder = Decoder(config, weights, backend)
    decoder.written_in_c = backend.layers(decoder)
    return LoadedModel(directory, config, decoder)


def read_shape(directory: Path) -> ModelConfig:
    """What is known of a model, and so of its adapters, without its weights."""
    try:
        return read_config(directory)
    except OtherArchitecture as refused:
        return read_hf_config(directory, refused)[0]


def load_models(sources: Sequence[ModelSource], backend: Backend = CPU) -> dict[str, LoadedModel]:
    """All of them by name; one directory under several names is loaded once."""
    by_directory: dict[Path, LoadedModel] = {}
    models = {}
    for source in sources:
        real = source.directory.resolve()
        if real not in by_directory:
            by_directory[real] = load_model(source, backend)
        models[source.name] = by_directory[real]
    return models
