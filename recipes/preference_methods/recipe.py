"""Every objective for preferences on the same comparisons of the model's own answers (DPO, IPO, SimPO, ORPO, KTO).

What they are for is to prefer, of two answers that were never seen, the better one: that is what is measured. How often
a sampled answer is right is told beside it, for that is another matter.
"""

from collections.abc import Sequence

from pydantic import PositiveInt

from hone.algorithms.preference import train as preference
from hone.algorithms.preference.objectives import AnyObjective, Judged, Kto
from hone.algorithms.preference.pairs import Pair
from hone.algorithms.rl.policy import Policy
from hone.algorithms.run_directory import Checkpoint
from recipes.comparisons import Comparison, Lead, own_comparisons
from recipes.questions import draw, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import finished, named


class Config(RecipeConfig):
    preference: preference.PreferenceConfig
    """What all are told, but for the objective."""
    objectives: list[AnyObjective]
    family: str = "subtract_two_digit"
    questions: PositiveInt = 600
    attempts: PositiveInt = 8
    """Answers to each question, among which a comparison is looked for."""
    held_out: PositiveInt = 600
    max_tokens: PositiveInt = 8


async def run(config: Config, setting: Setting) -> Outcome:
    base = await setting.service.create_sampling_client(base_model=config.model)
    policy = Policy(base, config.max_tokens)
    tasks = draw(config.family, "train", config.questions, config.seed)
    new = draw(config.family, "held_out", config.held_out, config.seed)
    learned = await own_comparisons(setting, policy, tasks, config.attempts, config.seed)
    unseen = await own_comparisons(setting, policy, new, config.attempts, config.seed)
    decides, answers = Lead([one.pair for one in unseen]), right_answers(setting, new, config.max_tokens)
    before = (await decides(base))["lead/accuracy"]
    facts: dict[str, object] = {
        "comparisons learned": len(learned),
        "right answers before": (await answers(base))["env/all/correct"],
    }
    measures: list[Measure] = []
    last: list[Checkpoint] = []
    for objective in config.objectives:
        run = setting.out / objective.kind
        training = named(config.preference, config).model_copy(update={"objective": objective})
        last.append(
            finished(
                await preference.train(
                    training,
                    setting.service,
                    examples(objective, learned),
                    run,
                    sinks=setting.sinks(run),
                    display=setting.display,
                )
            )
        )
        trained = await setting.service.create_sampling_client(model_path=last[-1].sampler_path)
        name = objective.kind.upper()
        measures.append(
            Measure(f"new comparisons decided rightly, {name}", before, (await decides(trained))["lead/accuracy"])
        )
        facts[f"right answers, {name}"] = (await answers(trained))["env/all/correct"]
    return Outcome(measures, None, str(last[0].sampler_path), facts)


def examples(objective: AnyObjective, learned: Sequence[Comparison]) -> list[Pair] | list[Judged]:
    if isinstance(objective, Kto):
        return [judged for one in learned for judged in one.judged]
    return [one.pair for one in learned]
