"""Learning from examples."""

import json
from typing import Any

from benchmarks.recipes.run import Recipes, checkpoints, column, expect, falls

STEPS = 12


def sl_loop(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("sl_loop")
    recipes.run(
        "recipes.sl_loop",
        "batch_size=16",
        f"max_steps={STEPS}",
        "learning_rate=3e-3",
        "save_every=10",
        f"log_path={log}",
    )
    expect([c["name"] for c in checkpoints(log)] == ["000010", "final"], f"checkpoints are {checkpoints(log)}")
    return falls("nll", column(log, "train_mean_nll", STEPS), to=0.5)


def sl_basic(recipes: Recipes) -> dict[str, Any]:
    """The evaluator's loss comes from the sampler, the training loss from the trainer: both start at the same place."""
    log = recipes.log("sl_basic")
    recipes.run("recipes.sl_basic", "num_epochs=4", "eval_every=4", "learning_rate=3e-3", f"log_path={log}")
    train, test = column(log, "train_mean_nll", 8), column(log, "test/nll")
    expect(abs(test[0] - train[0]) < 0.25 * test[0], f"test/nll starts at {test[0]}, train_mean_nll at {train[0]}")
    return falls("nll", train, to=0.5) | falls("test nll", test, to=0.5)


def chat_sl_tulu(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("chat_sl")
    settings = [
        "dataset=tulu3",
        "batch_size=16",
        "max_steps=4",
        "learning_rate=3e-3",
        "eval_every=0",
        f"log_path={log}",
    ]
    recipes.run("recipes.chat_sl.train", *settings)
    return falls("nll", column(log, "train_mean_nll", 4), to=0.9)


def chat_sl_sweep(recipes: Recipes) -> dict[str, Any]:
    """Two learning rates after each other; the sweep names the better one."""
    log = recipes.log("sweep")
    base = ["base.dataset=no_robots", "base.batch_size=16", "base.eval_every=0", "training_budget_examples=64"]
    recipes.run(
        "recipes.chat_sl.sweep", "recipe=sft", *base, "learning_rates=[1e-5,3e-3]", "lora_ranks=[8]", f"sweep_dir={log}"
    )
    best = json.loads((log / "recommendations.json").read_text())["recommendations"]["rank_8"]
    expect(best["learning_rate"] == 3e-3, f"the sweep recommends {best}, but 1e-5 hardly moves the model")
    return {"nll of the best": best["train_mean_nll"]}


def prompt_distillation(recipes: Recipes) -> dict[str, Any]:
    """The teacher's answers are sampled, and a student is trained on answers of the same form."""
    sampled, log = recipes.out / "languages.jsonl", recipes.log("prompt_distillation")
    recipes.run("recipes.prompt_distillation.create_data", f"output_file={sampled}")
    expect(sampled.exists(), "create_data wrote no file")  # it may be empty: a tiny teacher names no language
    settings = ["file_path=languages.jsonl", "batch_size=16", "max_steps=4", "learning_rate=3e-3", f"log_path={log}"]
    recipes.run("recipes.prompt_distillation.train", *settings)
    return falls("nll", column(log, "train_mean_nll", 4), to=0.9)


def off_policy_reasoning(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("off_policy_reasoning")
    settings = [
        "batch_size=16",
        f"max_steps={STEPS}",
        "learning_rate=3e-3",
        "lora_rank=16",
        "buffer_size=64",
        "max_prompts=192",
        f"log_path={log}",
    ]
    recipes.run("recipes.distillation.off_policy_reasoning", *settings)
    return falls("nll", column(log, "train_mean_nll", STEPS), to=0.5)


RECIPES = {
    "sl_loop": sl_loop,
    "sl_basic": sl_basic,
    "chat_sl": chat_sl_tulu,
    "chat_sl.sweep": chat_sl_sweep,
    "prompt_distillation": prompt_distillation,
    "off_policy_reasoning": off_policy_reasoning,
}
