"""Several players, some of them other models."""

import re
from typing import Any

from benchmarks.recipes.run import Recipes, checkpoints, column, expect, on_policy


def guess_number(recipes: Recipes) -> dict[str, Any]:
    log = recipes.log("guess_number")
    settings = ["batch_size=2", "group_size=2", "max_tokens=8", "max_steps=1", "eval_every=0"]
    recipes.run("recipes.multiplayer_rl.guess_number.train", *settings, f"log_path={log}")
    turns = column(log, "env/all/turns_per_episode", 1)[0]
    expect(turns > 1, f"{turns} turns per episode")
    return on_policy(log, 1) | {"turns": turns}


def twenty_questions(recipes: Recipes) -> dict[str, Any]:
    """A base model answers, an adapter asks: both sample at the same time."""
    log = recipes.log("twenty_questions")
    settings = ["batch_size=1", "group_size=2", "num_epochs=1", "max_tokens=8", "max_steps=1", "eval_every=0"]
    recipes.run("recipes.multiplayer_rl.twenty_questions.train", *settings, f"log_path={log}")
    turns = column(log, "env/all/turns_per_episode", 1)[0]
    expect(turns > 1, f"{turns} turns per episode")
    return on_policy(log, 1) | {"turns": turns}


def tictactoe(recipes: Recipes) -> dict[str, Any]:
    """Self-play: the two players of a game wait for each other. Then the trained one plays against a random one."""
    log = recipes.log("text_arena")
    settings = [
        "batch_size=8",
        "num_train_datapoints=16",
        "num_test_datapoints=4",
        "max_tokens=16",
        "eval_every=1",
        "save_every=1",
    ]
    recipes.run("recipes.multiplayer_rl.text_arena.train", *settings, f"log_path={log}")
    trained = checkpoints(log)[-1]["sampler_path"]
    playing = [f"checkpoint_path={trained}", "mode=eval", "opponent=random", "num_games=2"]
    played = recipes.run("recipes.multiplayer_rl.text_arena.play", *playing)
    expect(bool(re.search(r"Wins: \d+/2", played)), f"no score in {played[-300:]!r}")
    return on_policy(log, 2)


RECIPES = {
    "guess_number": guess_number,
    "twenty_questions": twenty_questions,
    "text_arena.tictactoe": tictactoe,
}
