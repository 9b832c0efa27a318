"""From "where is the service?" to a `tinker.ServiceClient`, in one place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hone.client.embedded import embedded_server
from hone.errors import UserError

if TYPE_CHECKING:
    import tinker

EMBEDDED = "embedded"
CLOSING_SECONDS = 30.0
SETTLING_SECONDS = 0.05
"""The SDK's HTTP library lets go of the last answer in threads of its own; a process that ends meanwhile is aborted."""


@contextmanager
def connect(
    target: str = EMBEDDED, *, api_key: str | None = None, data_dir: Path | None = None
) -> Iterator[tinker.ServiceClient]:
    """A client on the server at the URL `target`, or on one of its own that ends with the block.

    The official SDK's variables hold where nothing is given: `TINKER_API_KEY` is the key of a URL. `data_dir` is where
    an embedded server keeps its data; without it, nothing is kept.
    """
    if target == EMBEDDED:
        with embedded_server(data_dir) as server, service_client(server.url, server.api_key) as client:
            yield client
        return
    if not target.startswith(("http://", "https://")):
        raise UserError(f'cannot connect to {target!r}; give a URL such as "http://127.0.0.1:8000", or "{EMBEDDED}"')
    if data_dir is not None:
        raise UserError(f"data_dir belongs to an embedded server, but the target is {target}; leave one of them out")
    with service_client(target, api_key) as client:
        yield client


@contextmanager
def service_client(url: str, api_key: str | None) -> Iterator[tinker.ServiceClient]:
    """The SDK's client; leaving the block finishes its session on the server."""
    import tinker  # not at the top: reading a config must stay quick

    client = tinker.ServiceClient(base_url=url, api_key=api_key)
    ended: Literal["success", "errored", "interrupted"] = "interrupted"
    try:
        yield client
        ended = "success"
    except Exception:
        ended = "errored"
        raise
    finally:
        # the SDK's own `with` waits without a limit, and now and then, under load, for a background task of its own
        # that missed its cancellation; the session is finished before it waits for those
        with contextlib.suppress(TimeoutError):
            client.close(ended).result(timeout=CLOSING_SECONDS)
        time.sleep(SETTLING_SECONDS)


def served_models(service: tinker.ServiceClient) -> list[str]:
    """The base models that the server offers, its first one first."""
    import tinker

    # With the client's own connection: its address and key may not be in the environment.
    offered = tinker.RestClient(service.holder).get_server_capabilities().result().supported_models
    return [model.model_name for model in offered if model.model_name is not None]


async def keep_checkpoint(service: tinker.ServiceClient, path: str) -> None:
    """The checkpoint at `tinker://...` no longer expires."""
    import tinker

    await tinker.RestClient(service.holder).set_checkpoint_ttl_from_tinker_path(path, None)
