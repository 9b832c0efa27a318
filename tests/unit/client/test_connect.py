from concurrent.futures import Future
from pathlib import Path

import pytest

from hone.client.connect import connect, service_client
from hone.errors import UserError


def test_a_target_that_is_no_url_says_what_would_be_one() -> None:
    with pytest.raises(UserError, match=r"http://.*embedded"), connect("localhost:8000"):
        pass


def test_a_data_directory_belongs_to_an_embedded_server(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data_dir"), connect("http://127.0.0.1:1", data_dir=tmp_path):
        pass


class _Stuck:
    """The SDK's client when a task of its own never ends."""

    def __init__(self, **_: object) -> None:
        self.ended: list[str] = []

    def close(self, status: str) -> "Future[None]":
        self.ended.append(status)
        return Future()


def test_a_client_that_does_not_close_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinker.ServiceClient", _Stuck)
    monkeypatch.setattr("hone.client.connect.CLOSING_SECONDS", 0.01)
    with service_client("http://127.0.0.1:1", None) as client:
        pass
    assert isinstance(client, _Stuck)
    assert client.ended == ["success"]


@pytest.mark.parametrize(("error", "ended"), [(ValueError, "errored"), (KeyboardInterrupt, "interrupted")])
def test_a_session_says_how_it_ended(error: type[BaseException], ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinker.ServiceClient", _Stuck)
    monkeypatch.setattr("hone.client.connect.CLOSING_SECONDS", 0.01)
    with pytest.raises(error), service_client("http://127.0.0.1:1", None) as client:
        raise error
    assert isinstance(client, _Stuck)
    assert client.ended == [ended]
