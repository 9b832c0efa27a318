"""`python -m recipes`: run a recipe, or run it with several seeds and write down what came of it.

python -m recipes list
python -m recipes run maths_rl model=Qwen/Qwen3-8B base_url=http://127.0.0.1:8000 seed=1
python -m recipes measure maths_rl --seeds 3
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from hone.client.connect import EMBEDDED, connect
from hone.errors import UserError
from hone.observe.progress import display
from recipes.recipe import Outcome, Recipe, Setting, load_recipe, names
from recipes.results import write_results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes", description="Run recipes and measure them.")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="say what there is")
    for name, told in (("run", "once"), ("measure", "with several seeds, and write the results into its folder")):
        one = actions.add_parser(name, help=f"run a recipe {told}")
        one.add_argument("recipe")
        one.add_argument("settings", nargs="*", metavar="key=value")
        one.add_argument(
            "--out", type=Path, help="where the run's files go (default: a new folder for temporary files)"
        )
        if name == "measure":
            one.add_argument("--seeds", type=int, default=3)
            one.add_argument("--first-seed", type=int, default=0, help="tune on others than those you report")
    args = parser.parse_args()
    if not any(setting.startswith("base_url=") for setting in vars(args).get("settings", [])):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the tokenizers of a server of our own are on this machine
    try:
        return {"list": _list, "run": _run, "measure": _measure}[args.action](args)
    except UserError as error:
        print(f"recipes: {error}", file=sys.stderr)
        return 2


def _list(args: argparse.Namespace) -> int:
    for name in names():
        print(f"{name:<22} {load_recipe(name).summary}")
    return 0


def _run(args: argparse.Namespace) -> int:
    out = args.out or Path(tempfile.mkdtemp(prefix=f"{args.recipe}-"))
    outcome, seconds = once(load_recipe(args.recipe, args.settings), out)
    print(json.dumps({"recipe": args.recipe, "seconds": round(seconds, 1), "out": str(out), **asdict(outcome)}))
    return 0


def _measure(args: argparse.Namespace) -> int:
    out = args.out or Path(tempfile.mkdtemp(prefix=f"{args.recipe}-"))
    runs: dict[int, tuple[Outcome, float]] = {}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        recipe = load_recipe(args.recipe, [*args.settings, f"seed={seed}"])
        runs[seed] = once(recipe, out / f"seed{seed}")
        for measure in runs[seed][0].measures:
            print(f"seed {seed}: {measure.name} {measure.before:.3f} -> {measure.after:.3f}", file=sys.stderr)
    write_results(load_recipe(args.recipe, args.settings), runs)
    return 0


def once(recipe: Recipe, out: Path) -> tuple[Outcome, float]:
    """Run it, on a server of its own unless its configuration names one."""
    from hone.algorithms.renderers import get_renderer, recommended_renderer
    from hone.algorithms.run_directory import MetricSink
    from hone.algorithms.sinks import open_sinks

    def sinks(run_dir: Path) -> list[MetricSink]:
        return open_sinks(recipe.config.sinks, run_dir, recipe.name, recipe.config.model_dump(mode="json"))

    out.mkdir(parents=True, exist_ok=True)
    print(f"writing to {out}", file=sys.stderr)
    own = None if recipe.config.base_url else out / "server"  # kept: an interrupted run goes on with its checkpoints
    with (
        connect(recipe.config.base_url or EMBEDDED, data_dir=own) as service,
        display(Console(stderr=True)) as shown,
    ):
        sampler = service.create_sampling_client(base_model=recipe.config.model).result()
        tokenizer = sampler.get_tokenizer()
        renderer = get_renderer(recommended_renderer(recipe.config.model, tokenizer), tokenizer)
        began = time.perf_counter()
        outcome = asyncio.run(recipe.run(recipe.config, Setting(service, tokenizer, renderer, out, shown, sinks)))
        return outcome, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
