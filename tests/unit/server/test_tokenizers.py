import asyncio
import fcntl
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from hone.engine.contract import BaseModel
from hone.paths import DataDirectory
from hone.server.app import create_app
from hone.server.tokenizers import FILES, lookup_id, publish_tokenizers, withdraw_tokenizers
from tests.support.service import KEY, MODEL, serving


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def model(tmp_path: Path) -> BaseModel:
    """A model directory whose tokenizer knows three words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    directory = tmp_path / "model"
    directory.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"one": 0, "two": 1, "three": 2}, unk_token="one"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (directory / "config.json").write_text('{"model_type": "qwen3"}')
    (directory / "model.safetensors").write_bytes(b"large")
    return BaseModel("org/three-words", str(directory), "", 1, 3, 0)


def test_the_clients_library_finds_it_by_name(cache: Path, model: BaseModel, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    data = DataDirectory(tmp_path / "data")
    (entry,) = publish_tokenizers([model], data)
    loaded = AutoTokenizer.from_pretrained(model.name, cache_dir=str(cache), local_files_only=True)
    assert loaded.encode("three two one") == [2, 1, 0]
    assert not list(entry.rglob("model.safetensors"))
    (snapshot,) = (entry / "snapshots").iterdir()
    assert len(snapshot.name) == 40
    told = {path.name for path in (entry / ".no_exist" / snapshot.name).iterdir()} | {
        p.name for p in snapshot.iterdir()
    }
    assert told == set(FILES), "every file is there or known not to be"
    withdraw_tokenizers([entry], data)
    assert not entry.exists()


def test_foreign_entries_are_never_touched(cache: Path, model: BaseModel, tmp_path: Path) -> None:
    foreign = cache / "models--org--three-words"
    foreign.mkdir(parents=True)
    (foreign / "refs").write_text("theirs")
    assert publish_tokenizers([model], DataDirectory(tmp_path)) == []
    withdraw_tokenizers([foreign], DataDirectory(tmp_path))
    assert [path.name for path in foreign.iterdir()] == ["refs"]


@pytest.mark.parametrize("first_to_go", [0, 1])
def test_an_entry_stays_until_the_last_running_server_that_offers_it_stops(
    cache: Path, model: BaseModel, tmp_path: Path, first_to_go: int
) -> None:
    servers = [DataDirectory(tmp_path / name) for name in ("first", "second", "killed")]
    with ExitStack() as running:
        for data in servers:
            data.make()
            lock = running.enter_context(data.lock.open("w"))
            if data is not servers[2]:
                fcntl.flock(lock, fcntl.LOCK_EX)
        (entry,) = {entry for data in servers for entry in publish_tokenizers([model], data)}
        withdraw_tokenizers([entry], servers[first_to_go])
        assert entry.exists()
        withdraw_tokenizers([entry], servers[1 - first_to_go])
        assert not entry.exists()


@pytest.mark.parametrize(
    ("name", "looked_up"),
    [
        ("org/model", "org/model"),
        ("org/model:long", "org/model"),
        ("org/model/variant", "org/model"),
        ("model", "model"),
        ("meta-llama/Llama-3.1-8B", "thinkingmachineslabinc/meta-llama-3-instruct-tokenizer"),
    ],
)
def test_names_under_which_the_client_looks(name: str, looked_up: str) -> None:
    assert lookup_id(name) == looked_up


@pytest.mark.parametrize(
    ("host", "headers", "is_local"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("192.0.2.7", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "x"}, False),
    ],
)
def test_clients_on_this_machine_are_sent_to_the_models_directory(
    tmp_path: Path, host: str, headers: dict[str, str], is_local: bool
) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            transport = httpx.ASGITransport(create_app(client.service), client=(host, 1))
            key = {"X-API-Key": KEY}
            async with httpx.AsyncClient(transport=transport, base_url="http://s", headers=headers | key) as http:
                info = (await http.post("/api/v1/get_info", json={"model_id": model})).json()
        directory = client.service.models[MODEL].directory
        assert info["model_data"]["tokenizer_id"] == (directory if is_local else MODEL)

    asyncio.run(run())
