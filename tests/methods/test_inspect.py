"""A task of inspect_ai against the embedded model: the same answers as our own evaluation, and the same count."""

import asyncio
import json
from pathlib import Path

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms.evals.benchmark import Benchmark, Item, question
from hone.algorithms.evals.run import EvalSettings, read_answers, run_benchmark
from hone.algorithms.graders.grade import Grade, Task, verdict
from hone.algorithms.renderers import get_renderer, recommended_renderer
from hone.cli.main import main
from hone.client.embedded import ServerInfo

pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")

PAIRS = [(a, b) for a in (47, 52, 61, 73, 84, 95) for b in (17, 25)]
TASKS = f'''
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool


def samples(count):
    pairs = {PAIRS}[:count]
    return [Sample(id=f"{{a}}-{{b}}", input=f"What is {{a}} - {{b}}?", target=str(a - b)) for a, b in pairs]


@task
def subtractions(count=12):
    return Task(dataset=samples(count), solver=generate(), scorer=match(location="exact"))


@tool
def add():
    async def execute(a: int, b: int):
        """Adds two numbers.

        Args:
            a: One.
            b: The other.
        """
        return str(a + b)

    return execute


@task
def sums():
    asked = [Sample(id=a, input=f"What is {{a}} + 26?", target=str(a + 26)) for a in (31, 53)]
    return Task(dataset=asked, solver=[use_tools(add()), generate()], scorer=match(location="exact"))
'''


@pytest.fixture
def tasks(tmp_path: Path, server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINKER_API_KEY", server.api_key)
    monkeypatch.setenv("TINKER_BASE_URL", server.url)
    file = tmp_path / "tasks.py"
    file.write_text(TASKS)
    return file


def test_inspect_and_our_own_count_agree(
    tasks: Path,
    service: tinker.ServiceClient,
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    greedy = ["--temperature", "0", "--max-tokens", "8", "--json"]
    assert main(["eval", "inspect", f"{tasks}@subtractions", "--out", str(tmp_path / "theirs"), *greedy]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])

    async def same_text(task: Task, answer: str) -> Grade:
        return verdict(answer.strip() == task.gold)

    items = [Item(f"{a}-{b}", question(f"What is {a} - {b}?"), Task("", str(a - b))) for a, b in PAIRS]
    renderer = get_renderer(recommended_renderer(model, tokenizer), tokenizer)
    sampler = service.create_sampling_client(base_model=model).result()
    benchmark = Benchmark("subtractions", items, same_text, 8)
    ours = asyncio.run(run_benchmark(benchmark, sampler, renderer, tmp_path / "ours", EvalSettings(temperature=0.0)))
    theirs = {one.item: (one.text, one.score, one.tokens) for one in read_answers(tmp_path / "theirs")}
    assert theirs == {one.item: (one.text, one.score, one.tokens) for one in read_answers(tmp_path / "ours")}
    assert 0.2 < ours.score.mean < 0.9
    assert summary["score"]["mean"] == pytest.approx(ours.score.mean)
    assert (summary["items"], summary["failures"]) == (12, {})
    (log,) = (tmp_path / "theirs" / "logs").glob("*.eval")

    from inspect_ai.log import read_eval_log

    results = read_eval_log(str(log)).results
    assert results is not None
    assert results.scores[0].metrics["accuracy"].value == pytest.approx(ours.score.mean)
    settings = json.loads((tmp_path / "theirs" / "settings.json").read_text())
    assert (settings["benchmark"], settings["temperature"], settings["max_tokens"]) == ("subtractions", 0.0, 8)

    # A new adapter adds nothing: its checkpoint answers as the base model does.
    training = service.create_lora_training_client(model, rank=4, seed=1).result()
    path = training.save_weights_for_sampler("new").result().path
    argv = ["eval", "inspect", f"{tasks}@subtractions", "--checkpoint", path, "--out", str(tmp_path / "new"), *greedy]
    assert main(argv) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "new" / "settings.json").read_text())["model"] == path
    assert main(["eval", "compare", str(tmp_path / "theirs"), str(tmp_path / "new"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["difference"]["mean"], found["shared_items"]) == (0, 12)


def test_tools_are_called_and_answered(tasks: Path, tmp_path: Path) -> None:
    assert main(["eval", "inspect", f"{tasks}@sums", "--temperature", "0", "--out", str(tmp_path / "out")]) == 0

    from inspect_ai.log import read_eval_log

    (file,) = (tmp_path / "out" / "logs").glob("*.eval")
    samples = read_eval_log(str(file)).samples or []
    assert {one.id for one in samples} == {31, 53}
    for sample in samples:
        _, called, result, answer = sample.messages
        (call,) = called.tool_calls  # type: ignore[union-attr]
        assert (call.function, call.arguments) == ("add", {"a": sample.id, "b": 26})
        assert result.text == sample.target
        assert answer.text.strip() == sample.target
    assert all(answer.score == 1 for answer in read_answers(tmp_path / "out"))


def test_epochs_differ_and_come_again_with_the_seed(tasks: Path, tmp_path: Path) -> None:
    def answers(out: str, seed: str) -> list[tuple[str, list[str]]]:
        asked = ["--answers", "4", "--seed", seed, "--max-tokens", "8", "-T", "count=6", "--json"]
        assert main(["eval", "inspect", f"{tasks}@subtractions", "--out", str(tmp_path / out), *asked]) == 0
        found = read_answers(tmp_path / out)
        # Epochs of one sample run at once: which of them has which of the answers is not fixed.
        return [
            (item, sorted(one.text for one in found if one.item == item)) for item in sorted({a.item for a in found})
        ]

    first = answers("first", "1")
    assert [len(texts) for _, texts in first] == [4] * 6
    assert any(len(set(texts)) > 1 for _, texts in first)
    assert answers("again", "1") == first
    assert answers("other", "2") != first


def test_a_task_that_is_none_is_named(tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task, message in (
        (str(tasks), f"name one of the tasks of {tasks}: {tasks}@subtractions, {tasks}@sums"),
        (f"{tasks}@nothing", "name one of the tasks"),
        (str(tmp_path / "none.py"), "there is no file"),
        ("package/nothing", "No inspect tasks were found"),
    ):
        assert main(["eval", "inspect", task, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "settings.json").write_text("{}")
    assert main(["eval", "inspect", f"{tasks}@sums", "--out", str(tmp_path / "out")]) == 2
    assert "holds results; give a new directory" in capsys.readouterr().err
