"""A learning-rate sweep: the final loss on held-out examples over the rate is a U, with the best rate at its foot.

Too low and little is learned, too high and it does not settle. The same examples, order and first weights at each rate.
"""

from pydantic import PositiveFloat

from hone.algorithms.learning_rate import recommended_lr
from recipes.recipe import Curve, Measure, Outcome, Setting
from recipes.sweep import StudyConfig, finite, train_each


class Config(StudyConfig):
    rates: list[PositiveFloat]
    advised_as: str | None = None
    """Also train at the published advice for a model of this family, as wide as `hidden_size`."""
    hidden_size: int = 128


async def run(config: Config, setting: Setting) -> Outcome:
    advised = [recommended_lr(config.advised_as, config.hidden_size)] if config.advised_as else []
    trained = await train_each(
        config,
        setting,
        {
            rate: config.sft.model_copy(
                update={"optimizer": config.sft.optimizer.model_copy(update={"learning_rate": rate})}
            )
            for rate in sorted([*config.rates, *advised])
        },
    )
    best = min(trained, key=lambda rate: trained[rate].after)
    facts: dict[str, object] = {"best rate": best}
    if advised:
        facts[f"published formula for a {config.advised_as} {config.hidden_size} wide"] = round(advised[0], 6)
        facts["held-out loss at that rate"] = round(trained[advised[0]].after, 4)
    return Outcome(
        [
            Measure(
                "loss on new questions at the best rate, nats a token",
                trained[best].before,
                trained[best].after,
                higher_is_better=False,
            )
        ],
        Curve("loss on new questions, nats a token", finite(trained), x="learning rate", log_x=True),
        trained[best].checkpoint,
        facts,
    )
