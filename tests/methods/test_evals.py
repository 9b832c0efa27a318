"""A benchmark of sums against the embedded model, before and after it was taught."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms.datums import supervised_datum
from hone.algorithms.evals.benchmark import Benchmark, Item, question
from hone.algorithms.evals.compare import compare_results
from hone.algorithms.evals.run import EvalSettings, Summary, read_answers, run_benchmark
from hone.algorithms.graders.grade import Grade, GradingError, Task
from hone.algorithms.graders.numeric import Numeric
from hone.algorithms.renderers import Renderer, get_renderer, recommended_renderer
from hone.cli.main import main
from hone.client.embedded import ServerInfo
from hone.errors import UserError

PAIRS = [(a, b) for a in (47, 52, 61, 73, 84, 95) for b in (17, 25)]


def subtractions() -> Benchmark:
    items = [
        Item(f"{a}-{b}", question(f"What is {a} - {b}?"), Task(f"{a} - {b}", str(a - b)), str(a)) for a, b in PAIRS
    ]
    return Benchmark("subtractions", items, Numeric(), 8)


@pytest.fixture(scope="module")
def renderer(model: str, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    return get_renderer(recommended_renderer(model, tokenizer), tokenizer)


@pytest.fixture(scope="module")
def base(service: tinker.ServiceClient, model: str) -> tinker.SamplingClient:
    return service.create_sampling_client(base_model=model).result()


@pytest.fixture(scope="module")
def taught(service: tinker.ServiceClient, model: str, renderer: Renderer) -> tinker.SamplingClient:
    examples = [
        supervised_datum(
            *renderer.build_supervised_example([*item.messages, {"role": "assistant", "content": item.task.gold}])
        )
        for item in subtractions().items
    ]
    training = service.create_lora_training_client(model, rank=8, seed=1).result()
    for _ in range(25):
        gradient = training.forward_backward(examples, "cross_entropy")
        training.optim_step(tinker.AdamParams(learning_rate=3e-3)).result()
        gradient.result()
    return training.save_weights_and_get_sampling_client().result()


def evaluate(
    sampler: tinker.SamplingClient, renderer: Renderer, out: Path, benchmark: Benchmark | None = None, **settings: Any
) -> Summary:
    return asyncio.run(
        run_benchmark(benchmark or subtractions(), sampler, renderer, out, EvalSettings(**{"answers": 4} | settings))
    )


def test_training_shows_and_the_comparison_is_sure_of_it(
    base: tinker.SamplingClient, taught: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    before = evaluate(base, renderer, tmp_path / "before")
    after = evaluate(taught, renderer, tmp_path / "after")
    assert 0.1 < before.score.mean < 0.8 < after.score.mean
    assert before.score.items == 6, "items with the same first number are one cluster"
    assert before.pass_at[1] == pytest.approx(before.score.mean)
    assert before.pass_at[1] < before.pass_at[4]
    four = before.pass_at_intervals[4]
    assert (four.mean, four.items) == (before.pass_at[4], 6)
    assert 0 <= four.low <= four.mean <= four.high <= 1
    comparison = compare_results(tmp_path / "before", tmp_path / "after")
    assert comparison.difference.low > 0
    assert comparison.p_value == 2 / 2**6, "better in all clusters, of which there are six"
    assert comparison.difference.items == 6
    assert comparison.shared_items == len(PAIRS)
    assert json.loads((tmp_path / "after" / "summary.json").read_text())["answers"] == 4 * len(PAIRS)


def test_what_was_interrupted_asks_only_what_is_missing_and_ends_alike(
    base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    whole = evaluate(base, renderer, tmp_path / "whole")
    cut = tmp_path / "cut"
    evaluate(base, renderer, cut)
    lines = (cut / "results.jsonl").read_text().splitlines(keepends=True)
    (cut / "results.jsonl").write_text("".join(lines[:20]) + lines[20][:10])
    kept = {(answer.item, answer.number) for answer in read_answers(cut)}
    assert len(kept) == 20
    assert evaluate(base, renderer, cut) == whole
    assert len(read_answers(cut)) == 4 * len(PAIRS)
    assert list(evaluate(base, renderer, cut, pass_at=[1, 3]).pass_at) == [1, 3]
    assert len(read_answers(cut)) == 4 * len(PAIRS), "the same answers, summarised in another way"


def test_answers_of_other_settings_are_not_mixed(
    base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    evaluate(base, renderer, tmp_path, answers=1)
    with pytest.raises(UserError, match=r"other settings \(differing: temperature\)"):
        evaluate(base, renderer, tmp_path, answers=1, temperature=0.5)
    with pytest.raises(UserError, match=r"other settings \(differing: model\)"):
        evaluate(base, renderer, tmp_path, answers=1, model="tinker://another")


def test_answers_to_other_questions_are_not_taken_for_these(
    base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    def sums(gold: str, asked: str = "3 + 4", more: tuple[str, ...] = ()) -> Benchmark:
        items = [Item("sum", question(f"What is {asked}?"), Task(asked, gold))]
        return Benchmark("sums", items + [Item(one, question(one), Task(one)) for one in more], Numeric(), 8)

    evaluate(base, renderer, tmp_path / "a", sums("7"), answers=1)
    assert evaluate(base, renderer, tmp_path / "a", sums("7", more=("5 + 1?",)), answers=1).items == 2, (
        "new ones may come"
    )
    for changed in (sums("8"), sums("7", "4 + 3")):
        with pytest.raises(UserError, match=r"1 of 1 differ, the first is 'sum'; give a new directory"):
            evaluate(base, renderer, tmp_path / "a", changed, answers=1)
    evaluate(base, renderer, tmp_path / "b", sums("8"), answers=1)
    with pytest.raises(UserError, match="asked different questions under the same names, the first is 'sum'"):
        compare_results(tmp_path / "a", tmp_path / "b")


@dataclass
class Away:
    """Is away at first."""

    sampler: tinker.SamplingClient
    left: int = 2

    async def sample(self, *args: Any) -> tinker.SampleResponse:
        if self.left:
            self.left -= 1
            raise tinker.TinkerError("nobody is here")
        return await self.sampler.sample(*args)


def test_what_could_not_be_asked_is_asked_again(
    base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    whole = evaluate(base, renderer, tmp_path / "whole", answers=1)
    assert evaluate(Away(base), renderer, tmp_path / "cut", answers=1).failures["error"] == 2  # type: ignore[arg-type]
    assert evaluate(base, renderer, tmp_path / "cut", answers=1) == whole
    assert len(read_answers(tmp_path / "cut")) == len(PAIRS)


def test_items_of_two_benchmarks_are_not_compared(
    base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    item = subtractions().items[0]
    for name in ("one", "other"):
        evaluate(base, renderer, tmp_path / name, Benchmark(name, [item], Numeric(), 8), answers=1)
    with pytest.raises(UserError, match=r"results of one, and .* of other"):
        compare_results(tmp_path / "one", tmp_path / "other")
    with pytest.raises(UserError, match="holds no results"):
        compare_results(tmp_path / "one", tmp_path / "none")
    bounds = json.loads((tmp_path / "one" / "summary.json").read_text())["score"]
    assert (bounds["low"], bounds["high"]) == (None, None), "one item bounds nothing, and JSON has no infinity"


def test_measures_beside_the_score_count_failures_too(
    base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    """Two instructions in each item: the one that fails has both missed."""

    async def half(task: Task, answer: str) -> Grade:
        if task.gold == "none":
            raise GradingError("no verdict")
        return Grade(0.0, {"followed": 1})

    items = [Item(gold, question("What is 3 + 4?"), Task("?", gold)) for gold in ("a", "b", "none")]
    each = {"instructions": lambda task, details: [1.0, 0.0] if details.get("followed") else [0.0, 0.0]}
    summary = evaluate(base, renderer, tmp_path, Benchmark("two", items, half, 8, each), answers=1)
    found = summary.measures["instructions"]
    assert (found.mean, found.items) == (pytest.approx(2 / 6), 3)
    assert json.loads((tmp_path / "summary.json").read_text())["measures"]["instructions"]["items"] == 3


class Picky:
    """Grades some, cannot grade others."""

    async def __call__(self, task: Task, answer: str) -> Grade:
        if task.gold.endswith("5"):
            raise GradingError("no verdict")
        return Grade(1.0)


def test_failures_are_counted_as_failures(base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path) -> None:
    items = [
        *subtractions().items[:3],
        Item("long", question("Count from one to one hundred, in words, twice over."), Task("?", "1")),
        Item("image", ({"role": "user", "content": [{"type": "image", "image": b"none"}]},), Task("?", "1")),
    ]
    summary = evaluate(base, renderer, tmp_path, Benchmark("odd", items, Picky(), 4), answers=1)
    assert summary.failures["ungraded"] == 1
    assert summary.failures["error"] == 1
    assert summary.answers == 5
    assert summary.score.mean == pytest.approx((5 - sum(summary.failures.values())) / 5)


def test_a_grader_that_breaks_costs_its_answers_alone(
    base: tinker.SamplingClient, renderer: Renderer, tmp_path: Path
) -> None:
    async def broken(task: Task, answer: str) -> Grade:
        raise ZeroDivisionError("a grader's own fault")

    items = [Item("sum", question("What is 3 + 4?"), Task("3 + 4", "7"))]
    summary = evaluate(base, renderer, tmp_path, Benchmark("odd", items, broken, 8), answers=1)
    assert summary.failures == {"ungraded": 1}
    assert "ZeroDivisionError" in (tmp_path / "results.jsonl").read_text()


def test_the_command_runs_compares_and_lists(
    server: ServerInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", server.api_key)
    file = tmp_path / "rows.jsonl"
    rows = [{"question": f"What is {a} + {b}?", "answer": f"#### {a + b}"} for a, b in ((3, 4), (5, 2), (6, 1))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a", "b"):
        out = str(tmp_path / name)
        argv = [
            "eval",
            "run",
            "gsm8k",
            "--file",
            str(file),
            "--base-url",
            server.url,
            "--out",
            out,
            "--max-tokens",
            "8",
        ]
        assert main([*argv, "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["items"] == 3
    asked = json.loads((tmp_path / "b" / "settings.json").read_text())
    assert asked["model"] == "hone/tiny"
    assert main([*argv, "--renderer", "role_colon"]) == 2
    assert "differing: renderer" in capsys.readouterr().err
    assert main(["eval", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "not shown to differ" in capsys.readouterr().out
    assert main(["eval", "list"]) == 0
    assert "openai/gsm8k" in capsys.readouterr().out
    assert main(["eval", "run", "nothing", "--out", str(tmp_path / "c")]) == 2
    assert "there is no benchmark 'nothing'" in capsys.readouterr().err
