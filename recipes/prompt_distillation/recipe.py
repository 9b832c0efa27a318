"""Prompt distillation: a system prompt goes into the weights, and need not be sent any more.

The model itself is the teacher: it answers with the prompt. The student learns its answers without the prompt.
"""

from pydantic import PositiveInt

from hone.algorithms import sft
from hone.algorithms.distill.lessons import ONLY, Lesson
from hone.algorithms.distill.prompt import answer_lessons, student_datums
from hone.algorithms.graders.grade import Task
from recipes.questions import draw, prompt, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, named


class Config(RecipeConfig):
    sft: sft.SftConfig
    system: str = 'Start every answer with "Answer:"'
    """What the teacher is told."""
    told: str = "Answer: {}"
    """The right answer as the prompt wants it, to measure by."""
    family: str = "sum_two_digit"
    questions: PositiveInt = 500
    held_out: PositiveInt = 200
    max_tokens: PositiveInt = 16


async def run(config: Config, setting: Setting) -> Outcome:
    teacher = await setting.service.create_sampling_client(base_model=config.model)
    lessons = [
        Lesson(prompt(setting, task.question), teacher_prompt=prompt(setting, task.question, config.system))
        for task in draw(config.family, "train", config.questions, config.seed)
    ]
    stop = setting.renderer.get_stop_sequences()
    answered = await answer_lessons(lessons, {ONLY: teacher}, stop=stop, max_tokens=config.max_tokens, seed=config.seed)
    held_out = [
        Task(task.question, config.told.format(task.gold))
        for task in draw(config.family, "held_out", config.held_out, config.seed)
    ]
    run = setting.out / "run"
    last = await sft.train(
        named(config.sft, config),
        setting.service,
        student_datums(answered.lessons),
        run,
        evaluators=[right_answers(setting, held_out, config.max_tokens)],
        display=setting.display,
    )
    return Outcome(
        [Measure("right answers in the form of the prompt, without it", *before_and_after(run, "env/all/correct"))],
        curve(run, "train_mean_nll", "training loss, nats a token"),
        str(last.sampler_path),
    )
