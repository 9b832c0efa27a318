"""Four ways to learn from a teacher: its answers, several teachers' answers, its judgement of one's own, and oneself.

Off-policy the student matches a teacher's distribution on the teacher's answers, here one teacher's and then two
teachers' at once. On-policy the teacher judges the student's own answers: the model as it is, told the result; or the
student itself, told the result, as it was a few steps ago.
"""

from collections.abc import Sequence
from pathlib import Path

import tinker
from pydantic import PositiveInt

from hone.algorithms import sft
from hone.algorithms.distill import on_policy
from hone.algorithms.distill.lessons import ONLY, Lesson, Teachers
from hone.algorithms.distill.off_policy import SoftTargets
from hone.algorithms.distill.prompt import answer_lessons
from hone.algorithms.run_directory import Checkpoint
from recipes.questions import draw, example, prompt, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import fine_tune, finished, named


class Config(RecipeConfig):
    kinds: list[str]
    """Tasks that the model does not know; each has a teacher of its own."""
    teacher: sft.SftConfig
    """Makes a teacher, by examples."""
    shown: PositiveInt = 600
    """Examples of a task for its teacher."""
    off_policy: sft.SftConfig
    answered: PositiveInt = 600
    """Other questions of a task, which its teacher answers."""
    on_policy: on_policy.OnPolicyConfig
    teach_self_every: PositiveInt = 10
    """Steps after which the student that teaches itself becomes the teacher."""
    family: str = "sorting"
    """Which problems are learned on-policy."""
    told: str = "Copy this: {}"
    """What the teacher is asked instead of such a problem."""
    questions: PositiveInt = 480
    """Problems learned on-policy."""
    held_out: PositiveInt = 400
    """Of each task."""


async def run(config: Config, setting: Setting) -> Outcome:
    base = await setting.service.create_sampling_client(base_model=config.model)
    teachers = {kind: await _teacher(config, setting, kind) for kind in config.kinds}
    lessons = {kind: await _answered(config, setting, kind, teachers) for kind in config.kinds}
    privileged = [
        Lesson(prompt(setting, task.question), teacher_prompt=prompt(setting, config.told.format(task.gold)))
        for task in draw(config.family, "train", config.questions, config.seed)
    ]
    first, both = config.kinds[0], [lesson for kind in config.kinds for lesson in lessons[kind]]
    itself = config.on_policy.model_copy(update={"teach_self_every": config.teach_self_every})
    learned = {
        "off-policy": await _off_policy(config, setting, lessons[first], teachers, setting.out / "off_policy"),
        f"off-policy, {len(teachers)} teachers": await _off_policy(
            config, setting, both, teachers, setting.out / "teachers"
        ),
        "on-policy": await _on_policy(
            config, config.on_policy, setting, privileged, {ONLY: base}, setting.out / "on_policy"
        ),
        "self-distillation, told the result": await _on_policy(
            config, itself, setting, privileged, {}, setting.out / "itself"
        ),
    }
    asked = [[first], config.kinds, [config.family], [config.family]]
    before = {kind: await _right(config, setting, [kind], base) for kind in {*config.kinds, config.family}}
    measures = []
    for (name, last), kinds in zip(learned.items(), asked, strict=True):
        trained = await setting.service.create_sampling_client(model_path=last.sampler_path)
        measures.append(
            Measure(
                f"right answers to new questions, {name}",
                sum(before[kind] for kind in kinds) / len(kinds),
                await _right(config, setting, kinds, trained),
            )
        )
    facts = {
        f"right answers of the teacher of {kind}": await _right(config, setting, [kind], teacher)
        for kind, teacher in teachers.items()
    }
    return Outcome(measures, None, str(learned["on-policy"].sampler_path), facts)


async def _right(config: Config, setting: Setting, kinds: Sequence[str], sampler: tinker.SamplingClient) -> float:
    """The mean over tasks."""
    shares = []
    for kind in kinds:
        held_out = draw(kind, "held_out", config.held_out, config.seed)
        found = await right_answers(setting, held_out, config.on_policy.max_tokens)(sampler)
        shares.append(found["env/all/correct"])
    return sum(shares) / len(shares)


async def _teacher(config: Config, setting: Setting, kind: str) -> tinker.SamplingClient:
    run = setting.out / f"teacher_{kind}"
    made = await fine_tune(
        config.teacher,
        config,
        setting,
        [example(setting, task) for task in draw(kind, "train", config.shown, config.seed)],
        run,
    )
    teacher: tinker.SamplingClient = await setting.service.create_sampling_client(model_path=made.sampler_path)
    return teacher


async def _answered(config: Config, setting: Setting, kind: str, teachers: Teachers) -> list[Lesson]:
    tasks = draw(kind, "train", config.shown + config.answered, config.seed)[config.shown :]
    answered = await answer_lessons(
        [Lesson(prompt(setting, task.question), teacher=kind) for task in tasks],
        teachers,
        stop=setting.renderer.get_stop_sequences(),
        max_tokens=config.on_policy.max_tokens,
        temperature=0.0,
        seed=config.seed,
    )
    return answered.lessons


async def _off_policy(
    config: Config, setting: Setting, lessons: Sequence[Lesson], teachers: Teachers, run: Path
) -> Checkpoint:
    targets = SoftTargets(teachers)
    targets.check(lessons)
    return await fine_tune(config.off_policy, config, setting, lessons, run, prepare=targets)


async def _on_policy(
    config: Config,
    training: on_policy.OnPolicyConfig,
    setting: Setting,
    lessons: Sequence[Lesson],
    teachers: Teachers,
    run: Path,
) -> Checkpoint:
    return finished(
        await on_policy.train(
            named(training, config),
            setting.service,
            lessons,
            teachers,
            run,
            stop_condition=setting.renderer.get_stop_sequences(),
            sinks=setting.sinks(run),
            display=setting.display,
        )
    )
