"""What a model that reads text only cannot do: the client hears so at once."""

import re
from typing import Any

from benchmarks.recipes.run import RecipeFailed, Recipes, column, expect

REFUSAL = re.compile(r"\S+ (is of kind '\w+'; models read|holds an image at position \d+; this model takes none)[^\n]*")


def vlm_classifier(recipes: Recipes) -> dict[str, Any]:
    """With pictures in training data; the evaluators, which would sample first, are left out."""
    folder = recipes.log("vlm_classifier")
    settings = ["batch_size=2", "max_steps=1", "run_nll_evaluator=false", "run_sampling_evaluator=false"]
    return refused(recipes, "recipes.vlm_classifier.train", *settings, f"experiment_dir={folder}")


def vlm_classifier_sampling(recipes: Recipes) -> dict[str, Any]:
    folder = recipes.log("vlm_classifier_sampling")
    settings = ["batch_size=2", "max_steps=1", "run_nll_evaluator=false", "n_eval=2"]
    return refused(recipes, "recipes.vlm_classifier.train", *settings, f"experiment_dir={folder}")


def audio(recipes: Recipes) -> dict[str, Any]:
    settings = ["data_dir=expresso", "batch_size=2", "max_steps=1", "eval_every=0", "n_eval=0"]
    return refused(recipes, "recipes.audio.emotion.sl_train", *settings, f"log_path={recipes.log('audio')}")


def audio_sampling(recipes: Recipes) -> dict[str, Any]:
    settings = ["data_dir=expresso", f"log_path={recipes.log('audio_sampling')}"]
    return refused(recipes, "recipes.audio.emotion.evaluate", *settings)


def audio_reinforcement(recipes: Recipes) -> dict[str, Any]:
    """This recipe takes a failed rollout for data: it says why, tries again, leaves the group out and ends."""
    log = recipes.log("audio_rl")
    settings = ["data_dir=expresso", "groups_per_batch=1", "group_size=2", "max_steps=1", "eval_every=0"]
    printed = recipes.run("recipes.audio.emotion.rl_train", *settings, f"log_path={log}")
    skipped = column(log, "rollout_errors/groups_skipped", 1)[0]
    expect(skipped == 1, f"{skipped} groups were left out, not the only one")
    return {"refused": reason(printed)}


def refused(recipes: Recipes, module: str, *arguments: str) -> dict[str, Any]:
    code, printed = recipes.attempt(module, *arguments)
    expect(code != 0, f"{module} succeeded")
    return {"refused": reason(printed)}


def reason(printed: str) -> str:
    said = REFUSAL.search(printed)
    if said is None:
        raise RecipeFailed("nothing says why it failed: " + " | ".join(printed.splitlines()[-4:]))
    return said[0]


RECIPES = {
    "vlm_classifier, training": vlm_classifier,
    "vlm_classifier, sampling": vlm_classifier_sampling,
    "audio.emotion.sl_train": audio,
    "audio.emotion.rl_train": audio_reinforcement,
    "audio.emotion.evaluate": audio_sampling,
}
