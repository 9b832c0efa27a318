"""Prompt distillation: what a long prompt says about telling languages apart goes into the weights.

The teacher has the prompt and says which language a sentence is in. The student learns its answers without the prompt,
and then answers for the price of the sentence alone.
"""

from pydantic import PositiveInt

from hone.algorithms import sft
from hone.algorithms.distill.lessons import ONLY, Lesson
from hone.algorithms.distill.prompt import answer_lessons, student_datums
from recipes.prompt_distillation.languages import sentences
from recipes.questions import example, prompt, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, fine_tune


class Config(RecipeConfig):
    system: str
    """The prompt: the codes there are, and how to choose between them."""
    teacher: sft.SftConfig | None
    """Makes the teacher, by examples with the prompt. `null` for a model that knows languages: it is the teacher."""
    shown: PositiveInt = 700
    """Sentences for making the teacher."""
    sft: sft.SftConfig
    texts: PositiveInt = 1400
    """Other sentences, which the teacher answers for the student."""
    held_out: PositiveInt = 280
    max_tokens: PositiveInt = 4


async def run(config: Config, setting: Setting) -> Outcome:
    drawn = sentences("train", config.shown + config.texts, config.seed)
    held_out = sentences("held_out", config.held_out, config.seed)
    prompted = right_answers(setting, held_out, config.max_tokens, config.system)
    base = teacher = await setting.service.create_sampling_client(base_model=config.model)
    if config.teacher is not None:
        lessons = [example(setting, task, config.system) for task in drawn[: config.shown]]
        run = setting.out / "teacher"
        made = await fine_tune(config.teacher, config, setting, lessons, run)
        teacher = await setting.service.create_sampling_client(model_path=made.sampler_path)

    questions = [
        Lesson(prompt(setting, task.question), teacher_prompt=prompt(setting, task.question, config.system))
        for task in drawn[config.shown :]
    ]
    stop = setting.renderer.get_stop_sequences()
    answered = await answer_lessons(
        questions,
        {ONLY: teacher},
        stop=stop,
        max_tokens=config.max_tokens,
        temperature=0.0,
        seed=config.seed,
        file=setting.out / "answers.jsonl",
        display=setting.display,
    )
    run = setting.out / "run"
    last = await fine_tune(
        config.sft,
        config,
        setting,
        student_datums(answered.lessons),
        run,
        evaluators=[right_answers(setting, held_out, config.max_tokens)],
    )
    return Outcome(
        [Measure("languages told rightly without the prompt", *before_and_after(run, "env/all/correct"))],
        curve(run, "train_mean_nll", "training loss, nats a token"),
        str(last.sampler_path),
        {
            "told rightly with the prompt by the teacher": (await prompted(teacher))["env/all/correct"],
            "told rightly with the prompt by the model as it is": (await prompted(base))["env/all/correct"],
        },
    )
