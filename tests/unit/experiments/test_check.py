"""Checks of small experiments on the embedded model, whose tokenizer needs no server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.graders.grade import Grade, Task
from hone.experiments.check import CheckReport, check
from hone.experiments.kinds.contract import NoParams, Verifier
from hone.experiments.kinds.plugins import register_verifier
from hone.experiments.loading import experiment_from
from tests.support.registries import own_plugins

CHAT = [
    {"messages": [{"role": "user", "content": f"Who wrote book {i}?"}, {"role": "assistant", "content": f"Author {i}"}]}
    for i in range(60)
]
PAIRS = [{"prompt": f"Is {i} even?", "chosen": "yes", "rejected": "no, or so I think"} for i in range(60)]
TASKS = [{"prompt": f"What is {i} plus {i}?", "answer": str(2 * i)} for i in range(60)]
VERIFIER = {"kind": "of_test_check"}


@pytest.fixture(autouse=True)
def _verifier(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    with own_plugins():

        @register_verifier("of_test_check")
        class Equal(Verifier[NoParams]):
            def grader(self) -> Any:
                async def grade(task: Task, answer: str) -> Grade:
                    return Grade(float(answer == task.gold))

                return grade

        yield


def write(folder: Path, rows: list[Any], name: str = "train.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def data(name: str = "train.jsonl", **more: Any) -> dict[str, Any]:
    return {"source": {"kind": "jsonl", "params": {"path": name}}, **more}


def run(kind: str = "sft", name: str = "train.jsonl", params: Any = None, **more: Any) -> dict[str, Any]:
    return {"data": data(name), "algorithm": {"kind": kind, "params": params or {}}, **more}


def checked(folder: Path, *, deep: bool = True, **values: Any) -> CheckReport:
    return check(experiment_from({"name": "x", **values}, folder), deep=deep)


def texts(problems: Any) -> list[str]:
    return [str(problem) for problem in problems]


def test_a_good_experiment_is_planned_read_and_estimated(tmp_path: Path) -> None:
    write(tmp_path, CHAT)
    report = checked(tmp_path, run=run(params={"batch_size": 10, "epochs": 2}))
    assert (report.ok, report.problems, report.warnings) == (True, [], [])
    (arm,) = report.arms
    assert (arm.name, arm.algorithm, arm.backend, arm.model) == ("sft", "sft", "tinker", "hone/tiny")
    (found,) = report.data
    assert (found.key, found.arms, found.kind, found.unusable) == ("run.data", ["sft"], "chat", 0)
    assert 45 <= found.rows < 60  # a tenth is held out
    assert found.example is not None
    assert "Author" in found.example
    assert report.estimate is not None
    (one,) = report.estimate.arms
    assert (one.rows, one.steps) == (found.rows, 2 * -(-found.rows // 10))
    assert found.mean_tokens is not None
    assert one.most.training_tokens == pytest.approx(2 * found.rows * found.mean_tokens, abs=1)
    assert one.most.prefill_tokens > 0  # validation
    assert one.most == one.least == report.estimate.most
    assert one.seconds is None
    assert json.loads(report.model_dump_json())["arms"][0]["name"] == "sft"


def test_a_shallow_check_opens_nothing(tmp_path: Path) -> None:
    report = checked(tmp_path, deep=False, run=run(name="not_there.jsonl"))
    assert report.ok
    assert [arm.name for arm in report.arms] == ["sft"]
    assert (report.data, report.estimate) == ([], None)


def test_data_that_is_not_there_is_a_problem_of_the_data(tmp_path: Path) -> None:
    report = checked(tmp_path, run=run(name="not_there.jsonl"))
    (problem,) = report.problems
    assert problem.key == "run.data"
    assert "not_there.jsonl" in problem.message
    assert report.estimate is not None
    assert report.estimate.without == ["sft"]


def test_bad_rows_are_named_by_their_place(tmp_path: Path) -> None:
    write(tmp_path, [*CHAT, *([{"messages": "no"}] * 7)])
    (problem,) = checked(tmp_path, run=run()).problems
    lines = problem.message.split("\n  ")
    assert "arm sft will fail: " in lines[0]
    assert "cannot be used as chat rows" in lines[0]
    assert all("train.jsonl:" in line for line in lines[1:-1])
    assert len(lines) <= 7


def test_rows_that_some_methods_cannot_use_fail_those_arms_alone(tmp_path: Path) -> None:
    write(tmp_path, CHAT)
    axes = {"algorithm.kind": ["sft", "dpo", "grpo"], "algorithm.params.lr": [1e-5, 2e-5]}
    report = checked(tmp_path, matrix={"axes": axes, "base_run": {"data": data(), "backend": {"kind": "tinker"}}})
    assert report.ok
    assert len(report.arms) == 6
    failing = [text for text in texts(report.warnings) if "will fail" in text]
    assert len(failing) == 2
    assert "arms dpo-lr1e-05, dpo-lr2e-05 will fail" in failing[0]
    assert "arms grpo-lr1e-05, grpo-lr2e-05 will fail" in failing[1]
    assert report.estimate is not None
    assert [one.arm for one in report.estimate.arms] == ["sft-lr1e-05", "sft-lr2e-05"]
    assert len(report.estimate.without) == 4


def test_tasks_need_a_verifier_where_answers_are_graded(tmp_path: Path) -> None:
    write(tmp_path, TASKS)
    (problem,) = checked(tmp_path, run=run("grpo")).problems
    assert "it has no verifier, and `data.verifier` names none for all rows" in problem.message
    graded = run("grpo", params={"batch_size": 4, "group_size": 3, "max_tokens": 20, "max_steps": 2})
    graded["data"]["verifier"] = VERIFIER
    report = checked(tmp_path, run=graded)
    assert report.problems == []
    assert report.estimate is not None
    (one,) = report.estimate.arms
    assert report.data[0].mean_tokens is not None
    answers = 2 * 4 * 3
    measured = (one.most.sample_tokens - answers * 20) / 256  # of two measurements: at the beginning and at the end
    assert measured == 2 * (60 - report.data[0].rows)
    prompt = report.data[0].mean_tokens
    assert one.most.training_tokens == pytest.approx(answers * (prompt + 20), abs=1)
    assert one.least.sample_tokens == 0
    assert one.least.training_tokens < one.most.training_tokens


def test_preferences_count_both_answers_and_the_reference(tmp_path: Path) -> None:
    write(tmp_path, PAIRS)
    report = checked(tmp_path, run=run("dpo", validation={"metrics": ["preference_accuracy"]}))
    assert report.estimate is not None
    (one,) = report.estimate.arms
    assert report.data[0].mean_tokens is not None
    assert one.most.training_tokens == pytest.approx(report.data[0].rows * report.data[0].mean_tokens, abs=1)
    assert one.most.prefill_tokens >= one.most.training_tokens


def test_prices_make_costs_and_budgets_are_compared(tmp_path: Path) -> None:
    write(tmp_path, CHAT)
    priced = run(backend={"kind": "tinker", "params": {"prices": {"training": 2.0, "prefill": 1.0}}})
    report = checked(tmp_path, run=priced)
    assert report.estimate is not None
    most = report.estimate.most
    assert most.cost == pytest.approx((2 * most.training_tokens + most.prefill_tokens) / 1e6)
    over = checked(tmp_path, run=priced, budget={"tokens": 100, "cost": most.cost / 2})
    assert [problem.key for problem in over.problems] == ["budget.tokens", "budget.cost"]
    assert "at least" in over.problems[0].message
    assert checked(tmp_path, run=priced, budget={"cost": most.cost * 2}).ok


def test_a_budget_that_only_long_answers_would_break_warns(tmp_path: Path) -> None:
    write(tmp_path, TASKS)
    graded = run("grpo", params={"max_tokens": 100})
    graded["data"]["verifier"] = VERIFIER
    report = checked(tmp_path, run=graded, budget={"tokens": 40_000})
    assert report.ok
    assert [problem.key for problem in report.warnings] == ["budget.tokens"]
    assert "up to" in report.warnings[0].message


def test_test_rows_among_training_rows_are_a_problem_unless_waived(tmp_path: Path) -> None:
    write(tmp_path, [*CHAT, *({"prompt": task["prompt"], "completion": task["answer"]} for task in TASKS[:10])])
    write(tmp_path, TASKS, "exam.jsonl")
    exam: dict[str, Any] = {"name": "exam", "path": "exam.jsonl", "verifier": VERIFIER}
    report = checked(tmp_path, run=run(), benchmarks=[exam])
    (overlap,) = report.overlaps
    assert 5 <= overlap.leaked <= 10  # some rows lie on the side of validation
    (problem,) = report.problems
    assert problem.key == "benchmarks[0]"
    assert "run.data gives test rows away" in problem.message
    waived = checked(tmp_path, run=run(), benchmarks=[exam | {"overlap": {"waiver": "one is known"}}])
    assert waived.ok
    assert waived.estimate is not None
    assert waived.estimate.benchmarks.sample_tokens == 2 * 60 * 512
    gone = checked(tmp_path, run=run(), benchmarks=[exam | {"path": "gone.jsonl"}])
    assert "cannot be read" in gone.problems[0].message


def test_the_test_side_of_a_split_is_compared_too(tmp_path: Path) -> None:
    write(tmp_path, CHAT)
    divided = run()
    divided["data"]["split"] = {"validation": 0.2, "test": 0.2}
    report = checked(tmp_path, run=divided)
    assert [one.benchmark for one in report.overlaps] == ["test"]
    assert report.overlaps[0].test_rows > 3


def test_a_model_whose_tokenizer_is_elsewhere_is_guessed_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, CHAT)
    report = checked(tmp_path, run=run(model={"name": "nobody/has-it"}))
    assert report.ok
    (warning,) = report.warnings
    assert warning.key == "run.model"
    assert warning.message == "the tokenizer of nobody/has-it is not on this machine"
    assert report.data[0].renderer is None
    assert report.data[0].mean_tokens is not None


def test_an_unknown_renderer_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, CHAT)
    (problem,) = checked(tmp_path, run=run(model={"renderer": "qwen33"})).problems
    assert problem.key == "run.model.renderer"
    assert "there is no renderer 'qwen33'" in problem.message


def test_what_arms_are_chosen_by_has_to_be_measured(tmp_path: Path) -> None:
    chosen = {"metric": "nl"}
    report = checked(tmp_path, deep=False, run=run(validation={"metrics": ["nll"]}), selection=chosen)
    (problem,) = report.problems
    assert str(problem) == "selection.metric: is not measured, found 'nl'; did you mean 'nll'?"
    write(tmp_path, CHAT)
    (problem,) = checked(tmp_path, run=run(), selection={"metric": "mean_reward"}).problems  # the rows have no verifier
    assert str(problem).startswith("selection.metric: is not measured, found 'mean_reward'; `validation.metrics` says")


def test_weights_of_an_experiment_that_is_not_there_fail_the_arm(tmp_path: Path) -> None:
    write(tmp_path, CHAT)
    (problem,) = checked(tmp_path, run=run(model={"init_from_checkpoint": "earlier/best"})).problems
    assert problem.key == "run.model"
    assert "there is no experiment in" in problem.message


def test_what_is_probably_not_meant_is_a_warning(tmp_path: Path) -> None:
    twice = [run() | {"name": "a"}, run() | {"name": "b"}]
    report = checked(tmp_path, deep=False, runs=twice, hypothesis="it works")
    assert report.ok
    text = "\n".join(texts(report.warnings))
    assert "runs[1]: the arms a and b are the same run" in text
    assert "it will not be decided" in text
    assert "every arm is trained once" in text


def test_sides_of_a_hypothesis_that_no_arm_is_on_are_a_problem(tmp_path: Path) -> None:
    claim = {"statement": "x", "better": {"algorithm.kind": "dpo"}, "than": "baseline"}
    (problem,) = checked(tmp_path, deep=False, run=run(), repeats={"n": 2}, hypothesis=claim).problems
    assert problem.key == "hypothesis"
    assert "no arm is like that" in problem.message
    claim["better"] = {"algorithm.kind": "sft"}
    assert checked(tmp_path, deep=False, run=run(), repeats={"n": 2}, hypothesis=claim).problems == []


def test_two_hundred_arms_share_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, CHAT)
    axes = {"algorithm.params.lr": [1e-5 * (1 + i) for i in range(100)], "algorithm.params.epochs": [1, 2]}
    read = []
    from hone.experiments import check as module

    original = module.preview
    monkeypatch.setattr(module, "preview", lambda *args, **named: read.append(1) or original(*args, **named))
    report = checked(tmp_path, matrix={"axes": axes, "base_run": run()})
    assert len(report.arms) == 200
    assert read == [1]
    assert report.estimate is not None
    first, second = report.estimate.arms[:2]
    assert second.most.training_tokens == pytest.approx(2 * first.most.training_tokens, abs=2)


def test_stages_are_read_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, CHAT, "a.jsonl")
    write(tmp_path, CHAT[:40], "b.jsonl")
    stages = [{"name": name, "data": data(f"{name}.jsonl")} for name in ("a", "b")]
    report = checked(tmp_path, run={"algorithm": {"kind": "sft"}}, continual={"stages": stages})
    assert report.problems == []
    assert [one.key for one in report.data] == ["continual.stages[0].data", "continual.stages[1].data"]
    assert report.estimate is not None
    assert report.estimate.arms[0].rows == sum(one.rows for one in report.data)
