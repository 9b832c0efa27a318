from pathlib import Path

import pytest

from hone.errors import UserError
from hone.experiments.runner.journal import Journal, Lines


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    journal = Journal(file, now=lambda: "now")
    journal.note("begins", arms=3)
    journal.note("halving", rung=5)
    with file.open("a") as lines:
        lines.write('{"at": "now", "eve')
    again = Journal(file)
    assert again.of("halving") == [{"at": "now", "event": "halving", "rung": 5}]
    again.note("ends")
    assert [row["event"] for row in Lines(file).rows] == ["begins", "halving", "ends"]


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(UserError, match=r"events\.jsonl:2"):
        Lines(file)
