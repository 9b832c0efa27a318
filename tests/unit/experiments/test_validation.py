"""Each mistake with its place and what was probably meant, and all mistakes of a file at once."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hone.experiments.fields import get
from hone.experiments.tree import from_values, read_yaml
from hone.experiments.validation import validate

pytestmark = pytest.mark.usefixtures("kinds")

RUN = "data: {source: {kind: listed, params: {path: a}}}\n  algorithm: {kind: imitate}\n  backend: {kind: bench}\n"
MATRIX = """\
name: m
matrix:
  axes:
    algorithm.kind: [imitate, prefer]
    algorithm.params.lr: [1e-5, 2e-5]
  base_run:
    data: {source: {kind: listed, params: {path: a}}}
    backend: {kind: bench}
"""


def complaints(text: str) -> list[str]:
    top, problems = read_yaml(text, "x.yaml", {})
    config, found = validate(top)
    assert (config is None) == bool(found)
    return [str(one) for one in [*problems, *found]]


def with_run(extra: str) -> str:
    return f"name: m\nrun:\n  {RUN}{extra}"


def test_a_good_file_has_no_problems() -> None:
    assert complaints(with_run("")) == []
    assert complaints(MATRIX) == []


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("hypotesis: x\n", "x.yaml:6: hypotesis: unknown key; did you mean 'hypothesis'?"),
        (
            "seed: 3\n",
            "x.yaml:6: seed: unknown key; it belongs to a run: `run.seed`, `matrix.base_run.seed`, or `defaults.seed`",
        ),
        ("  name: x\n  repeats: {n: 2}\n", "x.yaml:7: run.repeats: unknown key; it belongs to the top of the file"),
        ("  model: {rank: 3}\n", "x.yaml:6: run.model.rank: unknown key; did you mean 'lora_rank'?"),
        ("  seed: abc\n", "x.yaml:6: run.seed: must be a whole number, found 'abc'"),
        ("  seed: true\n", "x.yaml:6: run.seed: must be a number, found true"),
        ("  seed:\n", "x.yaml:6: run.seed: must be a whole number, found nothing"),
        ("  model: 3\n", "x.yaml:6: run.model: must be a mapping of keys to values, found 3"),
        ("  tags: x\n", "x.yaml:6: run.tags: must be a list, found 'x'"),
        (
            "  validation: {keep: bst}\n",
            "x.yaml:6: run.validation.keep: must be 'best' or 'last', found 'bst'; did you mean 'best'?",
        ),
        (
            "  validation: {metrics: [3]}\n",
            "x.yaml:6: run.validation.metrics[0]: must be a mapping of keys to values or text, found 3",
        ),
        (
            "  validation: {metrics: [scor]}\n",
            "x.yaml:6: run.validation.metrics[0]: there is no metric 'scor'; did you mean 'score'?",
        ),
        (
            "  validation: {metrics: [{kind: score, params: {q: 1}}]}\n",
            "x.yaml:6: run.validation.metrics[0].params.q: unknown key of metric 'score'; there are k",
        ),
        ("  stop: {halving: {}}\n", "x.yaml:6: run.stop.halving.rungs: is needed and not there"),
        ("selection: {goal: max}\n", "x.yaml:6: selection.metric: is needed and not there"),
        ("selection: {metrik: x}\n", "x.yaml:6: selection.metrik: unknown key; did you mean 'metric'?"),
        ("hypothesis: {statement: x, beter: a}\n", "x.yaml:6: hypothesis.beter: unknown key; did you mean 'better'?"),
        ("hypothesis: 3\n", "x.yaml:6: hypothesis: must be a mapping of keys to values or text, found 3"),
        (
            "hypothesis: {statement: x, better: 3}\n",
            "x.yaml:6: hypothesis.better: must be a mapping of keys to values or text, found 3",
        ),
        ("budget: {tokens: 0}\n", "x.yaml:6: budget.tokens: must be greater than 0, found 0"),
        ("version: 2\n", "x.yaml:6: version: must be 1, found 2"),
        ("benchmarks: [{name: b, pth: x}]\n", "x.yaml:6: benchmarks[0].pth: unknown key; did you mean 'path'?"),
        ("benchmarks: [{name: b}]\n", "x.yaml:6: benchmarks[0]: give either `path` or `source`"),
        (
            "  validation: {data: {source: {kind: listed, params: {path: a}}, split: {by: group}}}\n",
            "x.yaml:6: run.validation.data.split: `by: group` needs `key`, and `key` needs `by: group`",
        ),
    ],
)
def test_each_mistake_is_told_with_its_place(extra: str, told: str) -> None:
    assert complaints(with_run(extra)) == [told]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (
            "  algorithm: {kind: imitat}\n",
            "run.algorithm.kind: there is no algorithm 'imitat'; did you mean 'imitate'?",
        ),
        (
            "  algorithm: {kind: prefer, lr: 1}\n",
            "run.algorithm.lr: unknown key; what a plugin is told stands in `params`: did you mean `params.lr`?",
        ),
        (
            "  algorithm: {kind: prefer, params: {bta: 1}}\n",
            "run.algorithm.params.bta: unknown key of algorithm 'prefer'; did you mean 'beta'?",
        ),
        (
            "  algorithm: {kind: prefer, params: {lr: fast}}\n",
            "run.algorithm.params.lr: must be a number, found 'fast'",
        ),
        ("  algorithm: {kind: prefer, params: {lr: true}}\n", "run.algorithm.params.lr: must be a number, found true"),
        (
            "  algorithm: {kind: prefer, params: 3}\n",
            "run.algorithm.params: must be a mapping of keys to values, found 3",
        ),
        ("  algorithm: {kind: 3}\n", "run.algorithm.kind: must be text, found 3"),
    ],
)
def test_plugins_and_their_params_are_checked(extra: str, told: str) -> None:
    assert complaints(with_run("").replace("  algorithm: {kind: imitate}\n", extra)) == [f"x.yaml:4: {told}"]


def test_params_within_params_are_checked() -> None:
    text = with_run("benchmarks:\n  - name: b\n    path: x\n    verifier:\n      kind: all_of_them\n      params:\n")
    text += "        verifiers:\n          - {kind: all_of_them}\n          - {kind: al_of_them}\n"
    (told,) = complaints(text)
    assert told == (
        "x.yaml:14: benchmarks[0].verifier.params.verifiers[1].kind: there is no verifier 'al_of_them'; "
        "did you mean 'all_of_them'?"
    )


def test_required_params_are_missed_where_they_belong() -> None:
    assert complaints(with_run("").replace(", params: {path: a}", "")) == [
        "x.yaml:3: run.data.source.params.path: is needed and not there"
    ]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("  stop: {halving: {rungs: [20, 10]}}\n", "run.stop.halving.rungs: must rise, found [20, 10]"),
        (
            "  stop: {halving: {rungs: [15]}}\n",
            "run.stop.halving.rungs: must be multiples of `validation.every`, which is 10, found [15]",
        ),
        (
            "benchmarks: [{name: b, path: x}, {name: b, path: y}]\n",
            "benchmarks[1].name: the name is there already, found 'b'",
        ),
        ("budget: {arms: 1}\nrepeats: {n: 2}\n", "budget.arms: 2 arms are planned, more than the budget, found 1"),
        (
            "hypothesis: {statement: x, better: {algorithm.knd: imitate}, than: baseline}\n",
            "hypothesis.better.algorithm.knd: unknown key; did you mean 'algorithm.kind'?",
        ),
    ],
)
def test_parts_of_the_file_fit_together(extra: str, told: str) -> None:
    (found,) = complaints(with_run(extra))
    assert told in found


def test_no_benchmark_is_called_as_the_test_side_of_a_split() -> None:
    split = with_run("").replace("{path: a}}}", "{path: a}}, split: {test: 0.2}}")
    (found,) = complaints(split + "benchmarks: [{name: test, path: x}]\n")
    assert "benchmarks[0].name: the test side of the split is called so; it is a benchmark too, found 'test'" in found
    assert complaints(with_run("") + "benchmarks: [{name: test, path: x}]\n") == []


def test_stages_speak_of_benchmarks_that_are_there() -> None:
    data = "data: {source: {kind: listed, params: {path: a}}}"
    text = f"""\
name: c
benchmarks: [{{name: test, path: x}}]
run: {{algorithm: {{kind: imitate}}, backend: {{kind: bench}}}}
continual:
  stages:
    - {{name: a, benchmark: tst, {data}}}
    - {{name: a, benchmark: test, {data}}}
"""
    assert complaints(text) == [
        "x.yaml:7: continual.stages[1].name: the name is there already, found 'a'",
        "x.yaml:6: continual.stages[0].benchmark: there is no such benchmark, found 'tst'; did you mean 'test'?",
    ]


def test_a_run_needs_data() -> None:
    (found,) = complaints("name: c\nrun: {seed: 1}\n")
    assert found.startswith("x.yaml:2: run: has no `data`; say where its rows come from")


@pytest.mark.parametrize("form", ["", "run: {}\nruns: [{}]\n", "continual: {stages: []}\n"])
def test_there_is_one_form(form: str) -> None:
    assert any("give exactly one of" in one or "at least 2" in one for one in complaints(f"name: a\n{form}"))


# Matrices.


def with_axes(axes: dict[str, Any], **more: Any) -> str:
    values = yaml.safe_load(MATRIX)
    values["matrix"] |= {"axes": axes, **more}
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        ({"seed": []}, ["matrix.axes.seed: an axis needs at least one value, found []"]),
        ({"algorithm.knd": ["imitate"]}, ["matrix.axes.algorithm.knd: unknown key; did you mean 'algorithm.kind'?"]),
        (
            {"algoritm.kind": ["imitate"]},
            ["matrix.axes.algoritm.kind: unknown key, found 'algoritm'; did you mean 'algorithm.kind'?"],
        ),
        ({"lr": [1]}, ["matrix.axes.lr: unknown key; did you mean 'algorithm.params.lr'?"]),
        (
            {"model.lora_rank": [1, 0, "x"]},
            ["lora_rank[1]: must be greater than 0, found 0", "lora_rank[2]: must be a whole number, found 'x'"],
        ),
        (
            {"algorithm.kind": ["imitate", "preferr"]},
            ["matrix.axes.algorithm.kind[1]: there is no algorithm 'preferr'; did you mean 'prefer'?"],
        ),
        ({"algorithm.params.lr": [1, "x"]}, ["matrix.axes.algorithm.params.lr[1]: must be a number, found 'x'"]),
        ({"data.source": [{"kind": "listed"}]}, ["matrix.axes.data.source[0].params.path: is needed and not there"]),
        (
            {"data.transforms.0.kind": ["shorter"]},
            ["matrix.axes.data.transforms.0.kind: the path leads to 0 in something that has no such key"],
        ),
        (
            {"algorithm": [{"kind": "imitate", "params": {"lrr": 1}}]},
            ["matrix.axes.algorithm[0].params.lrr: unknown key of algorithm 'imitate'; did you mean 'lr'?"],
        ),
        (
            {"algorithm.kind": ["imitate", "prefer"], "algorithm.params.beta": [0.1]},
            ["matrix.axes.algorithm.params.beta: unknown key of algorithm 'imitate'; `where` can leave out"],
        ),
        ({"model.lora_rank": [4, 4]}, ["matrix.axes: two arms are the same run, found 'lora_rank4-s0'"]),
    ],
)
def test_axes_are_checked_on_the_base_run(axes: dict[str, Any], told: list[str]) -> None:
    base = {"algorithm": {"kind": "imitate"}} if "algorithm.kind" not in axes else {}
    values = yaml.safe_load(MATRIX)
    found = complaints(with_axes(axes, base_run=values["matrix"]["base_run"] | base))
    assert len(found) == len(told), found
    for one, expected in zip(found, told, strict=True):
        assert expected in one


def test_an_empty_axis_is_not_missed_where_it_would_have_given_something() -> None:
    base = {"data": {"source": {"kind": "listed"}}, "backend": {"kind": "bench"}, "algorithm": {"kind": "imitate"}}
    (found,) = complaints(with_axes({"data.source.params.path": [], "seed": [1]}, base_run=base))
    assert "matrix.axes.data.source.params.path: an axis needs at least one value" in found


def test_an_axis_may_give_what_the_base_run_lacks() -> None:
    base = {"data": {"source": {"kind": "listed"}}, "backend": {"kind": "bench"}, "algorithm": {"kind": "imitate"}}
    assert complaints(with_axes({"data.source.params.path": ["a", "b"]}, base_run=base)) == []


def test_where_may_leave_out_what_does_not_fit() -> None:
    axes = {"algorithm.kind": ["imitate", "prefer"], "algorithm.params.beta": [0.1, 0.2]}
    assert complaints(with_axes(axes, where=["algorithm.kind == 'prefer'"])) == []


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("algorithm.kind = 'x'", "is no expression"),
        (
            "algorithm.knd == 'x'",
            "there is no 'algorithm.knd' in these runs, found \"algorithm.knd == 'x'\"; did you mean 'algorithm.kind'?",
        ),
        ("algorithm.kind == 'x'", "no combination meets these conditions"),
        ("algorithm.params.beta < 1", "`has(name)` asks whether a run has a value"),
        ("algorithm.kind < 1", "not supported between"),
    ],
)
def test_conditions_are_checked(where: str, told: str) -> None:
    axes = {"algorithm.kind": ["imitate", "prefer"]}
    (found,) = complaints(with_axes(axes, where=[where]))
    assert ": matrix.where" in found
    assert told in found


# All at once.


def test_a_file_full_of_mistakes_tells_every_one_of_them() -> None:
    text = """\
name: bad name
hypotesis: x
seed: 3
selection: {metric: nll, goal: maximum}
budget: {tokens: -1}
matrix:
  axes:
    algorithm.kind: [imitate, preferr]
    algorithm.params.lrr: [1e-5]
    algoritm.params.lr: [1]
    model.lora_rank: [8, many]
    tags: []
  where: ["model.lora_rank <"]
  base_run:
    model: {lora_rank: true, init_from_checkpoint: a, load_checkpoint: b}
    data: {sorce: {kind: listed}, split: {validation: 0.6, test: 0.5}}
    algorithm: {kind: imitate, lr: 1}
    backend:
      kind: bensh
    backend: {}
benchmarks:
  - name: b
    metrics: [5, scor]
  - {name: b, path: x, verifier: {kind: all_of_them, params: {verifiers: [{kind: al}]}}}
"""
    found = complaints(text)
    for place in (
        "1: name",
        "2: hypotesis",
        "3: seed",
        "4: selection.goal",
        "5: budget.tokens",
        "12: matrix.axes.tags",
        "13: matrix.where[0]",
        "15: matrix.base_run.model.lora_rank",
        "15: matrix.base_run.model: ",
        "16: matrix.base_run.data.sorce",
        "16: matrix.base_run.data.split: ",
        "17: matrix.base_run.algorithm.lr",
        "19: matrix.base_run.backend.kind",
        "20: matrix.base_run.backend: ",
        "22: benchmarks[0]: give either",
        "23: benchmarks[0].metrics[0]",
        "23: benchmarks[0].metrics[1]",
        "24: benchmarks[1].verifier.params.verifiers[0].kind",
    ):
        assert sum(one.startswith(f"x.yaml:{place}") for one in found) == 1, f"{place} in {found}"
    without_where = complaints(text.replace('  where: ["model.lora_rank <"]\n', ""))
    for place in (
        "8: matrix.axes.algorithm.kind[1]",
        "9: matrix.axes.algorithm.params.lrr",
        "10: matrix.axes.algoritm",
        "11: matrix.axes.model.lora_rank[1]",
    ):
        assert sum(one.startswith(f"x.yaml:{place}") for one in without_where) == 1, f"{place} in {without_where}"


def test_whatever_is_wrong_is_told_and_never_a_crash() -> None:
    rng = random.Random(0)
    values = [
        None,
        True,
        -1,
        1.5,
        "x",
        "",
        [],
        {},
        [None],
        {"a": {}},
        {"kind": "imitate"},
        {"kind": 3},
        "a.b",
        "\ud800",
    ]
    told = 0
    for _ in range(150):
        broken = yaml.safe_load(MATRIX)
        for _ in range(rng.randint(1, 3)):
            at = rng.choice(list(places(broken)))
            above = get(broken, at[:-1])
            above[at[-1]] = copy.deepcopy(rng.choice(values))
        config, problems = validate(from_values(broken))
        told += bool(problems)
        assert (config is None) == bool(problems)
    assert told > 100


def places(values: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))
