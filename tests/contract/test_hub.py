"""A client on a machine that knows no hub but this server: the real libraries, with an empty cache."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE", "XDG_"))
    } | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": f"{server.url}/hf", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, base_model], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["chat"] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert found["ids"]
    assert found["errors"] == ["RemoteEntryNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"]
    assert "tokenizer.json" in found["files"]
    assert not any("safetensors" in name for name in found["files"])
    assert found["seconds"] < 20, "nothing waited for a hub elsewhere"


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
