"""`hone checkpoint`: what it refuses before it writes anything."""

from pathlib import Path

import pytest

from hone.cli.main import EXIT_USER_ERROR, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "{empty}"], "not a PEFT adapter"),
        (["import", "{empty}", "--base-model", "other"], "--model other=DIR"),
        (["import", "{empty}", "--name", "a/b"], "is not a checkpoint name"),
        (["convert", "{empty}", "{empty}/out"], "no exported adapter"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [argument.format(empty=empty) for argument in arguments]
    if "import" in given:
        given += ["--data-dir", str(tmp_path / "data")]
    assert main(["checkpoint", *given]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("data/checkpoints/*"))
