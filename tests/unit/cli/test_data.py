"""`hone data`: trained tokens are shown, bad rows are named, and the exit code says which it was."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.cli.main import EXIT_FAILED, EXIT_USER_ERROR, main

TALK = [
    {"role": "user", "content": "a <|im_end|>"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def write(path: Path, *rows: Any) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def test_show_marks_what_is_learned(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(path, {"messages": TALK})
    assert main(["data", "show", file, "--train-on", "all_assistant_messages"]) == 0
    shown = capsys.readouterr().out
    assert "assistant\n⟦b<|im_end|>⟧\n<|im_start|>user\nc<|im_end|>" in shown
    assert f"{file}:1: 4 messages, " in shown
    assert "4 of them trained (all_assistant_messages, renderer chat_template)" in shown


def test_show_colours_a_terminal(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(path, {"messages": TALK})
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert main(["data", "show", file]) == 0
    assert "\x1b[1;32md<|im_end|>\x1b[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["data", "show", file]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "⟦d<|im_end|>⟧" in shown


def test_show_as_json_adds_up(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", write(path, "x", {"messages": TALK}), "--json", "--renderer", "qwen3_instruct"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["line"], shown["renderer"], shown["trained_tokens"]) == (2, "qwen3_instruct", 2)
    assert sum(piece["tokens"] for piece in shown["pieces"]) == shown["tokens"]
    assert [piece["text"] for piece in shown["pieces"] if piece["trained"]] == ["d<|im_end|>"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--index", "1"], "--index is 1; .* has 1 rows"),
        (["--renderer", "qwen9"], "there is no renderer 'qwen9'"),
        (["--train-on", "it"], "--train-on is 'it'; it must be one of last_assistant_message"),
        (["--model", "Qwen/Qwen3-8B"], "name its folder with --tokenizer"),
        (["--tokenizer", "no/such"], "no/such is no folder"),
    ],
)
def test_questions_that_make_no_sense(
    path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    import re

    assert main(["data", "show", write(path, {"messages": TALK}), *options]) == EXIT_USER_ERROR
    assert re.search(says, capsys.readouterr().err)


def test_check_names_every_bad_row(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = {"messages": [*TALK, *TALK]}
    file = write(path, {"messages": TALK}, {"messages": TALK[:1]}, "{", long, {"messages": [], "id": 3})
    assert main(["data", "check", file, "--max-length", "60"]) == EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{file}:").split(": ")[:2] for line in lines[:-1]] == [
        *(["2", "bad content"], ["3", "broken JSON"], ["4", "too long"], ["5", "mixed columns"])
    ]
    assert lines[-1] == (
        f"{file}: 1 rows can be used, 4 cannot, 1 bad content, 1 broken JSON, 1 mixed columns, 1 too long "
        "(1 of them would be learned without their end)"
    )
    assert main(["data", "check", file, "--json"]) == EXIT_FAILED
    counted = json.loads(capsys.readouterr().out)
    assert (counted["usable"], counted["unusable"]) == (2, 3)
    assert {problem["line"] for problem in counted["problems"]} == {2, 3, 5}


def test_check_is_content_with_good_files(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", write(path, {"messages": TALK})]) == 0
    row = {"prompt": "?", "chosen": "a", "rejected": "b"}
    assert main(["data", "check", write(path, row), "--form", "preferences"]) == 0
    assert main(["data", "check", write(path), "--form", "prompts"]) == EXIT_FAILED
    capsys.readouterr()


LONG = "b " * 60


def checked(capsys: pytest.CaptureFixture[str], file: str, form: str, *options: str) -> tuple[Any, list[str]]:
    """Of `--json` what is counted, and the lines for people."""
    assert main(["data", "check", file, "--form", form, *options, "--json"]) == EXIT_FAILED
    counted = json.loads(capsys.readouterr().out)
    assert main(["data", "check", file, "--form", form, *options]) == EXIT_FAILED
    return counted, capsys.readouterr().out.splitlines()


def test_check_says_what_a_cut_would_cost(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, said = {"role": "user", "content": "a"}, {"role": "assistant", "content": LONG}
    asked_long = {"role": "user", "content": LONG}
    rows = [[asked, said], [asked_long, said], [*TALK[:2], asked_long], [*TALK[:2]]]
    counted, lines = checked(
        capsys, write(path, *({"messages": row} for row in rows)), "conversations", "--max-length", "70"
    )
    assert (counted["usable"], counted["cut"], counted["kinds"]) == (1, 1, {"too long": 3})
    assert [problem["text"].partition("; ")[2].partition("; ")[2][:30] for problem in counted["problems"]] == [
        *("cut there it is learned withou", "cut there it has nothing to le", "cut there it loses nothing tha")
    ]
    assert lines[-1].endswith("1 rows can be used, 3 cannot, 3 too long (1 of them would be learned without their end)")


def test_check_takes_what_only_one_answer_at_a_time_can_be_trained_of(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thinking = [{**message, "reasoning": "hm"} if message["role"] == "assistant" else message for message in TALK]
    asked = {"role": "user", "content": LONG}
    file = write(path, {"messages": thinking}, {"messages": [asked, *thinking[1:]]})
    assert main(["data", "check", file, "--renderer", "qwen3"]) == 0
    capsys.readouterr()
    counted, _ = checked(capsys, file, "conversations", "--max-length", "80", "--renderer", "qwen3")
    assert (counted["usable"], counted["kinds"]) == (1, {"too long": 1})


def test_check_measures_preferences(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {"prompt": "?", "chosen": "a", "rejected": "b"}
    tools = [{"role": "assistant", "content": "b", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}]
    file = write(path, short, short | {"rejected": LONG}, "[", short | {"chosen": tools}, short | {"prompt": LONG})
    counted, lines = checked(capsys, file, "preferences", "--max-length", "60", "--renderer", "qwen3_5")
    assert [(problem["line"], problem["kind"]) for problem in counted["problems"]] == [
        *((2, "too long"), (3, "broken JSON"), (4, "bad content"), (5, "too long"))
    ]
    assert lines[0].startswith(f"{file}:2: too long: the prompt and the rejected answer have ")
    assert lines[-1] == f"{file}: 1 rows can be used, 4 cannot, 1 bad content, 1 broken JSON, 2 too long"


def test_check_counts_ties(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, said = TALK[:1], TALK[1:2]
    both = {"prompt_conversation": asked, "completion_A": said, "completion_B": said}
    file = write(path, {"comparison": both, "label": "A"}, {"comparison": both, "label": "Tie"})
    assert main(["data", "check", file, "--form", "preferences"]) == 0
    assert capsys.readouterr().out == f"{file}: 2 rows can be used, 0 cannot; 1 are ties, which teach nothing\n"


def test_check_measures_prompts(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(path, {"prompt": "?", "answer": "a"}, {"prompt": LONG, "answer": "a"})
    counted, lines = checked(capsys, file, "prompts", "--max-length", "60")
    assert (counted["usable"], counted["kinds"]) == (1, {"too long": 1})
    assert lines[0].startswith(f"{file}:2: too long: the prompt has ")
    assert main(["data", "check", file, "--form", "prompts"]) == 0
    capsys.readouterr()
