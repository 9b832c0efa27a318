"""Lines of JSON: where they end, which are none, and what a crash leaves behind."""

import json
from pathlib import Path

import pytest

from hone.errors import UserError
from hone.storage import jsonl


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert jsonl.read(file) == []
    rows = [{"text": "One\u2028two\u0085three\x1cfour\r\n", "number": number} for number in range(3)]
    jsonl.write(file, rows[:2])
    jsonl.append(file, rows[2])
    assert jsonl.read(file) == rows


def test_lines_end_at_line_feeds_alone_and_blank_ones_count(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    row = json.dumps({"text": "One\u2028two\u0085three"}, ensure_ascii=False)
    file.write_bytes(f"\n{row}\r\n \t\r\n{row}".encode())
    assert [(line.number, line.read()) for line in jsonl.lines(file)] == [(2, json.loads(row)), (4, json.loads(row))]


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        (b'{"a": ', "broken JSON", "is not JSON (Expecting value at column 6)"),
        (b'{"a": "\xff"}', "broken JSON", "is not UTF-8"),
        (b"[" * 100_000, "broken JSON", "is nested too deeply"),
        (b"1" * 5_000, "broken JSON", "cannot be read (Exceeds the limit (4300 digits) for integer string conversion"),
        (b"[1]", "not an object", "is a list, not an object"),
        (b"null", "not an object", "is null, not an object"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, text: bytes, kind: str, why: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"{}\n" + text + b"\n")
    with pytest.raises(jsonl.LineError) as error:
        jsonl.read(file)
    assert error.value.kind == kind
    assert error.value.why.startswith(why)
    assert str(error.value) == f"{file}:2 {error.value.why}"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.jsonl cannot be read: No such file"):
        list(jsonl.lines(tmp_path / "none.jsonl"))


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    jsonl.drop_cut_line(file)
    assert not file.exists()
    for cut in (b"", b'{"text": "\xc3', b"{}"):
        file.write_bytes(b'{"a": 1}\n' + cut)
        jsonl.drop_cut_line(file)
        assert file.read_bytes() == b'{"a": 1}\n'
    file.write_bytes(b'{"a"')
    jsonl.drop_cut_line(file)
    assert file.read_bytes() == b""
