"""The commands about tenants, on the data directory of a server that runs."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from hone.cli import main as cli
from tests.support.databases import Databases
from tests.support.service import LiveServer


def test_keys_and_projects_beside_a_running_server(
    any_database: Databases, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_DATABASE_URL", any_database.url(tmp_path))
    monkeypatch.setattr("hone.server.auth.KEY_SECONDS", 0.0)

    def hone(*arguments: str) -> Any:
        assert cli.main([*arguments, "--data-dir", str(tmp_path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def status(key: str) -> int:
        return httpx.get(f"{server.url}/api/v1/sessions", headers={"X-API-Key": key}).status_code

    with LiveServer(tmp_path) as server:
        assert hone("project", "create", "research", "--budget", "12.5")["budget_usd"] == 12.5
        assert hone("project", "budget", "research", "none")["budget_usd"] is None
        assert [project["id"] for project in hone("project", "list")] == ["default", "research"]
        made = hone(
            *("key", "create", "laptop", "--project", "research", "--user", "ann@example.org"),
            *("--scope", "read", "--expires-days", "1", "--spend-limit", "3", "--model", "hone/tiny"),
        )
        assert made["key"].startswith("tml-")
        assert (made["scopes"], made["models"], made["spend_limit_usd"]) == (["read"], ["hone/tiny"], 3.0)
        assert status(made["key"]) == 200
        listed = hone("key", "list")
        assert [key["name"] for key in listed] == ["server", "laptop"]
        assert made["key"] not in json.dumps(listed)
        assert hone("key", "limit", str(made["id"]), "7")["spend_limit_usd"] == 7.0
        assert hone("key", "revoke", str(made["id"]))["state"] == "revoked"
        assert status(made["key"]) == 401


def test_tables_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data-dir", str(tmp_path)]
    assert cli.main(["key", "create", "laptop", *data]) == 0
    shown = capsys.readouterr().out
    assert "read,sample,train" in shown
    assert "only time it is shown" in shown
    for command in (["key", "list"], ["project", "list"], ["usage"]):
        assert cli.main([*command, *data]) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["key", "create", "x", "--project", "nowhere"], "project 'nowhere' does not exist"),
        (["key", "create", "x", "--scope", "all"], "scope 'all' is unknown"),
        (["key", "create", "x", "--expires-days", "0"], "must be more than 0"),
        (["key", "revoke", "1"], "key 1 does not exist"),
        (["project", "create", "default"], "project 'default' exists"),
        (["project", "create", "../x"], "is not a name"),
        (["usage", "--hours", "0"], "must be more than 0"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert cli.main([*command, "--data-dir", str(tmp_path)]) == cli.EXIT_USER_ERROR
    assert message in capsys.readouterr().err
