"""`hone env` in a terminal that is a pipe."""

import io
import json

import pytest

from hone.cli.main import main


def play(monkeypatch: pytest.MonkeyPatch, lines: str, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return main(["env", "play", *arguments])


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "list"]) == 0
    assert "tic_tac_toe  " in capsys.readouterr().out
    assert main(["env", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["memory"].startswith("learn a number")


def test_a_person_plays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Halving finds any number up to 100 in seven guesses; this goes on as the answers say.
    low, high, typed = 0, 100, ""
    for _ in range(7):
        typed += f"{(low + high) // 2}\n"
        status = play(monkeypatch, typed, "guess_number", "--seed", "5")
        out = capsys.readouterr().out
        if status == 0:
            break
        low, high = (
            ((low + high) // 2 + 1, high)
            if out.split("[user] ")[-1].startswith("Higher")
            else (low, (low + high) // 2 - 1)
        )
    assert status == 0
    assert out.startswith("[user] Guess my number from 0 to 100.")
    assert "[user] Right." in out
    assert "[end] reward 1  stop/completed=1" in out


def test_tools_are_shown_and_called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    typed = '/calculator {"expression": "6 * 7"}\n/telescope\n41\n'
    assert play(monkeypatch, typed, "calculator") == 0
    out = capsys.readouterr().out
    assert "[tool] calculator: Evaluates arithmetic exactly." in out
    assert "[tool] 42" in out
    assert "[tool] error: there is no tool 'telescope'" in out
    assert "[end] reward 0" in out


def test_input_that_ends_early_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(monkeypatch, "", "guess_number") == 1
    assert "no more input; the episode is not over" in capsys.readouterr().err


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "check", "memory", "tic_tac_toe", "--episodes", "3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in out] == [["memory", "ok"], ["tic_tac_toe", "ok"]]
    assert main(["env", "check", "memory", "--episodes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["passed"], found["gold_return"]) == ("memory", True, 1.0)


def test_an_unknown_name_and_no_episodes_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "play", "chess"]) == 2
    assert "there is no environment 'chess'; there are sum_two_digit" in capsys.readouterr().err
    assert main(["env", "check", "--episodes", "0"]) == 2
