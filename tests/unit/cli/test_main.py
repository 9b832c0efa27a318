import subprocess
import sys
import types

import pytest

from hone import __version__
from hone.cli import main as cli
from hone.errors import UserError

HEAVY = ("torch", "tinker", "transformers", "starlette", "uvicorn", "sqlalchemy", "rich", "numpy")


def modules_after(code: str) -> set[str]:
    """What a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_itself_loads_nothing_heavy() -> None:
    assert modules_after("import hone.cli.main").isdisjoint(HEAVY)


@pytest.mark.parametrize("module", ["hone.protocol", "hone.settings", "hone.paths", "hone.client.connect"])
def test_these_load_without_torch(module: str) -> None:
    assert modules_after(f"import {module}").isdisjoint({"torch", "transformers"})


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_command_can_show_its_help_without_torch(command: str) -> None:
    module = cli.COMMANDS[command].module
    code = f"import argparse, {module} as command; command.add_arguments(argparse.ArgumentParser())"
    assert modules_after(code).isdisjoint({"torch", "transformers"})


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert name in shown
        assert command.summary in shown


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.EXIT_USER_ERROR
    assert "doctor" in capsys.readouterr().out


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train"])
    assert "serve" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"hone {__version__}\n"


def test_a_users_mistake_is_one_sentence_and_our_own_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failure: list[Exception] = [UserError("there is no such model; serve one with --model")]

    def run(args: object) -> int:
        raise failure[0]

    command = types.ModuleType("failing")
    command.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    command.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing", command)
    monkeypatch.setitem(cli.COMMANDS, "fail", cli.Command("failing", "fails"))

    assert cli.main(["fail"]) == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err == "hone fail: there is no such model; serve one with --model\n"
    failure[0] = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["fail"])


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "hone.cli.main", "explain", "config"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()  # before anything was written
    _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, b"")
