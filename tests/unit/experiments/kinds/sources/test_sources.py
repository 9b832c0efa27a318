"""Each source gives its rows with their places, lazily, and names what is broken."""

import gzip
import itertools
import json
import sys

import pytest

from hone.errors import UserError
from hone.experiments.data.parse import RowError, RowErrors
from hone.experiments.kinds import plugins

ROWS = [{"prompt": f"q{i}", "answer": i} for i in range(5)]


def read(home, kind, **params):
    return plugins.sources.make(kind, params).read(home)


def values(rows):
    return [row.value for row in rows]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_jsonl_gives_file_and_line_and_skips_blank_lines(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").write_text('{"a": 1}\n\n{"a": "x\u2028y"}\n')
    rows = list(read(tmp_path, "jsonl", path="data/a.jsonl"))
    assert [(row.place, row.value) for row in rows] == [
        ("data/a.jsonl:1", {"a": 1}),
        ("data/a.jsonl:3", {"a": "x\u2028y"}),
    ]


def test_a_pattern_means_all_files_in_order_and_gz_is_unpacked(tmp_path):
    (tmp_path / "b.jsonl").write_text(lines(ROWS[2:3]))
    (tmp_path / "a.jsonl").write_text(lines(ROWS[:2]))
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as packed:
        packed.write(lines(ROWS[3:]))
    assert values(read(tmp_path, "jsonl", path="*.jsonl")) == ROWS[:3]
    assert values(read(tmp_path, "jsonl", path="*.jsonl*")) == ROWS


def test_every_broken_line_of_jsonl_is_named_and_the_rows_before_them_come(tmp_path):
    bad = [b'{"a": 1}', b"{", b"[1]", b'{"a": "\xff"}', b'{"a": 2}', b"[" * 100_000]
    (tmp_path / "bad.jsonl").write_bytes(b"\n".join(bad))
    rows = read(tmp_path, "jsonl", path="bad.jsonl")
    assert next(rows).value == {"a": 1}
    with pytest.raises(RowErrors) as raised:
        next(rows)
    assert [error.place for error in raised.value.errors] == [f"bad.jsonl:{line}" for line in (2, 3, 4, 6)]
    assert "not UTF-8" in str(raised.value)
    assert "is a list, not an object" in str(raised.value)


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path, kind):
    with pytest.raises(UserError, match=r"'no/such' is not there"):
        list(read(tmp_path, kind, path="no/such"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is a directory"):
        list(read(tmp_path, kind, path="folder"))


class Counting:
    """A file of rows that never ends."""

    def __init__(self, opening, row, between):
        self.read_bytes = 0
        self._text = itertools.chain([opening], itertools.cycle([row + between]))
        self._rest = b""

    def read(self, size=-1):
        assert size >= 0, "the whole file was asked for"
        while len(self._rest) < size:
            self._rest += next(self._text)
        data, self._rest = self._rest[:size], self._rest[size:]
        self.read_bytes += size
        return data

    read1 = read

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        for line in self._text:
            self.read_bytes += len(line)
            yield line

    def readable(self):
        return True

    def writable(self):
        return False

    def seekable(self):
        return False

    closed = False

    def flush(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(
    ("kind", "module", "stream"),
    [
        ("jsonl", "files", (b"", b'{"a": 1}', b"\n")),
        ("json", "json_file", (b"[", b'{"a": 1}', b", ")),
        ("csv", "csv_file", (b"a,b\n", b"1,2", b"\n")),
    ],
)
def test_files_without_end_are_read_as_far_as_rows_are_asked_for(tmp_path, monkeypatch, kind, module, stream):
    endless = Counting(*stream)
    (tmp_path / "endless").touch()
    monkeypatch.setattr(f"hone.experiments.kinds.sources.{module}.opened", lambda path: endless)
    rows = read(tmp_path, kind, path="endless")
    assert len(list(itertools.islice(rows, 100))) == 100
    assert endless.read_bytes < 200_000


def test_json_is_read_row_by_row_with_the_lines_on_which_rows_begin(tmp_path, monkeypatch):
    monkeypatch.setattr("hone.experiments.kinds.sources.json_file.CHUNK", 7)
    rows = [{"text": 'ä "quoted" [x], {y}\n', "n": [1.5, {"deep": None}], "i": i} for i in range(6)]
    for indent in (None, 1):
        text = "\ufeff\n" + json.dumps(rows, indent=indent, ensure_ascii=False)
        (tmp_path / "a.json").write_text(text)
        found = list(read(tmp_path, "json", path="a.json"))
        assert values(found) == rows
        if indent:
            starts = [number for number, line in enumerate(text.split("\n"), 1) if line == " {"]
            assert [row.place for row in found] == [f"a.json:{line}" for line in starts]
    (tmp_path / "b.json").write_text(" [ ] ")
    assert values(read(tmp_path, "json", path="b.json")) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"a": 1},\n{"a": tru}]', "bad.json:2: it is not JSON"),
        ('[{"a": 1},\n3]', "bad.json:2: it is a JSON int"),
        ('[{"a": 1}\n{"a": 2}]', "bad.json:2: the list goes on with '{'"),
        ('[{"a": 1}\n', "bad.json:2: it ends"),
        ('{"a": 1}', "holds no list of objects; `key`"),
        ("", "holds no list"),
        ('[{"a": "' + "x" * 50, "bad.json:1: it is not JSON"),
    ],
)
def test_broken_json_is_named_by_its_line(tmp_path, text, problem):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=problem.replace("(", r"\(").replace("{", r"\{")):
        list(read(tmp_path, "json", path="bad.json"))


def test_json_that_is_no_utf8_is_named(tmp_path):
    (tmp_path / "bad.json").write_bytes(b'[{"a": 1},\n{"a": "\xff"}]')
    with pytest.raises(RowError, match="not UTF-8"):
        list(read(tmp_path, "json", path="bad.json"))


def test_json_within_a_file(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"data": {"rows": ROWS}, "n": 1}))
    rows = list(read(tmp_path, "json", path="a.json", key="data.rows"))
    assert values(rows) == ROWS
    assert rows[1].place == "a.json:data.rows[1]"
    with pytest.raises(UserError, match=r"nothing under 'rows'; it has data, n"):
        list(read(tmp_path, "json", path="a.json", key="rows"))
    with pytest.raises(UserError, match="no list under 'n'"):
        list(read(tmp_path, "json", path="a.json", key="n"))


def test_csv_gives_the_line_on_which_a_row_begins(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffprompt;answer\n"two\nlines";x\n\n"a ""b""";y;\n'[:-2] + "\n")
    rows = list(read(tmp_path, "csv", path="a.csv", delimiter=";"))
    assert [(row.place, row.value) for row in rows] == [
        ("a.csv:2", {"prompt": "two\nlines", "answer": "x"}),
        ("a.csv:5", {"prompt": 'a "b"', "answer": "y"}),
    ]


def test_a_cell_of_csv_may_be_long(tmp_path):
    (tmp_path / "a.csv").write_text("a\n" + "x" * 300_000 + "\n")
    assert len(next(read(tmp_path, "csv", path="a.csv")).value["a"]) == 300_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"a,b\n1,2\n1,2,3\n", "bad.csv:3: it has 3 cells; the first line names 2"),
        (b"a,a\n", "bad.csv:1 names the columns"),
        (b"", "bad.csv:1 names the columns"),
        (b"a,b\n1,\xff\n", "not UTF-8"),
        (b'a,b\n1,"x\n', "bad.csv:2: it cannot be read"),
    ],
)
def test_broken_csv_is_named_by_its_line(tmp_path, text, problem):
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(UserError, match=problem):
        list(read(tmp_path, "csv", path="bad.csv"))


def test_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    monkeypatch.setattr("hone.experiments.kinds.sources.parquet.BATCH", 2)
    rows = list(read(tmp_path, "parquet", path="a.parquet"))
    assert values(rows) == ROWS
    assert rows[3].place == "a.parquet:4"
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"bad\.parquet cannot be read"):
        list(read(tmp_path, "parquet", path="bad.parquet"))


@pytest.mark.parametrize(("kind", "module"), [("parquet", "pyarrow"), ("huggingface", "datasets")])
def test_what_needs_an_extra_says_so(tmp_path, monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)
    params = {"path": "x"} if kind == "parquet" else {"name": "x"}
    with pytest.raises(UserError, match=r"pip install 'hone\[hub\]'"):
        list(read(tmp_path, kind, **params))


def test_hugging_face_reads_a_data_set_on_this_machine(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    home = tmp_path / "home"
    (home / "set").mkdir(parents=True)
    (home / "set/train.jsonl").write_text(lines(ROWS))
    (home / "set/test.jsonl").write_text(lines(ROWS[:1]))
    for streaming in (False, True):
        rows = list(read(home, "huggingface", name="set", split="train", streaming=streaming))
        assert values(rows) == ROWS
        assert rows[0].place == "set/train:1"
    assert values(read(home, "huggingface", name="set", split="test[:1]")) == ROWS[:1]
    with pytest.raises(UserError, match=r"'set' .*split dev.* cannot be loaded"):
        list(read(home, "huggingface", name="set", split="dev"))


def test_rows_of_the_file_itself(tmp_path):
    rows = list(read(tmp_path, "rows", rows=ROWS))
    assert values(rows) == ROWS
    assert rows[1].place == "rows[1]"
    with pytest.raises(UserError, match="rows: List should have at least 1"):
        read(tmp_path, "rows", rows=[])


USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def test_traces_of_all_three_forms(tmp_path):
    traces = tmp_path / "traces"
    (traces / "b").mkdir(parents=True)
    session = {"messages": [USER, ASSISTANT], "feedback": {"score": 1}, "metadata": {"user": "u"}}
    (traces / "a.json").write_text(json.dumps(session))
    (traces / "b/many.jsonl").write_text(lines([session, {"messages": [USER]}]))
    (traces / "c.jsonl").write_text(lines([USER, ASSISTANT, {"feedback": 0.5}, {"metadata": {"user": "v"}}]))
    (traces / "readme.txt").write_text("not a trace")
    rows = list(read(tmp_path, "traces", path="traces"))
    assert [(row.place, row.value) for row in rows] == [
        ("traces/a.json", {"session": "a", **session}),
        ("traces/b/many.jsonl:1", {"session": "b/many", **session}),
        ("traces/b/many.jsonl:2", {"session": "b/many", "messages": [USER]}),
        (
            "traces/c.jsonl",
            {"session": "c", "messages": [USER, ASSISTANT], "feedback": 0.5, "metadata": {"user": "v"}},
        ),
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.json", "{}", r"bad/a\.json: a session has messages"),
        ("a.json", "[]", r"bad/a\.json: the file is a list"),
        ("a.jsonl", '{"role": "user"}\n{"note": 1}\n', r"bad/a\.jsonl:2: it is neither a session"),
        ("a.jsonl", "", r"bad/a\.jsonl: the file is empty"),
        ("a.txt", "", "no .json or .jsonl files"),
    ],
)
def test_broken_traces_are_named(tmp_path, name, text, problem):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_text(text)
    with pytest.raises(UserError, match=problem):
        list(read(tmp_path, "traces", path="bad"))
    with pytest.raises(UserError, match="'none' is not there"):
        list(read(tmp_path, "traces", path="none"))
