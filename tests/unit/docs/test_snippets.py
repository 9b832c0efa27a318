"""Every snippet of the documentation is true: files load, commands parse, programs run.

The words after three backticks say what a snippet is:

    yaml                 a whole experiment file; it loads, in a project that `hone init` made
    yaml fragment        a part of one; it loads in its place
    bash                 commands; those of hone are read by their own parser
    bash run             the same, and they are run, in such a project
    python               a program; it runs, in such a project
    python plugin        a module of plugins; it loads
    json, jsonl, toml    what they say
    text                 nothing to check
    ... untested REASON  an exception, with its reason
"""

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hone.cli.init import project_files
from hone.cli.main import COMMANDS, command_parser
from tests.support.registries import own_plugins

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path
    for pattern in ("docs/**/*.md", "AGENTS.md", "skills/**/*.md", "src/hone/assets/project/*.md")
    for path in ROOT.glob(pattern)
)
OTHER_COMMANDS = {
    "cd",
    "make",
    "export",
    "cp",
    "cat",
    "python",
    "python3",
    "pip",
    "source",
    "git",
    "mkdir",
    "curl",
    "sed",
}
FENCE = re.compile(r"^ *```([^\n]+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    place: str
    words: tuple[str, ...]
    text: str


def snippets() -> Iterator[Snippet]:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Snippet(f"{path.relative_to(ROOT)}:{line}", tuple(found[1].split()), textwrap.dedent(found[2]))


ALL = list(snippets())


def of(*words: str) -> Any:
    """The snippets that begin with these words and are no exceptions."""
    chosen = [one for one in ALL if one.words == words]
    return pytest.mark.parametrize("snippet", chosen, ids=[one.place for one in chosen])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in project_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_every_snippet_says_what_it_is() -> None:
    known = {("yaml",), ("yaml", "fragment"), ("bash",), ("bash", "run"), ("python",), ("python", "plugin")}
    known |= {("json",), ("jsonl",), ("toml",), ("text",)}
    strange = [one.place for one in ALL if one.words not in known and "untested" not in one.words[:-1]]
    assert strange == []
    bare = [path.name for path in PAGES if len(re.findall(r"^ *```", path.read_text(), re.MULTILINE)) % 2]
    assert bare == []


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a piece of shell."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&><")
        lexer.whitespace_split = True
        words: list[str] = []
        redirected = False
        for word in lexer:
            if set(word) <= set(";|&"):
                yield words
                words, redirected = [], False
            elif set(word) <= set("><"):
                redirected = True
            elif redirected:
                redirected = False
            else:
                words.append(word)
        if words:
            yield words


def check_command(words: list[str]) -> None:
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program = words[0].rpartition("/")[2]
    assert program in OTHER_COMMANDS | {"hone"}, f"what is {words[0]!r}?"
    if program == "hone" and words[1:] != ["--help"]:
        assert words[1] in COMMANDS, f"there is no command `hone {words[1]}`"
        command_parser(words[1]).parse_args(words[2:])


@of("bash")
def test_commands_are_what_their_parsers_read(snippet: Snippet) -> None:
    for words in commands(snippet.text):
        check_command(words)


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_sentences_exist(path: Path) -> None:
    """`hone verb --option` in running text: the verb and the options are real."""
    for found in re.findall(r"(?<!`)`hone ([a-z][^`\n]*)`", path.read_text(encoding="utf-8")):
        name, *rest = found.split()
        assert name in COMMANDS, f"there is no command `hone {name}`"
        parser = command_parser(name)
        known = {word for part in parsers(parser) for action in part._actions for word in action.option_strings}
        options = [word.strip("[],.") for word in rest if word.startswith(("--", "[--"))]
        assert [option for option in options if option.split("=")[0] not in known] == [], f"`hone {found}`"


def parsers(parser: Any) -> Iterator[Any]:
    yield parser
    for action in parser._actions:
        for inner in (getattr(action, "choices", None) or {}).values() if "SubParsers" in type(action).__name__ else ():
            yield from parsers(inner)


@of("bash", "run")
def test_commands_run(snippet: Snippet, project: Path) -> None:
    for words in commands(snippet.text):
        check_command(words)
    hone = shlex.quote(sys.executable) + " -m hone.cli.main"
    script = re.sub(r"^hone ", f"{hone} ", snippet.text, flags=re.MULTILINE)
    done = subprocess.run(["bash", "-e", "-c", script], cwd=project, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@of("python")
def test_programs_run(snippet: Snippet, project: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    program = [sys.executable, "-c", snippet.text]
    done = subprocess.run(program, cwd=project, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@of("python", "plugin")
def test_plugins_load(snippet: Snippet, tmp_path: Path) -> None:
    from hone.experiments.kinds.plugins import load_plugins

    (tmp_path / "mine.py").write_text(snippet.text)
    with own_plugins():
        load_plugins(["mine.py"], tmp_path)


@of("json")
def test_json(snippet: Snippet) -> None:
    json.loads(snippet.text)


@of("jsonl")
def test_json_lines(snippet: Snippet) -> None:
    assert [json.loads(line) for line in snippet.text.splitlines()]


@of("toml")
def test_toml(snippet: Snippet) -> None:
    tomllib.loads(snippet.text)


def experiment_with(fragment: dict[str, Any]) -> dict[str, Any]:
    """A whole experiment around a part of one: of the file, or of an arm."""
    from hone.experiments.config import ExperimentConfig, RunConfig

    base: dict[str, Any] = {"name": "fragment"}
    data = {"source": {"kind": "jsonl", "params": {"path": "data/train.jsonl"}}}
    run = {key: value for key, value in fragment.items() if key in RunConfig.model_fields and key != "name"}
    rest = {key: value for key, value in fragment.items() if key not in run}
    assert set(rest) <= set(ExperimentConfig.model_fields), "neither a part of the file nor of an arm"
    if "hypothesis" in rest and "matrix" not in rest:
        base["extends"] = "experiment.yaml"  # a claim is about arms
    elif not {"run", "runs", "matrix"} & set(rest):
        base["run"] = {} if "continual" in rest else {"data": data}
    elif run:
        raise AssertionError("keys of an arm stand beside `run`, `runs` or `matrix`")
    if run:
        base["run"] |= run
    return base | rest


@of("yaml")
def test_experiment_files_load(snippet: Snippet, project: Path) -> None:
    load(snippet.text, project)


@of("yaml", "fragment")
def test_parts_of_experiment_files_load(snippet: Snippet, project: Path) -> None:
    load(yaml.safe_dump(experiment_with(yaml.safe_load(snippet.text))), project)


def load(text: str, project: Path) -> None:
    from hone.experiments.loading import load_experiment
    from hone.experiments.matrix import plan_arms

    path = project / "snippet.yaml"
    path.write_text(text)
    with own_plugins():
        assert plan_arms(load_experiment(path).config)
