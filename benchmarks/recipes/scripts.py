"""The cookbook's small programs."""

import json
import re
from typing import Any

from benchmarks.recipes.run import Recipes, checkpoints, expect


def copy_checkpoint(recipes: Recipes) -> dict[str, Any]:
    """The copy is in a run of its own."""
    log = recipes.log("copied")
    recipes.run("recipes.sl_loop", "batch_size=16", "max_steps=2", "learning_rate=3e-3", f"log_path={log}")
    source = checkpoints(log)[-1]["state_path"]
    printed = recipes.run("scripts.copy_checkpoint", "--source-path", source)
    copied = re.search(r"sampler_path:\s+(tinker://\S+)", printed)
    if copied is None:
        raise LookupError(f"no sampler_path in {printed[-300:]!r}")
    expect(copied[1].split("/")[2] != source.split("/")[2], f"{copied[1]} is in the run of {source}")
    return {"copied to": copied[1]}


def save_audit_log(recipes: Recipes) -> dict[str, Any]:
    folder = recipes.log("audit")
    recipes.run("scripts.save_audit_log", "--once", "--backfill-days", "1", "--output-dir", str(folder))
    days = {path.name: len(path.read_text().splitlines()) for path in sorted(folder.iterdir())}
    expect(len(days) == 2, f"saved were {sorted(days)}, not two days")
    return {"entries": sum(days.values())}


def custom_evaluators(recipes: Recipes) -> dict[str, Any]:
    printed = recipes.run("eval.custom_evaluators")
    score = json.loads(printed.strip().splitlines()[-1].replace("'", '"'))
    return {"accuracy": score["accuracy"]}


def tool_calling(recipes: Recipes) -> dict[str, Any]:
    """Whether the model calls the tool is the model's affair; the script must finish and say."""
    printed = recipes.run("scripts.test_tool_calling_e2e", "--model", "Qwen/Qwen3-8B")
    passed = re.search(r"Passed: (\d)/1", printed)
    expect(passed is not None and "Error -" not in printed, f"no result in {printed[-300:]!r}")
    return {"called": passed is not None and passed[1] == "1"}


RECIPES = {
    "scripts.copy_checkpoint": copy_checkpoint,
    "scripts.save_audit_log": save_audit_log,
    "eval.custom_evaluators": custom_evaluators,
    "scripts.test_tool_calling_e2e": tool_calling,
}
