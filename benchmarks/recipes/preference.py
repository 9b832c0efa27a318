"""Learning from comparisons and from other models' judgement."""

import math
from typing import Any

from benchmarks.recipes.run import Recipes, column, expect, falls, on_policy


def dpo(recipes: Recipes) -> dict[str, Any]:
    """The first loss is ln 2, because the reference is the policy."""
    log = recipes.log("dpo")
    settings = ["batch_size=16", "max_steps=8", "learning_rate=1e-3", "lr_schedule=constant", f"log_path={log}"]
    recipes.run("recipes.preference.dpo.train", *settings)
    losses = column(log, "dpo_loss", 8)
    expect(abs(losses[0] - math.log(2)) < 2e-3, f"the first loss is {losses[0]}, not ln 2")
    return falls("loss", losses, to=0.9) | {"accuracy": column(log, "accuracy", 8)[-1]}


def shorter(recipes: Recipes) -> dict[str, Any]:
    """The shorter of two answers wins, so answers get shorter."""
    log = recipes.log("shorter")
    settings = ["batch_size=4", "group_size=8", "max_tokens=32", "max_steps=8", "learning_rate=2e-3", "eval_every=0"]
    recipes.run("recipes.preference.shorter.train", *settings, f"log_path={log}")
    return on_policy(log, 8) | falls("tokens", column(log, "env/all/ac_tokens_per_turn", 8), to=0.9)


def rlhf(recipes: Recipes) -> dict[str, Any]:
    """Supervised training, a reward model, and reinforcement learning of the first against the second."""
    settings = ["batch_size=8", "max_steps=4", "max_length=512", "lora_rank=8", "rl_group_size=4", "rl_max_tokens=12"]
    rates = ["sft_learning_rate=1e-3", "rm_learning_rate=2e-3", "eval_every=2", "save_every=2"]
    recipes.run("recipes.preference.rlhf.rlhf_pipeline", *settings, *rates)
    log = recipes.out / "runs" / "rlhf-qwen3_5_9b_base"
    learned = falls("nll", column(log / "sft", "train_mean_nll", 4), to=0.9)
    judge = falls("reward model nll", column(log / "rm", "train_mean_nll", 4), to=0.9)
    return learned | judge | on_policy(log / "rl", 4)


def rubric(recipes: Recipes) -> dict[str, Any]:
    """A second model grades; the recipe's own generator writes the data."""
    log = recipes.log("rubric")
    recipes.run("recipes.rubric.generate_data")
    recipes.run(
        "recipes.rubric.train", "groups_per_batch=2", "max_tokens=12", "max_steps=2", "eval_every=0", f"log_path={log}"
    )
    return on_policy(log, 2)


def rubric_prometheus(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("prometheus")
    settings = ["groups_per_batch=2", "max_tokens=12", "max_steps=2", "eval_every=0", f"log_path={log}"]
    recipes.run("recipes.rubric.prometheus_experimental", *settings)
    return on_policy(log, 2)


def rubric_debug(recipes: Recipes) -> dict[str, Any]:
    printed = recipes.run("recipes.rubric.debug_env")
    return {"lines": len(printed.splitlines())}


RECIPES = {
    "preference.dpo": dpo,
    "preference.shorter": shorter,
    "preference.rlhf": rlhf,
    "rubric": rubric,
    "rubric.prometheus_experimental": rubric_prometheus,
    "rubric.debug_env": rubric_debug,
}
