"""On-policy distillation from a teacher that is told the result, which the student then works out alone.

The teacher is the same model, asked to copy the result. The student answers the question itself, and the teacher says
of each of its tokens how likely it would have been.
"""

from pydantic import PositiveInt

from hone.algorithms.distill import on_policy
from hone.algorithms.distill.lessons import ONLY, Lesson
from recipes.questions import draw, prompt, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, finished, named


class Config(RecipeConfig):
    distillation: on_policy.OnPolicyConfig
    family: str = "subtract_two_digit"
    told: str = "Copy this: {}"
    """What the teacher is asked instead of the question."""
    questions: PositiveInt = 480
    held_out: PositiveInt = 200


async def run(config: Config, setting: Setting) -> Outcome:
    teacher = await setting.service.create_sampling_client(base_model=config.model)
    lessons = [
        Lesson(prompt(setting, task.question), teacher_prompt=prompt(setting, config.told.format(task.gold)))
        for task in draw(config.family, "train", config.questions, config.seed)
    ]
    held_out = draw(config.family, "held_out", config.held_out, config.seed)
    run = setting.out / "run"
    last = finished(
        await on_policy.train(
            named(config.distillation, config),
            setting.service,
            lessons,
            {ONLY: teacher},
            run,
            stop_condition=setting.renderer.get_stop_sequences(),
            evaluators=[right_answers(setting, held_out, config.distillation.max_tokens)],
            sinks=setting.sinks(run),
            display=setting.display,
        )
    )
    return Outcome(
        [Measure("right answers to new questions", *before_and_after(run, "env/all/correct"))],
        curve(run, "teacher_kl", "divergence from the teacher, nats a token"),
        str(last.sampler_path),
    )
