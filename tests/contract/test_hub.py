"""A client on a machine that knows no hub but this server: the real libraries, with an empty cache."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tinker

from hone.client.embedded import ServerInfo

PROGRAM = """
import json, sys, time
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoTokenizer

name, started = sys.argv[1], time.perf_counter()
tokenizer = AutoTokenizer.from_pretrained(name)
seconds = time.perf_counter() - started
chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
errors = []
for arguments in ((name, "model.safetensors"), ("nobody/nothing", "config.json"), (name, "config.json", "v2")):
    try:
        hf_hub_download(*arguments[:2], revision=arguments[2] if len(arguments) > 2 else None)
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        errors.append(type(error).__name__)
files = HfApi().list_repo_files(name)
ids = tokenizer.encode("a day")
print(json.dumps({"ids": ids, "chat": chat, "errors": errors, "files": files, "seconds": seconds}))
"""


def test_the_libraries_find_a_tokenizer_by_its_served_id(server: ServerInfo, base_model: str, tmp_path: Path) -> None:
    found = in_a_fresh_home(server, tmp_path, PROGRAM, base_model)
    assert found["chat"] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert found["ids"]
    assert found["errors"] == ["RemoteEntryNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"]
    assert "tokenizer.json" in found["files"]
    assert not any("safetensors" in name for name in found["files"])
    assert found["seconds"] < 20, "nothing waited for a hub elsewhere"


EXPORT_PROGRAM = """
import json, os, sys
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

folder = snapshot_download(sys.argv[1], token=sys.argv[2])
try:
    snapshot_download(sys.argv[1], token="tml-wrong", local_dir=folder + "-other")
    refused = False
except RepositoryNotFoundError:
    refused = True
print(json.dumps({"folder": folder, "refused": refused}))
"""


def test_the_libraries_fetch_an_export_with_a_key(
    server: ServerInfo, training: tinker.TrainingClient, tmp_path: Path
) -> None:
    training.save_weights_external("out").result()
    repository = f"exports/{training.model_id.replace(':', '.')}.out"
    found = in_a_fresh_home(server, tmp_path, EXPORT_PROGRAM, repository, server.api_key)
    assert found["refused"] is True
    names = {file.name for file in Path(found["folder"]).iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "hone_export.json"}
    config = json.loads((Path(found["folder"]) / "adapter_config.json").read_text())
    assert config["r"] == 4


def in_a_fresh_home(server: ServerInfo, home: Path, program: str, *arguments: str) -> dict[str, Any]:
    """What a program prints that knows no hub but this server."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE", "XDG_"))
    } | {"HF_HOME": str(home), "HF_ENDPOINT": f"{server.url}/hf", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "path",
    [
        "resolve/main/model.safetensors",
        "resolve/main/../config.json",
        "resolve/main/..%2Fconfig.json",
        "resolve/main/..%2f..%2f..%2fapi_key",
        "resolve/main//etc/passwd",
        "resolve/main/%2Fetc%2Fpasswd",
        "resolve/main/README.md",
        "tree/main/..",
        "../api/v1/engine",
    ],
)
def test_only_tokenizers_are_offered(server: ServerInfo, base_model: str, path: str) -> None:
    assert ask(server, "GET", f"/hf/{base_model}/resolve/main/config.json") == 200
    for method in ("GET", "HEAD"):
        assert ask(server, method, f"/hf/{base_model}/{path}") in (307, 401, 404)


def ask(server: ServerInfo, method: str, path: str) -> int:
    """The path as it is: other libraries would tidy it up."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()
