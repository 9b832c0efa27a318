"""`hone explain` and `hone schema`: they say what the code says."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from hone.cli.init import project_files
from hone.cli.main import main
from hone.experiments.kinds.plugins import REGISTRIES
from tests.support.registries import own_plugins

PLUGIN = '''
from typing import Literal

from pydantic import Field

from hone.algorithms.config import Config, OptimizerConfig
from hone.experiments.kinds.contract import NoParams, Verifier
from hone.experiments.kinds.plugins import register_verifier


class Params(Config):
    word: str = Field(examples=["please"])
    """What has to be in it."""
    times: int = Field(default=2, ge=1)
    how: Literal["any", "all"] = "any"
    optimizer: OptimizerConfig = OptimizerConfig()


@register_verifier("explained")
class Explained(Verifier[Params]):
    """Looks for a word. Nothing else.

    At length.
    """

    Params = Params

    def grader(self): ...


@register_verifier("plain")
class Plain(Verifier[NoParams]):
    def grader(self): ...
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[list[str]]:
    path = tmp_path / "explained.py"
    path.write_text(PLUGIN)
    with own_plugins():
        yield ["--plugins", str(path)]


def test_one_plugin(plugin: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "verifier", "explained", *plugin]) == 0
    shown = capsys.readouterr().out
    assert "verifier explained (a plugin)\n  Looks for a word. Nothing else.\n\n  At length.\n" in shown
    assert "  word  text; required\n      What has to be in it.\n" in shown
    assert "  times  whole number, ≥ 1; default 2\n" in shown
    assert "  how  any | all; default any\n" in shown
    assert "  optimizer.learning_rate  number, > 0\n" in shown


def test_its_example_can_be_used(plugin: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "verifier", "explained", "--json", *plugin]) == 0
    found = json.loads(capsys.readouterr().out)
    spec = yaml.safe_load(found["example"])["data"]["verifier"]
    assert spec == {"kind": "explained", "params": {"word": "please", "times": 2, "how": "any"}}
    REGISTRIES["verifier"].make(spec["kind"], spec["params"])
    jsonschema.validate(spec["params"], found["json_schema"])


def test_lists(plugin: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "verifier", *plugin]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines if "explained" in line] == [["explained", "Looks for a word"]]
    assert "plain" in lines  # nothing is known of it, and nothing of its base class is said in its place
    assert main(["explain", "--json", *plugin]) == 0
    assert set(json.loads(capsys.readouterr().out)["registries"]) == set(REGISTRIES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verifer"], "there is no registry 'verifer'; there are source"),
        (["verifier", "explaind"], "did you mean 'explained'"),
        (["config", "run.dta"], "run.data"),
        (["verifier", "x", "--plugins", "nowhere.py"], "nowhere.py"),
    ],
)
def test_what_is_not_there(words: list[str], said: str, plugin: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *words, *plugin]) == 2
    assert said in capsys.readouterr().err


def test_every_key_of_the_file_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "config", "--json"]) == 0
    sections = json.loads(capsys.readouterr().out)["sections"]
    assert [section["path"] for section in sections][:4] == ["", "hypothesis", "run", "run.model"]
    assert [(section["path"]) for section in sections if not section["about"]] == []
    silent = [
        (section["path"], key["name"]) for section in sections for key in section["keys"] if not key["description"]
    ]
    assert silent == []
    assert main(["explain", "config", "run.data.split"]) == 0
    assert "  validation  number, ≥ 0, < 1; default 0.1\n" in capsys.readouterr().out


def test_the_schema_accepts_what_the_code_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plugins.py").write_text(project_files()["plugins.py"])
    mine = ["--plugins", str(tmp_path / "plugins.py")]
    with own_plugins():
        assert main(["schema", "--out", str(tmp_path / "schema.json"), *mine]) == 0
        capsys.readouterr()
        assert main(["schema", *mine]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "schema.json").read_text() == printed
    schema, values = json.loads(printed), yaml.safe_load(project_files()["experiment.yaml"])
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError, match="lerning"):
        jsonschema.validate(values | {"lerning": 1}, schema)
