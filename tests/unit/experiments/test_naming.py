import re
from typing import Any

import pytest

from hone.experiments.naming import LONGEST_NAME, from_template, names_of, safe


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([{"algorithm.kind": "sft", "algorithm.params.lr": 1e-5}], ["sft-lr1e-05"]),
        ([{"data.shuffle": True}, {"data.shuffle": False}], ["shuffle-true", "shuffle-false"]),
        ([{"model.renderer": None}, {"model.renderer": "qwen3"}], ["renderer-none", "renderer-qwen3"]),
        ([{"model.name": "Qwen/Qwen3-8B"}, {"model.name": "Qwen/Qwen3-4B"}], ["Qwen3-8B", "Qwen3-4B"]),
        ([{"x.path": "a/t.jsonl"}, {"x.path": "b/t.jsonl"}], ["a-t.jsonl", "b-t.jsonl"]),
        ([{"data.limit": 1, "validation.limit": 2}], ["data-limit1-validation-limit2"]),
        ([{"a.beta": 0.1}, {"a.beta": 0.30000000000000004}], ["beta0.1", "beta0.30000000000000004"]),
        ([], []),
    ],
)
def test_values_become_names(values: list[dict[str, Any]], expected: list[str]) -> None:
    assert names_of(values, "") == expected


def test_the_base_comes_first() -> None:
    assert names_of([{"a.lr": 1}], "mine") == ["mine-lr1"]
    assert names_of([{}], "mine") == ["mine"]


def test_names_that_would_be_equal_or_too_long_end_with_a_hash_of_what_they_name() -> None:
    alike = names_of([{"a.b": "x y"}, {"a.b": "x  y"}, {"a.b": "x-y"}], "")
    assert len(set(alike)) == 3
    assert all(re.fullmatch(r"b-x-y-[0-9a-f]{6}", name) for name in alike)
    long = names_of([{"a.b": "z" * 200 + "1"}, {"a.b": "z" * 200 + "2"}], "")
    assert len(set(long)) == 2
    assert max(map(len, long)) == LONGEST_NAME
    assert names_of([{"a.b": 1}, {"a.b": 1}], "") == ["b1", "b1"]  # the same thing: not told apart here


def test_names_are_fit_for_files() -> None:
    assert [safe(text) for text in ("a/b c", "../x", "--", "é")] == ["a-b-c", "x", "x", "x"]


def test_templates_are_filled_without_the_seed() -> None:
    full = {"algorithm": {"kind": "sft", "params": {"lr": 1e-5}}, "seed": 3, "model": {"name": "Qwen/Q3"}}
    assert from_template("{base}-{algorithm.kind}_{algorithm.params.lr}", "e", full) == "e-sft_1e-05"
    assert from_template("{base}-{seed}-{model.name}", "e", full) == "e-Q3"
    assert from_template("{model.name}-{seed}", "e", full) == "Q3"
