"""Learning from rewards."""

from pathlib import Path
from typing import Any

from benchmarks.recipes.run import Recipes, column, expect, on_policy

BASE, CHAT = "Qwen/Qwen3.5-9B-Base", "Qwen/Qwen3-4B-Instruct-2507"
STEPS = 4


def rl_loop(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("rl_loop")
    settings = [f"model_name={CHAT}", "batch_size=8", "group_size=8", "max_tokens=16", "max_steps=6"]
    recipes.run("recipes.rl_loop", *settings, "learning_rate=2e-3", f"log_path={log}")
    rewards = column(log, "reward/total", 6)
    expect(rewards[-1] > rewards[0] + 0.1, f"rewards did not rise: {rewards}")
    return {"reward first": rewards[0], "reward last": rewards[-1]}


def rl_basic(recipes: Recipes) -> dict[str, Any]:
    log, builder = recipes.log("rl_basic"), "dataset_builder"
    small = [f"{builder}=tinker_cookbook.recipes.math_rl.math_env:Gsm8kDatasetBuilder", f"{builder}.batch_size=4"]
    same = [
        f"{builder}.group_size=4",
        f"{builder}.renderer_name=role_colon",
        f"{builder}.model_name_for_tokenizer={BASE}",
    ]
    recipes.run("recipes.rl_basic", *small, *same, "max_tokens=16", "max_steps=2", f"log_path={log}")
    return on_policy(log, 2)


def math_rl(recipes: Recipes, name: str, *settings: str) -> Path:
    log = recipes.log(f"math_rl_{name}")
    small = [f"model_name={CHAT}", "groups_per_batch=4", "group_size=4", "max_tokens=16", f"max_steps={STEPS}"]
    recipes.run("recipes.math_rl.train", *small, "eval_every=0", *settings, f"log_path={log}")
    return log


def mixed(log: Path) -> dict[str, float]:
    """Some groups must hold answers of different worth; where all are alike there is nothing to learn."""
    share = max(column(log, "env/all/by_group/frac_mixed", STEPS))
    expect(share > 0, "all answers of every group were worth the same: no gradient")
    return {"mixed groups": share}


def math_rl_arithmetic(recipes: Recipes) -> dict[str, Any]:
    log = math_rl(recipes, "arithmetic", "compute_post_kl=true")
    return on_policy(log, STEPS)


def math_rl_hendrycks(recipes: Recipes) -> dict[str, Any]:
    log = math_rl(recipes, "math", "env=math", "eval_every=2")
    return on_policy(log, STEPS) | {"held out": column(log, "test/env/all/reward/total")[-1]}


def math_rl_polaris(recipes: Recipes) -> dict[str, Any]:
    log = math_rl(recipes, "polaris", "env=polaris", "loss_fn=ppo")
    return on_policy(log, STEPS) | mixed(log)


def math_rl_deepmath(recipes: Recipes) -> dict[str, Any]:
    return on_policy(math_rl(recipes, "deepmath", "env=deepmath", "loss_fn=cispo"), STEPS)


def math_rl_streaming(recipes: Recipes) -> dict[str, Any]:
    """Training starts on the first groups while others are still sampled."""
    streaming = ["stream_minibatch_config.groups_per_batch=4", "stream_minibatch_config.num_minibatches=2"]
    log = math_rl(recipes, "streaming", "env=polaris", *streaming)
    return on_policy(log, STEPS) | mixed(log)


def math_rl_async(recipes: Recipes) -> dict[str, Any]:
    """Sampling runs ahead of training by up to two steps, so some groups come from older weights."""
    log = math_rl(recipes, "async", "env=polaris", "max_steps_off_policy=2")
    behind = [step - used for step, used in enumerate(column(log, "sampling_client/step_min", STEPS))]
    expect(max(behind) <= 2, f"samples are {behind} steps behind, more than the two allowed")
    return {"steps behind": max(behind)} | mixed(log)


def rl_numerics_check(recipes: Recipes) -> dict[str, Any]:
    """Many turns with a tool over a document."""
    log = recipes.log("rl_numerics_check")
    task = ["task.num_pages_min=2", "task.num_pages_max=3", "task.page_chars=200", "task.words=time,their"]
    settings = ["groups_per_batch=2", "group_size=4", "max_tokens=32", "max_steps=2", "lora_rank=8"]
    recipes.run("recipes.rl_numerics_check.train", *task, *settings, f"log_path={log}")
    return on_policy(log, 2)


def forecasting(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("forecasting")
    settings = [
        "groups_per_batch=4",
        "group_size=4",
        "validation_group_size=2",
        "max_tokens=24",
        "max_steps=2",
        "eval_every=2",
        "train_epochs=1",
    ]
    data = ["data_path=forecasts.csv", "max_validation_questions=4"]
    recipes.run("recipes.forecasting.train", *data, *settings, f"log_path={log}")
    return on_policy(log, 2) | {"brier reward": column(log, "test/env/all/brier_reward")[-1]}


def harbor_rl(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("harbor_rl")
    recipes.run("harbor.py", str(log))
    return on_policy(log, 1)


RECIPES = {
    "rl_loop": rl_loop,
    "rl_basic": rl_basic,
    "math_rl, arithmetic": math_rl_arithmetic,
    "math_rl, math": math_rl_hendrycks,
    "math_rl, polaris": math_rl_polaris,
    "math_rl, deepmath": math_rl_deepmath,
    "math_rl, streaming": math_rl_streaming,
    "math_rl, async": math_rl_async,
    "rl_numerics_check": rl_numerics_check,
    "forecasting": forecasting,
    "harbor_rl": harbor_rl,
}
