import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.errors import UserError
from hone.experiments.kinds import plugins
from hone.experiments.kinds.plugins import REGISTRIES, load_plugins, verifiers
from tests.support.installed_plugins import install
from tests.support.registries import own_plugins

SOURCE = """\
from hone.experiments.kinds.contract import Verifier
from hone.experiments.kinds.plugins import register_verifier

@register_verifier("{name}")
class Mine(Verifier):
    answer = {answer}
    def grader(self): ...
"""


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    with own_plugins():
        yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, name: str = "mine", answer: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE.format(name=name, answer=answer))
    return path


def answer(name: str) -> int:
    found: int = verifiers.get(name).answer  # type: ignore[attr-defined]
    return found


def test_there_are_eight_registries() -> None:
    assert list(REGISTRIES) == "source transform algorithm backend verifier metric store inference".split()


def test_a_file_beside_the_experiment_adds_its_plugins(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "mine.py")
    load_plugins(["plugins/mine.py"], tmp_path)
    assert answer("mine") == 1


def test_a_module_beside_the_experiment_adds_its_plugins_and_finds_its_neighbours_later(tmp_path: Path) -> None:
    write(tmp_path / "of_test_plugins" / "inner.py")
    (tmp_path / "of_test_plugins" / "__init__.py").write_text("")
    load_plugins(["of_test_plugins.inner"], tmp_path)
    assert answer("mine") == 1
    assert str(tmp_path.resolve()) in sys.path


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py")
    load_plugins(["mine.py"], tmp_path)
    first = verifiers.get("mine")
    load_plugins(["mine.py"], tmp_path)
    assert verifiers.get("mine") is first
    write(path, answer=2)
    load_plugins(["mine.py"], tmp_path)
    assert answer("mine") == 2


def test_two_files_with_the_same_name_are_refused_with_both_places(tmp_path: Path) -> None:
    write(tmp_path / "one.py")
    write(tmp_path / "two.py")
    with pytest.raises(
        UserError, match=r"two verifier plugins are named 'mine': hone_plugin_one_.* and hone_plugin_two_"
    ):
        load_plugins(["one.py", "two.py"], tmp_path)


def test_a_module_of_another_experiment_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "of_test_plugins_same.py", name)
    load_plugins(["of_test_plugins_same"], tmp_path / "a")
    with pytest.raises(UserError, match=r"loaded already, from .*name its file: of_test_plugins_same.py"):
        load_plugins(["of_test_plugins_same"], tmp_path / "b")
    load_plugins(["of_test_plugins_same.py"], tmp_path / "b")
    assert {"a", "b"} <= set(verifiers.names())


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("gone.py", None, "does not exist"),
        ("no_such_module_anywhere", None, "No module named"),
        ("bad.py", "1 / 0\n", "ZeroDivisionError"),
        ("bad.py", "def\n", "SyntaxError"),
        ("bad.py", "import sys\nsys.exit(3)\n", "SystemExit"),
    ],
)
def test_plugins_that_cannot_be_loaded_say_why(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        load_plugins([name], tmp_path)
    assert not [module for module in sys.modules if module.startswith("hone_plugin_bad")]


# Packages.

PROGRAM = """\
import sys
from pathlib import Path
from hone.experiments.loading import load_experiment
from hone.experiments.matrix import plan_arms
loaded = load_experiment(Path(sys.argv[1]))
for arm in plan_arms(loaded.config):
    print(arm.name, arm.run.backend.kind, arm.run.data.verifier.kind, arm.run.algorithm.params)
print([name for name in ("torch", "tinker") if name in sys.modules])
from hone.experiments.check import check
report = check(loaded)
print(report.problems, [one.rows for one in report.data], [one.steps for one in report.estimate.arms])
"""
FILE = """\
name: manners
run:
  data: {source: {kind: jsonl, params: {path: x.jsonl}}, verifier: {kind: polite, params: {words: [merci]}}}
  algorithm: {kind: short_first, params: {longest: 500}}
  backend: {kind: own_server}
"""


def with_package(tmp_path: Path, program: str, *args: str) -> "subprocess.CompletedProcess[str]":
    source = str(Path(plugins.__file__).parents[3])
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), source])}
    return subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, env=environ, check=False
    )


def test_a_package_adds_an_algorithm_a_verifier_and_a_backend(tmp_path: Path) -> None:
    install(tmp_path / "site")
    (tmp_path / "x.yaml").write_text(FILE)
    (tmp_path / "x.jsonl").write_text("".join(f'{{"prompt": "Hello {i}", "completion": "merci"}}\n' for i in range(40)))
    done = with_package(tmp_path, PROGRAM, str(tmp_path / "x.yaml"))
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["short_first own_server polite {'longest': 500}", "[]", "[] [39] [2]"]
    (tmp_path / "x.yaml").write_text(FILE.replace("longest", "longst"))
    refused = with_package(tmp_path, PROGRAM, str(tmp_path / "x.yaml"))
    assert (
        "run.algorithm.params.longst: unknown key of algorithm 'short_first'; did you mean 'longest'?" in refused.stderr
    )


def test_a_package_is_seen_by_every_look_up(tmp_path: Path) -> None:
    install(tmp_path / "site")
    program = (
        "from hone.experiments.kinds.plugins import algorithms, verifiers, backends\n"
        "print('short_first' in algorithms, verifiers.get('polite').__name__, 'own_server' in backends.names())"
    )
    assert with_package(tmp_path, program).stdout == "True Polite True\n"


def test_a_broken_package_warns_and_the_others_are_there(tmp_path: Path) -> None:
    points = {"broken": "no_such_module_in_this_package", "manners": "hone_manners.plugins"}
    install(tmp_path / "site", points)
    done = with_package(tmp_path, "from hone.experiments.kinds.plugins import verifiers; print('polite' in verifiers)")
    assert done.stdout == "True\n"
    assert "the plugins of no_such_module_in_this_package cannot be loaded: ModuleNotFoundError" in done.stderr


def test_entry_points_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        value = "x"
        loaded = 0

        def load(self) -> None:
            Entry.loaded += 1
            assert "nothing" not in verifiers  # a look-up while it is loaded

    monkeypatch.setattr(plugins, "_loaded", False)
    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", lambda group: [Entry()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "nothing" not in verifiers
        plugins.load_entry_points()
    assert Entry.loaded == 1
