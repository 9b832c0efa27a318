"""Open backends, tokenizers and chat formats: opened when the first arm needs them, and shared by all."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.experiments.config import BackendSpec, ModelConfig
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import Session
from hone.experiments.runner.directory import identity

if TYPE_CHECKING:
    from hone.algorithms.renderers import Renderer


@dataclass(frozen=True)
class Speaker:
    """A base model, and how it is spoken to."""

    session: Session
    model: str
    tokenizer: Any
    renderer: Renderer


class Services:
    """`with Services(...) as services:`; what was opened is closed at the end."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack = ExitStack()
        self._sessions: dict[str, asyncio.Task[Session]] = {}
        self._tokenizers: dict[tuple[str, str], asyncio.Task[Any]] = {}

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.close()

    async def session(self, spec: BackendSpec) -> Session:
        """The same one for the same kind and parameters, each with a directory of its own.

        Raises:
            UserError: it cannot be opened; so it is for every arm that wants it.
        """
        key = identity(spec.kind, spec.params)
        if key not in self._sessions:
            backend = plugins.backends.make(spec.kind, spec.params)
            home = self._home / f"{spec.kind}-{key}"
            home.mkdir(parents=True, exist_ok=True)
            # Starting a server takes seconds in which other arms go on.
            opening = asyncio.to_thread(self._stack.enter_context, backend.open(home))
            self._sessions[key] = asyncio.create_task(opening)
        return await asyncio.shield(self._sessions[key])

    async def speaker(self, spec: BackendSpec, model: ModelConfig) -> Speaker:
        """For the model that a run names, or the first that its backend serves."""
        from hone.algorithms.renderers import get_renderer, recommended_renderer

        session = await self.session(spec)
        name = model.name or session.models[0]
        key = (identity(spec.kind, spec.params), name)
        if key not in self._tokenizers:
            self._tokenizers[key] = asyncio.create_task(asyncio.to_thread(_tokenizer, session, name))
        tokenizer = await asyncio.shield(self._tokenizers[key])
        return Speaker(
            session, name, tokenizer, get_renderer(model.renderer or recommended_renderer(name, tokenizer), tokenizer)
        )


def _tokenizer(session: Session, model: str) -> Any:
    # A training client says where its tokenizer is; a sampling client would look for the model's name on a hub.
    return session.service.create_lora_training_client(model, rank=1).result().get_tokenizer()
