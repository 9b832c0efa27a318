"""Where experiments find a service, without starting one."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hone.errors import UserError
from hone.experiments.kinds import plugins
from hone.experiments.kinds.backends import tinker as backend

ASKED: list[tuple[Any, ...]] = []


@pytest.fixture(autouse=True)
def clients(monkeypatch: pytest.MonkeyPatch) -> None:
    ASKED.clear()

    @contextmanager
    def client(url: str, key: str | None) -> Iterator[object]:
        ASKED.append((url, key))
        yield object()

    @contextmanager
    def server(data_dir: Path, **settings: Any) -> Iterator[object]:
        ASKED.append(("embedded", data_dir, settings["models"]))
        yield SimpleNamespace(url="http://embedded", api_key="its-own", models=("hone/tiny", "other"))

    monkeypatch.setattr("hone.client.connect.service_client", client)
    monkeypatch.setattr("hone.client.connect.served_models", lambda service: ["served/first", "served/second"])
    monkeypatch.setattr("hone.client.embedded.embedded_server", server)
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    monkeypatch.setenv("TINKER_API_KEY", "tml-usual")
    monkeypatch.setenv("OTHER_KEY", "tml-other")


def opened(home: Path, **params: Any) -> Any:
    with plugins.backends.make("tinker", params).open(home) as session:
        return session


def test_a_url_then_the_environment_then_a_server_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "tinker"
    session = opened(home)
    assert [("embedded", home, []), ("http://embedded", "its-own")] == ASKED
    assert session.models == ["hone/tiny", "other"]
    ASKED.clear()
    monkeypatch.setenv("TINKER_BASE_URL", "http://environment")
    assert opened(home).models == ["served/first", "served/second"]
    opened(home, base_url="http://given", api_key_env="OTHER_KEY")
    assert ASKED == [("http://environment", "tml-usual"), ("http://given", "tml-other")]


def test_a_model_may_be_named_and_must_be_served(tmp_path: Path) -> None:
    assert opened(tmp_path / "a", model="other").models == ["other", "hone/tiny"]
    with pytest.raises(UserError, match="it serves hone/tiny, other"):
        opened(tmp_path / "a", model="none")


def test_prices_come_with_the_session(tmp_path: Path) -> None:
    session = opened(tmp_path / "a", prices={"training": 0.4, "sample": 0.5})
    assert (session.prices.training, session.prices.prefill, session.prices.sample) == (0.4, 0.0, 0.5)


def test_what_is_an_embedded_servers_is_refused_for_a_url(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="drop one"):
        opened(tmp_path, base_url="http://given", models=["x=dir"])


def test_a_server_that_still_ends_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = (tmp_path / "lock").open("a+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            lock.close()

    monkeypatch.setattr(backend.time, "sleep", sleep)
    opened(tmp_path)
    assert len(waits) == 3

    with (tmp_path / "lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(backend, "ENDING_SECONDS", 0.0)
        with pytest.raises(UserError, match="does not end"):
            opened(tmp_path)
