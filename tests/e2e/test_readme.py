"""The README's program runs as it stands, and learns."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hone.client.embedded import embedded_server
from tests.support.sdk_programs import ENDED_WELL

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_example_trains_and_answers(tmp_path: Path) -> None:
    block = re.search(r"<!-- example -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert block, "README.md has no example"
    program = tmp_path / "example.py"
    program.write_text(block[1])
    with embedded_server(tmp_path / "data") as server:
        environment = os.environ | {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": server.api_key}
        done = subprocess.run(
            [sys.executable, str(program)], capture_output=True, text=True, env=environment, timeout=100
        )
    assert done.returncode in ENDED_WELL, done.stderr
    assert not done.stderr
    *steps, answer = done.stdout.splitlines()
    losses = [float(line.split()[1]) for line in steps]
    assert losses[-1] < losses[0] / 100
    assert answer.startswith("Ada Moss from tinker://")


@pytest.mark.slow
def test_the_methods_example_learns(tmp_path: Path) -> None:
    block = re.search(r"<!-- methods -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert block, "README.md has no example of a method"
    (tmp_path / "methods.py").write_text(block[1])
    done = subprocess.run(
        [sys.executable, "methods.py"], capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tinker://")
    rows = [json.loads(line) for line in (tmp_path / "books-run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["test/nll"] < 0.2 * rows[0]["test/nll"]
