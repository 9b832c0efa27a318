"""Learning from another model's distribution, or from one's own with the answer in view."""

import json
import math
from typing import Any

from benchmarks.recipes.run import Recipes, checkpoints, column, expect, falls

CHAT = "Qwen/Qwen3-4B-Instruct-2507"
SMALL = ("group_size=2", "max_tokens=12", "lora_rank=8", "eval_every=0", "save_every=0")
SDFT = ("groups_per_batch=4", "max_tokens=16", "max_steps=3", "lora_rank=8", "eval_every=0", "topk=8")


def on_policy_distillation(recipes: Recipes) -> dict[str, Any]:
    """Teacher and student are the same weights under two names, so the first divergence is rounding."""
    log = recipes.log("on_policy_distillation")
    settings = ["groups_per_batch=4", *SMALL, "max_steps=1", f"log_path={log}"]
    recipes.run("recipes.distillation.on_policy_distillation", *settings)
    kl = column(log, "teacher_kl", 1)[0]
    expect(abs(kl) < 2e-3, f"the teacher differs from the same student by {kl}")
    return {"teacher kl": kl}


def on_policy_multi_teacher(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("on_policy_multi_teacher")
    settings = ["deepmath_groups_per_batch=2", "tulu3_groups_per_batch=2", *SMALL, "max_steps=2", f"log_path={log}"]
    recipes.run("recipes.distillation.on_policy_multi_teacher", *settings)
    kl = column(log, "teacher_kl", 2)[0]
    expect(abs(kl) < 2e-3, f"the teachers differ from the same student by {kl}")
    return {"teacher kl": kl}


def harbor_multi_turn(recipes: Recipes) -> dict[str, Any]:
    """Turns with a tool, whose answers are not trained on."""
    log = recipes.log("harbor_multi_turn")
    models = [f"model_name={CHAT}", f"teacher_model={CHAT}", "sandbox_factory=empty_sandbox:make", "max_turns=2"]
    settings = ["groups_per_batch=1", *SMALL, "max_steps=1", f"log_path={log}"]
    recipes.run("recipes.distillation.on_policy_distillation_harbor_multi_turn", *models, *settings)
    kl = column(log, "teacher_kl", 1)[0]
    expect(abs(kl) < 2e-3, f"the teacher differs from the same student by {kl}")
    return {"teacher kl": kl}


def top_k(recipes: Recipes) -> dict[str, Any]:
    """The eight likeliest tokens of a trained teacher are the targets of a fresh student."""
    teacher, log = recipes.log("top_k_teacher"), recipes.log("top_k")
    recipes.run("recipes.sl_loop", "batch_size=16", "max_steps=12", "learning_rate=3e-3", f"log_path={teacher}")
    recipes.run("top_k_distillation.py", checkpoints(teacher)[-1]["sampler_path"], str(log))
    return falls("loss", column(log, "train/loss:sum", 8), to=0.5)


def sdft(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("sdft")
    recipes.run("recipes.sdft.train", *SDFT, "dataset=toolalpaca", f"log_path={log}")
    entropy = column(log, "sdft/mean_teacher_entropy", 3)
    expect(0 < min(entropy) < max(entropy) <= math.log(8), f"eight tokens cannot have entropies {entropy}")
    return {"teacher entropy": entropy[-1]}


def sdft_reverse(recipes: Recipes) -> dict[str, Any]:
    """The loss is the client's own: the server is told its gradient."""
    log = recipes.log("sdft_reverse")
    settings = ["dataset=sciknoweval", "reverse=true", "teacher_sync_every=1"]
    recipes.run("recipes.sdft.train", *SDFT, *settings, f"log_path={log}")
    kl = column(log, "sdft/reverse_kl_mean", 3)
    expect(min(kl) >= 0, f"divergences {kl} cannot be negative")
    return {"reverse kl": kl[-1]}


def sdft_continual(recipes: Recipes) -> dict[str, Any]:
    """Two tasks after each other, the second from the checkpoint of the first, by three methods."""
    log = recipes.log("sdft_continual")
    settings = ["data_dir=arrow", "lora_rank=8", "batch_size=8", "max_tokens=256", "learning_rates=1e-3", "topk=8"]
    recipes.run("recipes.sdft.run_continual_learning", *settings, f"log_root={log}")
    results = [json.loads(path.read_text()) for path in log.glob("stage*/run_result.json")]
    expect(len(results) == 6, f"{len(results)} results, not two stages of three methods")
    expect(all(result["checkpoint_path"] for result in results), f"a run saved nothing: {results}")
    return {"runs": len(results)}


def sdft_benchmark(recipes: Recipes) -> dict[str, Any]:
    """Scores before, after supervised training, and after self-distillation."""
    log = recipes.log("sdft_benchmark")
    settings = [
        "data_dir=arrow",
        "lora_rank=8",
        "groups_per_batch=8",
        "max_tokens=16",
        "max_steps=1",
        "sft_batch_size=8",
        "sft_max_steps=1",
    ]
    recipes.run("recipes.sdft.benchmark", *settings, f"log_root={log}")
    scores = json.loads((log / "benchmark_summary_science.json").read_text())
    expect(set(scores) == {"base", "sft", "sdft"}, f"scored are {sorted(scores)}")
    return {f"accuracy {name}": next(v for k, v in score.items() if "accuracy" in k) for name, score in scores.items()}


RECIPES = {
    "on_policy_distillation": on_policy_distillation,
    "on_policy_multi_teacher": on_policy_multi_teacher,
    "on_policy_distillation_harbor_multi_turn": harbor_multi_turn,
    "top-k distillation": top_k,
    "sdft": sdft,
    "sdft, reverse": sdft_reverse,
    "sdft.run_continual_learning": sdft_continual,
    "sdft.benchmark": sdft_benchmark,
}
