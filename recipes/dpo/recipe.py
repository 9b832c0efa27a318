"""Direct preference optimisation on pairs of the model's own answers (DPO).

The model answers each question several times. Where a right and a wrong answer are among them, they are a pair, and DPO
makes the one likelier at the expense of the other.
"""

from pydantic import PositiveInt

from hone.algorithms.preference import train as preference
from hone.algorithms.rl.policy import Policy
from recipes.comparisons import Lead, own_comparisons
from recipes.questions import draw, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, finished, named


class Config(RecipeConfig):
    dpo: preference.PreferenceConfig
    family: str = "subtract_two_digit"
    questions: PositiveInt = 600
    attempts: PositiveInt = 8
    """Answers to each question, among which a pair is looked for."""
    held_out: PositiveInt = 200
    max_tokens: PositiveInt = 8


async def run(config: Config, setting: Setting) -> Outcome:
    base = await setting.service.create_sampling_client(base_model=config.model)
    policy = Policy(base, config.max_tokens)
    tasks = draw(config.family, "train", config.questions, config.seed)
    held_out = draw(config.family, "held_out", config.held_out, config.seed)
    pairs = await own_comparisons(setting, policy, tasks, config.attempts, config.seed)
    unseen = await own_comparisons(setting, policy, held_out, config.attempts, config.seed)
    run = setting.out / "run"
    last = finished(
        await preference.train(
            named(config.dpo, config),
            setting.service,
            [one.pair for one in pairs],
            run,
            evaluators=[right_answers(setting, held_out, config.max_tokens), Lead([one.pair for one in unseen])],
            sinks=setting.sinks(run),
            display=setting.display,
        )
    )
    return Outcome(
        [
            Measure("right answers to new questions", *before_and_after(run, "env/all/correct")),
            Measure("new pairs whose better answer is likelier", *before_and_after(run, "lead/accuracy")),
            Measure("lead of the better answer, nats", *before_and_after(run, "lead/margin")),
        ],
        curve(run, "margin", "margin of the implicit rewards"),
        str(last.sampler_path),
        {"pairs": len(pairs)},
    )
