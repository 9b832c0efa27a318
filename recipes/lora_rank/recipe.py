"""How large an adapter has to be: the same training at several ranks, and the held-out loss that each reaches.

The scale of an adapter is such that one learning rate suits all ranks ("LoRA Without Regret", 2025), so only the rank
differs.
"""

from pydantic import PositiveInt

from recipes.recipe import Curve, Measure, Outcome, Setting
from recipes.sweep import StudyConfig, finite, train_each


class Config(StudyConfig):
    ranks: list[PositiveInt]


async def run(config: Config, setting: Setting) -> Outcome:
    trained = await train_each(
        config,
        setting,
        {
            rank: config.sft.model_copy(update={"model": config.sft.model.model_copy(update={"lora_rank": rank})})
            for rank in config.ranks
        },
    )
    return Outcome(
        [
            Measure(f"loss on new questions, rank {rank}", one.before, one.after, higher_is_better=False)
            for rank, one in trained.items()
        ],
        Curve("loss on new questions, nats a token", finite(trained), x="rank", log_x=True),
        trained[max(config.ranks)].checkpoint,
    )
