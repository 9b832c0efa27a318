"""A model behind a service of the Tinker protocol: one that it serves, or a checkpoint there."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.kinds.contract import Inference

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.messages import Message
    from hone.algorithms.renderers import Renderer


class TinkerParams(Config):
    model: str | None = None
    """A base model; without it the first that the service serves, or that of the checkpoint."""
    checkpoint: str | None = None
    """Saved weights for sampling: `tinker://...`."""
    base_url: str | None = None
    """The service; without it `TINKER_BASE_URL`."""
    api_key_env: str = "TINKER_API_KEY"
    """The environment variable with the key."""
    renderer: str | None = None
    """The chat format; without it what is recommended for the model."""

    @model_validator(mode="after")
    def _form(self) -> TinkerParams:
        if self.checkpoint is not None and not self.checkpoint.startswith("tinker://"):
            raise ValueError(f"a checkpoint is named tinker://...; found {self.checkpoint!r}")
        return self


class Tinker(Inference[TinkerParams]):
    """Connects with the first question, and stays connected."""

    Params = TinkerParams

    def __init__(self, params: TinkerParams) -> None:
        super().__init__(params)
        self._connected: tuple[tinker.SamplingClient, Renderer] | None = None
        self._lock = threading.Lock()

    async def generate(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> str:
        import tinker

        from hone.algorithms.messages import text_of

        sampler, renderer = await asyncio.to_thread(self._connection)
        prompt = renderer.build_generation_prompt(messages)
        params = tinker.SamplingParams(
            max_tokens=max_tokens, temperature=temperature, stop=renderer.get_stop_sequences(), seed=seed
        )
        try:
            answer = await sampler.sample(prompt, 1, params)
        except tinker.TinkerError as error:
            raise UserError(f"{self._name()} does not answer: {error}") from error
        return text_of(renderer.parse_response(answer.sequences[0].tokens)[0])

    def _connection(self) -> tuple[tinker.SamplingClient, Renderer]:
        with self._lock:  # many ask at once, one connects
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> tuple[tinker.SamplingClient, Renderer]:
        import tinker

        from hone.algorithms.renderers import get_renderer, recommended_renderer

        url = self.params.base_url or os.environ.get("TINKER_BASE_URL")
        if url is None:
            raise UserError(f"{self._name()} has no service: give `base_url`, or set TINKER_BASE_URL")
        try:
            # Never closed: closing waits for the service, and it forgets sessions that fall silent.
            service = tinker.ServiceClient(base_url=url, api_key=os.environ.get(self.params.api_key_env))
            sampler = service.create_sampling_client(
                model_path=self.params.checkpoint,
                base_model=None if self.params.checkpoint else self._base_model(service),
            ).result()
            base = self.params.model or sampler.get_base_model()
            # A training client says where its tokenizer is; a sampling client would look for the name on a hub.
            tokenizer: Any = service.create_lora_training_client(base, rank=1).result().get_tokenizer()
        except tinker.TinkerError as error:
            raise UserError(f"{self._name()} cannot be reached at {url}: {error}") from error
        return sampler, get_renderer(self.params.renderer or recommended_renderer(base, tokenizer), tokenizer)

    def _base_model(self, service: tinker.ServiceClient) -> str:
        from hone.client.connect import served_models

        return self.params.model or served_models(service)[0]

    def _name(self) -> str:
        return f"the model {self.params.checkpoint or self.params.model or '(first served)'}"
