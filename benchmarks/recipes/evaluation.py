"""Asking a model without training it, or with little: scores, decisions, conversation."""

import json
import re
from typing import Any

from benchmarks.recipes.run import Recipes, checkpoints, column, expect, falls


def benchmarks(recipes: Recipes) -> dict[str, Any]:
    """The benchmarks that need no sandbox and no judge."""
    folder = recipes.log("benchmarks")
    printed = recipes.run("score.py", str(folder))
    scores = json.loads(printed.splitlines()[-1])
    expect(all(score["errors"] == 0 and score["examples"] == 8 for score in scores.values()), f"scores are {scores}")
    return {name: score["score"] for name, score in scores.items()}


def decisions(recipes: Recipes) -> dict[str, Any]:
    """Probabilities of given tokens after a prompt, and a loss on them that the client writes itself."""
    log = recipes.log("decisions")
    data = ["data_path=forecasts.csv", "max_validation_questions=16", "batch_size=8"]
    recipes.run(
        "recipes.decisions.forecasting", *data, "epochs=2", "learning_rate=5e-4", "lora_rank=8", f"log_path={log}"
    )
    brier = column(log, "test/brier_reward", 2)
    expect(brier[1] > brier[0], f"the Brier reward went from {brier[0]} to {brier[1]}: training did not help")
    trained = checkpoints(log)[-1]["sampler_path"]
    settings = ["model_name=Qwen/Qwen3.8-27B", f"model_path={trained}"]
    printed = recipes.run("recipes.decisions.demo", *settings, stdin="How do I pay?\n")
    probabilities = json.loads("{" + printed.split("{", 1)[1].split("}", 1)[0] + "}")
    expect(abs(sum(probabilities.values()) - 1) < 1e-3, f"the probabilities of the teams are {probabilities}")
    return falls("loss", column(log, "train/loss", 10), to=0.9) | {"brier first": brier[0], "brier last": brier[1]}


def true_thinking_score(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("true_thinking_score")
    recipes.run("recipes.true_thinking_score.run_small_experiment")
    recipes.run(
        "recipes.true_thinking_score.analyze", "dataset=gsm8k", "n_problems=4", "max_tokens=64", f"log_path={log}"
    )
    small = json.loads((recipes.out / "runs/tts-experiment/tts_results.json").read_text())
    summary = json.loads((log / "tts_summary.json").read_text())
    expect(summary["n_problems_failed"] == 0, f"{summary['n_problems_failed']} of 4 problems failed")
    expect(not [p for p in small["problems"] if "error" in p], f"a problem failed: {small['problems']}")
    return {"steps": small["aggregate"]["n_steps"] + summary["n_steps_total"]}


def chat(recipes: Recipes) -> dict[str, Any]:
    settings = ["base_model=Qwen/Qwen3-4B-Instruct-2507", "max_tokens=16", "temperature=0"]
    printed = recipes.run("chat_app.tinker_chat_cli", *settings, stdin="What is 3 + 4?\nquit\n")
    said = re.search(r"Assistant: (.*)", printed)
    expect(said is not None and "7" in said[1], f"the model can add, but said {printed[-300:]!r}")
    return {"said": said[1] if said else ""}


RECIPES = {
    "eval.benchmarks": benchmarks,
    "decisions": decisions,
    "true_thinking_score": true_thinking_score,
    "chat_app": chat,
}
