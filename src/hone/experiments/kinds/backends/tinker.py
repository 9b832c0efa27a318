"""Any service that speaks the protocol; without an address, a server of the experiment's own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeFloat

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.kinds.contract import Backend, Foresight, Prices, Session

if TYPE_CHECKING:
    import tinker

EMBEDDED = "hone/tiny"
ENDING_SECONDS = 60.0
"""How long the server of a program that was killed may take to end. It notices at once, and finishes its step."""


class PriceParams(Config):
    """US dollars per million tokens."""

    training: NonNegativeFloat = 0.0
    """Trained tokens."""
    prefill: NonNegativeFloat = 0.0
    """Prompt tokens."""
    sample: NonNegativeFloat = 0.0
    """Sampled tokens."""


class TinkerParams(Config):
    base_url: str | None = None
    """The service. Without it `TINKER_BASE_URL`; without that one an embedded server, which starts and ends with the
    experiment and keeps its data in the experiment's directory."""
    api_key_env: str = "TINKER_API_KEY"
    """The environment variable that holds the key of a service."""
    data_dir: str | None = None
    """Where the embedded server keeps its data, in place of the experiment's directory."""
    models: list[str] = Field(default_factory=list)
    """What the embedded server serves, as `[NAME=]DIR`; without any, the embedded model."""
    model: str | None = None
    """The base model of arms that name none; without it the first that is served."""
    prices: PriceParams = PriceParams()
    """What the service charges: budgets and results are in dollars by these."""


class Tinker(Backend[TinkerParams]):
    Params = TinkerParams
    connection = frozenset({"base_url", "api_key_env", "data_dir", "prices"})

    def foresee(self, home: Path) -> Foresight:
        prices = Prices(**self.params.prices.model_dump())
        if self.params.base_url or os.environ.get("TINKER_BASE_URL"):
            return Foresight([self.params.model] if self.params.model else [], prices=prices)
        embedded = Path(str(files("hone"))) / "assets" / "tiny"
        folders = dict(map(_named_folder, self.params.models)) or {EMBEDDED: embedded}
        first = [self.params.model] if self.params.model in folders else []
        return Foresight(list(dict.fromkeys([*first, *folders])), folders, prices)

    @contextmanager
    def open(self, home: Path) -> Iterator[Session]:
        from hone.client.connect import served_models, service_client
        from hone.client.embedded import embedded_server

        url = self.params.base_url or os.environ.get("TINKER_BASE_URL")
        if url is None:
            data_dir = Path(self.params.data_dir) if self.params.data_dir else home
            _wait_until_free(data_dir)
            log = data_dir.parent / f"{data_dir.name}.log"
            with (
                embedded_server(data_dir, models=self.params.models, log=log) as server,
                service_client(server.url, server.api_key) as service,
            ):
                yield self._session(service, list(server.models))
            return
        if self.params.models or self.params.data_dir:
            raise UserError(f"`models` and `data_dir` are an embedded server's, and the service is {url}; drop one")
        with service_client(url, os.environ.get(self.params.api_key_env)) as service:
            yield self._session(service, served_models(service))

    def _session(self, service: tinker.ServiceClient, models: list[str]) -> Session:
        from hone.client.connect import keep_checkpoint

        if (wanted := self.params.model) is not None:
            if wanted not in models:
                raise UserError(f"the backend does not serve {wanted!r}; it serves {', '.join(models)}")
            models = [wanted, *(name for name in models if name != wanted)]
        prices = self.params.prices
        told = Prices(prices.training, prices.prefill, prices.sample)
        return Session(service, models, told, partial(keep_checkpoint, service))


def _named_folder(text: str) -> tuple[str, Path]:
    """`[NAME=]DIR` as `hone serve --model` reads it."""
    name, _, folder = text.rpartition("=")
    return name or Path(folder).resolve().name, Path(folder)


def _wait_until_free(data_dir: Path) -> None:
    """After a kill the old server still ends: it holds its directory until its last write is done."""
    from hone.paths import DataDirectory, is_in_use

    data = DataDirectory(data_dir)
    deadline = time.monotonic() + ENDING_SECONDS
    while is_in_use(data):
        if time.monotonic() > deadline:
            raise UserError(f"{data_dir} is in use by a server that does not end; stop it, or give another `data_dir`")
        time.sleep(0.1)
