"""`hone eval`: how good a model is at a benchmark, and whether another is better.

`hone eval run` exits with 0 when every item was asked, whatever the score; failed answers are counted in the summary.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hone.errors import UserError

if TYPE_CHECKING:
    from hone.algorithms.evals.run import Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="run|compare|list")
    run = actions.add_parser("run", help="ask a model the questions of a benchmark and grade its answers")
    run.add_argument("benchmark", help="one of `hone eval list`")
    run.add_argument("--file", type=Path, help="its rows as JSON Lines (default: the Hugging Face hub)")
    run.add_argument("--model", help="the base model (default: the server's first)")
    run.add_argument("--checkpoint", help="sampler weights, tinker://..., in place of the base model")
    run.add_argument("--base-url", help="the server (default: TINKER_BASE_URL, else one of its own)")
    run.add_argument("--renderer", help="the chat format (default: what is recommended for the model)")
    run.add_argument("--out", type=Path, required=True, help="where results go; an interrupted run goes on there")
    run.add_argument("--limit", type=int, help="only the first so many items")
    run.add_argument("--answers", type=int, default=1, help="to each item (default: 1)")
    run.add_argument("--temperature", type=float, default=1.0, help="(default: 1)")
    run.add_argument("--max-tokens", type=int, help="of one answer (default: the benchmark's)")
    run.add_argument("--seed", type=int, default=0, help="(default: 0)")
    run.add_argument("--json", action="store_true", help="print JSON")
    compare = actions.add_parser("compare", help="test two models' results on the items that both answered")
    compare.add_argument("a", type=Path, help="results of `hone eval run`")
    compare.add_argument("b", type=Path, help="results of `hone eval run`")
    compare.add_argument("--json", action="store_true", help="print JSON")
    listing = actions.add_parser("list", help="the benchmarks that there are")
    listing.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    return {"run": _run, "compare": _compare, "list": _list}[args.action](args)


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
    # The tokenizers of served models are on this machine; asking a hub first would fail, slowly.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from rich.console import Console

    from hone.algorithms.evals.benchmark import load_benchmark
    from hone.algorithms.evals.benchmarks import BENCHMARKS
    from hone.algorithms.evals.run import EvalSettings, run_benchmark
    from hone.algorithms.evals.statistics import as_json
    from hone.algorithms.renderers import get_renderer, recommended_renderer
    from hone.client.connect import EMBEDDED, connect, served_models
    from hone.observe.progress import display, silent

    if args.benchmark not in BENCHMARKS:
        raise UserError(f"there is no benchmark {args.benchmark!r}; there are {', '.join(BENCHMARKS)}")
    benchmark = load_benchmark(args.benchmark, BENCHMARKS[args.benchmark], args.file, args.limit)
    target = args.base_url or os.environ.get("TINKER_BASE_URL") or EMBEDDED
    with connect(target) as service:
        if args.checkpoint:
            sampler = service.create_sampling_client(model_path=args.checkpoint).result()
        else:
            sampler = service.create_sampling_client(base_model=args.model or served_models(service)[0]).result()
        model, tokenizer = sampler.get_base_model(), sampler.get_tokenizer()
        name = args.renderer or recommended_renderer(model, tokenizer)
        renderer = get_renderer(name, tokenizer)
        settings = EvalSettings(
            args.answers, args.temperature, args.max_tokens, args.checkpoint or model, name, seed=args.seed
        )
        if args.json:
            summary = asyncio.run(run_benchmark(benchmark, sampler, renderer, args.out, settings, display=silent))
        else:
            with display(Console(stderr=True)) as shown:
                summary = asyncio.run(run_benchmark(benchmark, sampler, renderer, args.out, settings, display=shown))
    print(json.dumps(as_json(summary)) if args.json else _told(summary, args.out))
    return 0


def _told(summary: "Summary", out: Path) -> str:
    score = summary.score
    interval = f"{score.level:.0%} interval over {score.items} items"
    lines = [
        f"{summary.benchmark}: {score.mean:.1%}, between {score.low:.1%} and {score.high:.1%} ({interval})",
        ", ".join(f"pass@{k} {value:.1%}" for k, value in summary.pass_at.items()),
        f"{summary.answers} answers of {summary.mean_tokens:.0f} tokens on average",
    ]
    if summary.failures:
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.failures.items()))
        lines.append(f"counted as wrong because there was nothing to grade: {counted}")
    return "\n".join([*lines, f"every answer: {out / 'results.jsonl'}"])


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
        f"{args.b} is {better} {args.a}: {difference.mean:+.1%}, between {difference.low:+.1%} and "
        f"{difference.high:+.1%} on {found.shared_items} shared items (p = {found.p_value:.3g})"
    )
    if found.only_a or found.only_b:
        print(f"left out: {found.only_a} items that only the first answered, {found.only_b} that only the second did")
    return 0
