"""`hone eval`: how good a model is at a benchmark, and whether another is better.

`hone eval run` and `hone eval inspect` exit with 0 when every item was asked, whatever the score; failed answers are
counted in the summary.
"""

import argparse
import asyncio
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.errors import UserError

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.evals.run import Summary
    from hone.algorithms.evals.statistics import Estimate
    from hone.algorithms.renderers import Renderer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="run|inspect|compare|list")
    run = actions.add_parser("run", help="ask a model the questions of a benchmark and grade its answers")
    run.add_argument("benchmark", help="one of `hone eval list`")
    run.add_argument("--file", type=Path, help="its rows as JSON Lines (default: the Hugging Face hub)")
    run.add_argument(
        "--subset",
        action="append",
        default=[],
        help="only this task of BBH or subject of MMLU; may be given again (default: all)",
    )
    run.add_argument("--out", type=Path, required=True, help="where results go; an interrupted run goes on there")
    run.add_argument("--limit", type=int, help="only the first so many items")
    run.add_argument("--answers", type=int, default=1, help="to each item (default: 1)")
    run.add_argument(
        "--pass-at",
        type=int,
        action="append",
        default=[],
        metavar="K",
        help="pass@K; may be given again (default: 1, 2, 4 ... up to --answers)",
    )
    run.add_argument("--temperature", type=float, default=1.0, help="(default: 1)")
    run.add_argument("--max-tokens", type=int, help="of one answer (default: the benchmark's)")
    inspect = actions.add_parser("inspect", help="run a task of inspect_ai against a model")
    inspect.add_argument("task", help="file.py, file.py@name or package/name")
    inspect.add_argument("-T", "--task-arg", action="append", default=[], metavar="NAME=VALUE", help="for the task")
    inspect.add_argument(
        "--out",
        type=Path,
        required=True,
        help="where results and inspect_ai's log go; an interrupted run goes on there",
    )
    inspect.add_argument("--limit", type=int, help="only the first so many samples")
    inspect.add_argument("--answers", type=int, help="to each sample: epochs (default: the task's)")
    inspect.add_argument("--temperature", type=float, help="(default: the task's, else 1)")
    inspect.add_argument("--max-tokens", type=int, help="of one answer (default: the task's, else 2048)")
    for one in (run, inspect):
        one.add_argument("--model", help="the base model (default: the server's first)")
        one.add_argument("--checkpoint", help="sampler weights, tinker://..., in place of the base model")
        one.add_argument("--base-url", help="the server (default: TINKER_BASE_URL, else one of its own)")
        one.add_argument("--renderer", help="the chat format (default: what is recommended for the model)")
        one.add_argument("--seed", type=int, default=0, help="(default: 0)")
        one.add_argument("--json", action="store_true", help="print JSON")
    compare = actions.add_parser("compare", help="test two models' results on the items that both answered")
    compare.add_argument("a", type=Path, help="results of `hone eval run` or `hone eval inspect`")
    compare.add_argument("b", type=Path, help="results of the same benchmark or task")
    compare.add_argument("--json", action="store_true", help="print JSON")
    listing = actions.add_parser("list", help="the benchmarks that there are")
    listing.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    return {"run": _run, "inspect": _inspect, "compare": _compare, "list": _list}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from hone.algorithms.evals.benchmarks import BENCHMARKS

    hubs = {name: source.hub[0] for name, source in BENCHMARKS.items()}
    if args.json:
        print(json.dumps(hubs))
    else:
        for name, hub in hubs.items():
            print(f"{name:<10} {hub}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hone.algorithms.evals.benchmark import load_benchmark
    from hone.algorithms.evals.benchmarks import BENCHMARKS
    from hone.algorithms.evals.run import EvalSettings, run_benchmark
    from hone.observe.progress import display, silent

    if args.benchmark not in BENCHMARKS:
        raise UserError(f"there is no benchmark {args.benchmark!r}; there are {', '.join(BENCHMARKS)}")
    benchmark = load_benchmark(args.benchmark, BENCHMARKS[args.benchmark], args.file, args.limit, args.subset)
    with _answering(args) as model:
        settings = EvalSettings(
            args.answers,
            args.temperature,
            args.max_tokens,
            model.name,
            model.renderer_name,
            seed=args.seed,
            pass_at=args.pass_at,
        )
        with nullcontext(silent) if args.json else display(Console(stderr=True)) as shown:
            summary = asyncio.run(
                run_benchmark(benchmark, model.sampler, model.renderer, args.out, settings, display=shown)
            )
    return _tell(summary, args)


def _inspect(args: argparse.Namespace) -> int:
    from hone.algorithms.evals.inspect_run import InspectSettings, run_inspect_task

    task_args = dict(_task_arg(text) for text in args.task_arg)
    with _answering(args) as model:
        settings = InspectSettings(
            answers=args.answers,
            temperature=args.temperature,
            max_tokens=args.max_tokens,
            limit=args.limit,
            task_args=task_args,
            model=model.name,
            renderer=model.renderer_name,
            seed=args.seed,
        )
        summary = run_inspect_task(
            args.task, model.sampler, model.renderer, args.out, settings, display="none" if args.json else "plain"
        )
    return _tell(summary, args)


def _task_arg(text: str) -> tuple[str, Any]:
    """A value is YAML, as on inspect_ai's own command line: `3` is a number."""
    import yaml

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UserError(f"-T {text} is not NAME=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"-T {text} has a value that is not YAML: {error}") from None


@dataclass(frozen=True)
class _Model:
    """Who answers, and how it is written to."""

    name: str
    sampler: "tinker.SamplingClient"
    renderer: "Renderer"
    renderer_name: str


@contextmanager
def _answering(args: argparse.Namespace) -> "Iterator[_Model]":
    from hone.algorithms.renderers import get_renderer, recommended_renderer
    from hone.client.connect import EMBEDDED, connect, served_models

    with connect(args.base_url or os.environ.get("TINKER_BASE_URL") or EMBEDDED) as service:
        if args.checkpoint:
            sampler = service.create_sampling_client(model_path=args.checkpoint).result()
        else:
            sampler = service.create_sampling_client(base_model=args.model or served_models(service)[0]).result()
        with _without_hub():
            tokenizer = sampler.get_tokenizer()
        base = sampler.get_base_model()
        name = args.renderer or recommended_renderer(base, tokenizer)
        yield _Model(args.checkpoint or base, sampler, get_renderer(name, tokenizer), name)


@contextmanager
def _without_hub() -> Iterator[None]:
    """The tokenizers of served models are on this machine: asking a hub first would fail, slowly. `HF_HUB_OFFLINE` in
    the environment decides, if it is there; setting it would keep benchmarks from being read from the hub."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if "HF_HUB_OFFLINE" not in os.environ:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _tell(summary: "Summary", args: argparse.Namespace) -> int:
    from hone.algorithms.evals.statistics import as_json

    print(json.dumps(as_json(summary)) if args.json else _told(summary, args.out))
    return 0


def _told(summary: "Summary", out: Path) -> str:
    score = summary.score
    interval = f"{score.level:.0%} interval over {score.items} independent items"
    lines = [
        f"{summary.benchmark}: {score.mean:.1%}, {_between(score)} ({interval})",
        ", ".join(f"pass@{k} {one.mean:.1%} ({_between(one)})" for k, one in summary.pass_at_intervals.items()),
        *(f"{name} {one.mean:.3g} ({one.low:.3g} to {one.high:.3g})" for name, one in summary.measures.items()),
        f"{summary.answers} answers of {summary.mean_tokens:.0f} tokens on average",
    ]
    if summary.failures:
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.failures.items()))
        lines.append(f"counted as wrong because there was nothing to grade: {counted}")
    return "\n".join([*lines, f"every answer: {out / 'results.jsonl'}"])


def _between(estimate: "Estimate", sign: str = "") -> str:
    if not math.isfinite(estimate.low):
        return "without bounds: its items are of one cluster"
    return f"between {estimate.low:{sign}.1%} and {estimate.high:{sign}.1%}"


def _compare(args: argparse.Namespace) -> int:
    from hone.algorithms.evals.compare import compare_results
    from hone.algorithms.evals.statistics import as_json

    found = compare_results(args.a, args.b)
    if args.json:
        print(json.dumps(as_json(found)))
        return 0
    difference = found.difference
    better = (
        "better than" if difference.low > 0 else "worse than" if difference.high < 0 else "not shown to differ from"
    )
    print(
        f"{args.b} is {better} {args.a}: {difference.mean:+.1%}, {_between(difference, '+')} "
        f"on {found.shared_items} shared items (p = {found.p_value:.3g})"
    )
    if found.only_a or found.only_b:
        print(f"left out: {found.only_a} items that only the first answered, {found.only_b} that only the second did")
    return 0
