"""Every recipe of tinker-cookbook 0.6.1 that needs no outside service, unmodified, against `hone serve`.

    python -m benchmarks.recipes [--only NAME ...] [--seconds 300] [--keep DIR]

Makes its own models and data in a temporary folder, starts a server, and runs each recipe as a process of its own with
small settings. One JSON line per recipe says whether it passed and its key numbers, or why it is not run. Exits 1 if
one fails. Takes about ten minutes on two cores. The cookbook is not one of our dependencies; beside the `dev` extra:

    pip install --no-deps tinker-cookbook==0.6.1    # it asks for a renderer package that is not published
    pip install aiohttp anyio blobfile "chz>=0.4" cloudpickle datasets huggingface-hub pandas pillow pyrage termcolor \\
                tiktoken tml-renderers tqdm sympy pylatexenc math-verify textarena jiwer
    pip install modal                               # for the two recipes with Harbor; nothing is asked of Modal
"""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.recipes import (
    distillation,
    evaluation,
    games,
    preference,
    refusals,
    reinforcement,
    scripts,
    supervised,
)
from benchmarks.recipes.data import write_data
from benchmarks.recipes.models import write_models
from benchmarks.recipes.run import RecipeFailed, Recipes
from hone.client.embedded import embedded_server

PARTS = (supervised, reinforcement, preference, games, distillation, evaluation, scripts, refusals)
RECIPES: dict[str, Callable[[Recipes], dict[str, Any]]] = {n: f for part in PARTS for n, f in part.RECIPES.items()}

NEEDS = {
    "harbor_rl": "modal",
    "on_policy_distillation_harbor_multi_turn": "modal",
}
"""Packages that are imported and not used; not everybody will want to install them."""

NOT_RUN = {
    "search_tool": "needs a Chroma server and Gemini embeddings",
    "code_rl": "needs a SandboxFusion server",
    "verifiers_rl.train": "fails by itself in 0.6.1: its rollout function does not know `termination`",
    "verifiers_rl.evaluate": "fails by itself in 0.6.1: prints its scores with an empty list of errors",
    "audio.asr, audio.medical_asr": "need decoders for data sets of sound; they would send what audio.emotion sends",
    "vlm_classifier.eval, vlm_classifier.sweep": "would send what vlm_classifier.train sends",
    "chat_sl.sweep.launch_all": "is chat_sl.sweep for every model of the hosted service",
    "eval.benchmarks, others": "need a sandbox, a judge or a package that is not published",
    "eval.run_inspect_evals": "needs tasks that fetch their own data",
    "tutorials": "are not in the package",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=300.0, help="limit of one process")
    parser.add_argument("--keep", type=Path, help="a new folder for models, data and logs, instead of a temporary one")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hone-recipes-")))
        root, out = (folder / "root").resolve(), (folder / "out").resolve()
        root.mkdir(parents=True)
        out.mkdir()
        models = write_models(root)
        write_data(root)
        os.environ["HF_HOME"] = str(root / "hub")  # the server offers its tokenizers there; not in the user's own cache
        server = stack.enter_context(embedded_server(models=models, log=out / "server.log"))
        recipes = Recipes(root, out, server.url, server.api_key, args.seconds)
        failures = [name for name in args.only if not run(name, recipes)]
    print(json.dumps({"aborted by their HTTP library after their end": recipes.aborts}))
    for name, reason in NOT_RUN.items():
        print(json.dumps({"name": name, "not run": reason}))
    sys.exit(bool(failures))


def run(name: str, recipes: Recipes) -> bool:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        print(json.dumps({"name": name, "not run": f"the package {NEEDS[name]} is not installed"}))
        return True
    start = time.perf_counter()
    try:
        outcome: dict[str, Any] = {"ok": True, **RECIPES[name](recipes)}
    except (RecipeFailed, OSError, LookupError, ValueError) as error:
        outcome = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in outcome.items()}
    print(json.dumps({"name": name, "seconds": round(time.perf_counter() - start, 1), **rounded}), flush=True)
    return bool(outcome["ok"])


if __name__ == "__main__":
    main()
