"""Every benchmark reads its own rows, accepts what its authors hold for right, and refuses what is near it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.evals.benchmark import Benchmark, Item, load_benchmark
from hone.algorithms.evals.benchmarks import BENCHMARKS
from hone.algorithms.graders.grade import Grade, Task
from hone.errors import UserError

ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "What is 3 + 4?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"},
    "math500": {"problem": "Half of one?", "answer": "\\frac{1}{2}", "subject": "Algebra", "unique_id": "a/1"},
    "aime": {"id": 60, "problem": "Minutes?", "answer": "204"},
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": 'from typing import List\n\n\ndef double(x: List[int]) -> List[int]:\n    """Twice each."""\n',
        "entry_point": "double",
        "canonical_solution": "    return [2 * each for each in x]\n",
        "test": "def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n",
    },
    "mbpp": {
        "task_id": 2,
        "prompt": "Write a function that doubles.",
        "code": "def double(x):\n    return 2 * x",
        "test_imports": ["import math"],
        "test_list": ["assert double(2) == 4", "assert double(math.pi) == math.tau"],
    },
    "ifeval": {
        "key": 1,
        "prompt": "Two words, no commas.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"relation": "less than", "num_words": 3}],
    },
    "mmlu": {"subject": "sums", "question": "3 + 4?", "choices": ["5", "6", "7", "8"], "answer": 2},
    "bbh": {"task": "dyck", "input": "Close: [ [", "target": "] ]"},
}
GOOD = {
    "gsm8k": "Three and four make \\boxed{7}.",
    "math500": "So it is $\\boxed{0.5}$.",
    "aime": "\\boxed{204}",
    "humaneval": "```python\ndef double(x: List[int]) -> List[int]:\n    return [each + each for each in x]\n```",
    "mbpp": "Here:\n```python\ndef double(x):\n    return x + x\n```",
    "ifeval": "Very well",
    "mmlu": "Three and four make seven.\nAnswer: C",
    "bbh": "Two are open.\nThe answer is ] ]",
}
BAD = {
    "gsm8k": "Seven was asked for, but it is \\boxed{8}.",
    "math500": "\\boxed{2}",
    "aime": "\\boxed{205}",
    "humaneval": "```python\ndef double(x):\n    return x + x\n```",
    "mbpp": "```python\ndef double(x):\n    return 4\n```",
    "ifeval": "Very well, then",
    "mmlu": "A good question. Answer: B",
    "bbh": "The answer is ]",
}


def one(name: str, tmp_path: Path) -> Benchmark:
    file = tmp_path / f"{name}.jsonl"
    file.write_text(json.dumps(ROWS[name]) + "\n")
    return load_benchmark(name, BENCHMARKS[name], file)


def graded(benchmark: Benchmark, answer: str) -> Grade:
    async def grade() -> Grade:
        return await benchmark.grader(benchmark.items[0].task, answer)

    return asyncio.run(grade())


def test_every_benchmark_is_tried_here() -> None:
    assert set(BENCHMARKS) == set(ROWS) == set(GOOD) == set(BAD)


@pytest.mark.parametrize("name", ROWS)
def test_right_is_right_and_wrong_is_wrong(name: str, tmp_path: Path) -> None:
    benchmark = one(name, tmp_path)
    assert graded(benchmark, GOOD[name]).score == 1
    assert graded(benchmark, BAD[name]).score < 1
    assert graded(benchmark, "").score == 0


@pytest.mark.parametrize("name", ROWS)
def test_the_question_is_asked(name: str, tmp_path: Path) -> None:
    row, (message,) = ROWS[name], one(name, tmp_path).items[0].messages
    asked = next(str(row[key]) for key in ("question", "problem", "prompt", "input") if key in row)
    assert message["role"] == "user"
    assert asked.strip() in str(message["content"])


def test_a_letter_in_running_text_is_no_choice(tmp_path: Path) -> None:
    benchmark = one("mmlu", tmp_path)
    for answer in ("C", "(C)", "C.", "**Answer: C**", "The answer is (C)."):
        assert graded(benchmark, answer).score == 1, answer
    for answer in ("Clearly seven", "C is not it, but D may be", "Answer: Cheese"):
        assert graded(benchmark, answer).score == 0, answer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None, "question": None}, "is no item of mmlu"),
        ({"answer": "E"}, "none of 4 choices"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "rows.jsonl"
    row = {key: value for key, value in (ROWS["mmlu"] | change).items() if value is not None}
    file.write_text(json.dumps(ROWS["mmlu"]) + "\n\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=rf"rows\.jsonl:3 .*{message}"):
        load_benchmark("mmlu", BENCHMARKS["mmlu"], file)


def test_parts_of_a_benchmark_are_numbered_on_their_own(tmp_path: Path) -> None:
    file = tmp_path / "bbh.jsonl"
    parts = ["snarks", "navigate", "snarks", "navigate", "snarks"]
    file.write_text("".join(json.dumps({"task": part, "input": "?", "target": "yes"}) + "\n" for part in parts))

    def names(*subsets: str, limit: int | None = None) -> list[str]:
        return [item.id for item in load_benchmark("bbh", BENCHMARKS["bbh"], file, limit, subsets).items]

    assert names() == ["snarks/0", "navigate/0", "snarks/1", "navigate/1", "snarks/2"]
    assert names("navigate") == ["navigate/0", "navigate/1"]
    assert names("navigate", "snarks", limit=3) == names()[:3]
    with pytest.raises(UserError, match=r"bbh.jsonl has no subset snark; it has navigate, snarks"):
        names("snark", "navigate")
    with pytest.raises(UserError, match="gsm8k has no subsets"):
        load_benchmark("gsm8k", BENCHMARKS["gsm8k"], file, subsets=["snarks"])


def test_every_part_is_read_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, str]] = []

    def load_dataset(name: str, configuration: str | None, *, split: str) -> list[dict[str, str]]:
        asked.append((name, configuration, split))
        return [{"input": f"{configuration} {number}?", "target": "yes"} for number in range(2)]

    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    items = load_benchmark("bbh", BENCHMARKS["bbh"]).items
    assert len(asked) == len({configuration for _, configuration, _ in asked}) == 27
    assert len(items) == 54
    assert (items[3].id, items[3].cluster) == ("causal_judgement/1", "causal_judgement")
    some = load_benchmark("bbh", BENCHMARKS["bbh"], subsets=["navigate"]).items
    assert [item.id for item in some] == ["navigate/0", "navigate/1"]
    assert asked[27:] == [("lukaemon/bbh", "navigate", "test")]
    with pytest.raises(UserError, match="no subset nothing"):
        load_benchmark("bbh", BENCHMARKS["bbh"], subsets=["nothing"])
    assert asked[28:] == []


def test_a_line_ends_where_json_lines_end(tmp_path: Path) -> None:
    """A text may hold U+2028 and U+0085, which Python's `splitlines` takes for ends of lines."""
    file = tmp_path / "rows.jsonl"
    row = ROWS["gsm8k"] | {"question": "One\u2028two\u0085three?"}
    file.write_text(json.dumps(row, ensure_ascii=False) + "\r\n" + json.dumps(ROWS["gsm8k"]), encoding="utf-8")
    assert len(load_benchmark("gsm8k", BENCHMARKS["gsm8k"], file).items) == 2


def test_a_fingerprint_is_of_the_content() -> None:
    def item(content: Any, gold: str = "7", **facts: Any) -> Item:
        return Item("name", ({"role": "user", "content": content},), Task("?", gold, facts))

    same = item("3 + 4?", a=1, b=2)
    assert item("3 + 4?", b=2, a=1).fingerprint == same.fingerprint
    others = [item("4 + 3?", a=1, b=2), item("3 + 4?", "8", a=1, b=2), item("3 + 4?", a=1, b=3)]
    images = [item([{"type": "image", "image": content}]) for content in (b"one", b"two")]
    assert len({one.fingerprint for one in [same, *others, *images]}) == 6


def test_a_limit_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the limit is -1"):
        load_benchmark("mmlu", BENCHMARKS["mmlu"], tmp_path / "rows.jsonl", limit=-1)


FOLLOWED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "SO IT goes",
        "SO it",
    ),
    ("change_case:english_capital", {}, "THIS IS A QUITE ORDINARY SENTENCE.", "This is a sentence."),
    ("change_case:english_lowercase", {}, "this is a quite ordinary sentence.", "This is a sentence."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "Say hi.\nHi.", "Hi. Say hi."),
    ("combination:two_responses", {}, "One\n******\nTwo", "One\n******\nOne"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye\nP.P.S. one more", "Bye\nPS one more"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', '{"a": 1} is it'),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1 a\nSECTION 2 b",
        "SECTION 1 a",
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a\n* b\n- c"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and * *"),
    ("detectable_format:title", {}, "<<On hats>>\nHats.", "<On hats>"),
    ("keywords:existence", {"keywords": ["hat", "Cap"]}, "A hat and a cap", "A hat"),
    ("keywords:forbidden_words", {"forbidden_words": ["hat"]}, "That is it", "A Hat."),
    ("keywords:frequency", {"relation": "at least", "keyword": "ha", "frequency": 2}, "Ha ha", "ha"),
    ("keywords:letter_frequency", {"let_relation": "less than", "letter": "t", "let_frequency": 2}, "Tea", "Tot"),
    (
        "language:response_language",
        {"language": "de"},
        "Das ist ein ganz gewöhnlicher Satz.",
        "This is an ordinary sentence.",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        "A.\n\n**So** be it.",
        "So.\n\nB.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "A\n***\nB", "A\n\nB"),
    (
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 3},
        "Mr. Hat paid 3.50 to J. Cap. Good!",
        "One. Two? Three!",
    ),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "one, two three", "one two"),
    ("punctuation:no_comma", {}, "a b", "a, b"),
    ("startend:end_checker", {"end_phrase": "The end."}, "So. the END.", "The end. Or not"),
    ("startend:quotation", {}, '"All of it"', '"Some" of it'),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "settings", "followed", "missed"), FOLLOWED, ids=[row[0] for row in FOLLOWED])
def test_instructions_are_checked(
    tmp_path: Path, kind: str, settings: dict[str, Any], followed: str, missed: str
) -> None:
    file = tmp_path / "ifeval.jsonl"
    # Rows of the hub name every setting of every kind, most of them null.
    row = {"key": 1, "prompt": "?", "instruction_id_list": [kind], "kwargs": [settings | {"unused": None}]}
    file.write_text(json.dumps(row) + "\n")
    benchmark = load_benchmark("ifeval", BENCHMARKS["ifeval"], file)
    assert graded(benchmark, followed).score == 1
    assert graded(benchmark, missed).score == 0


@pytest.mark.parametrize(
    ("answer", "strict", "loose"),
    [
        ("all of it is small", (True, True), (True, True)),
        ("Sure, here it is:\nall of it is small", (False, False), (True, True)),
        ("all of it is small\nDone.", (False, True), (True, True)),
        ("Sure.\nall of it is small\nDone, then.", (False, False), (True, True)),
        ("NO, NEVER", (False, False), (False, False)),
        ("", (False, False), (False, False)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_loose_overlooks_a_frame(
    tmp_path: Path, answer: str, strict: tuple[bool, bool], loose: tuple[bool, bool]
) -> None:
    """In lower case, and no comma; by hand."""
    file = tmp_path / "ifeval.jsonl"
    kinds = ["change_case:english_lowercase", "punctuation:no_comma"]
    file.write_text(json.dumps({"key": 1, "prompt": "?", "instruction_id_list": kinds, "kwargs": [{}, {}]}) + "\n")
    benchmark = load_benchmark("ifeval", BENCHMARKS["ifeval"], file)
    grade, task = graded(benchmark, answer), benchmark.items[0].task
    measured = {name: list(measure(task, grade.details)) for name, measure in benchmark.measures.items()}
    assert grade.score == all(strict)
    assert measured["prompt_loose"] == [all(loose)]
    assert sum(measured["instruction_strict"]) == sum(strict)
    assert sum(measured["instruction_loose"]) == sum(loose)
    assert len(measured["instruction_strict"]) == 2


def test_an_answer_without_stars_is_tried_too(tmp_path: Path) -> None:
    file = tmp_path / "ifeval.jsonl"
    row = {"instruction_id_list": ["startend:end_checker"], "kwargs": [{"end_phrase": "The end."}]}
    file.write_text(json.dumps({"key": 1, "prompt": "?"} | row) + "\n")
    grade = graded(load_benchmark("ifeval", BENCHMARKS["ifeval"], file), "So it was. **The end.**")
    assert (grade.score, grade.details["prompt_loose"]) == (0, 1)


SHARED = Path(os.environ.get("TEST_SHARED", Path(__file__).parents[5] / "shared")) / "data"
FILES = {
    "gsm8k": "gsm8k_test",
    "math500": "math500",
    "aime": "aime2024",
    "humaneval": "humaneval",
    "mbpp": "mbpp_sanitized_test",
    "ifeval": "ifeval",
    "mmlu": "mmlu_test",
    "bbh": "bbh",
}


@pytest.mark.parametrize("name", FILES)
def test_the_published_rows_are_read_and_their_answers_accepted(name: str) -> None:
    file = SHARED / f"{FILES[name]}.jsonl"
    if not file.exists():
        pytest.skip("the published file is not here")
    benchmark = load_benchmark(name, BENCHMARKS[name], file)
    assert len(benchmark.items) == sum(bool(line.strip()) for line in file.read_text(encoding="utf-8").splitlines())
    assert set(BENCHMARKS[name].configurations) in (set(), {item.cluster for item in benchmark.items})
    if name == "ifeval":
        return  # no gold answers

    async def scores() -> list[float]:
        some = benchmark.items[:: 40 if name in ("humaneval", "mbpp", "math500") else 7]
        marked = {"gsm8k": "\\boxed{%s}", "math500": "\\boxed{%s}", "aime": "\\boxed{%s}", "bbh": "The answer is %s"}
        form = marked.get(name, "Answer: %s" if name == "mmlu" else "```python\n%s\n```")
        return [(await benchmark.grader(item.task, form % item.task.gold)).score for item in some]

    assert set(asyncio.run(scores())) == {1.0}
