"""Twenty questions, with fewer of them and a smaller world: long prompts, many turns, one reward at the end.

The model is shown questions of which some are an expert's. Reinforcement prefers the games that found the word.
"""

from pydantic import Field, PositiveInt

from hone.algorithms.envs.twenty_questions import WORDS, TwentyQuestions
from hone.algorithms.rl import train as grpo
from recipes.episodes import Shown, episodes, held_out_episodes, reinforce, show
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting


class Config(RecipeConfig):
    shown: Shown
    grpo: grpo.GrpoConfig
    categories: PositiveInt = Field(default=2, le=len(WORDS))
    words: PositiveInt = 4
    """In each category."""
    questions: PositiveInt = 4
    steps: PositiveInt = 20
    games_per_step: PositiveInt = 8
    group_size: PositiveInt = 8
    held_out: PositiveInt = 200


async def run(config: Config, setting: Setting) -> Outcome:
    words = {category: WORDS[category][: config.words] for category in list(WORDS)[: config.categories]}

    def game(seed: int) -> TwentyQuestions:
        return TwentyQuestions(seed, words=words, max_turns=config.questions)

    shown = await show(config.shown, config, game, setting)
    games = episodes(
        game,
        setting,
        steps=config.steps,
        per_step=config.games_per_step,
        group_size=config.group_size,
        seed=config.seed,
    )
    played = await reinforce(
        config.grpo, config, games, held_out_episodes(game, setting, config.held_out), setting, shown
    )
    return Outcome(
        [Measure("words found", *played.before_and_after("found"))],
        played.curve("found", "words found while training"),
        str(played.last.sampler_path),
    )
