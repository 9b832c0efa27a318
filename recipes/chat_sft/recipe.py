"""Supervised fine-tuning on conversations that teach a task the model has never seen (SFT).

Each conversation is a question and its answer; only the answer is learned. What is asked at the end was never shown.
"""

from pydantic import PositiveInt

from hone.algorithms import sft
from hone.algorithms.evaluation import HeldOutNll
from recipes.questions import draw, example, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, fine_tune


class Config(RecipeConfig):
    sft: sft.SftConfig
    kind: str = "tickets"
    """Which problems: a task of the demo, or a family of `hone env list`."""
    conversations: PositiveInt = 1000
    held_out: PositiveInt = 200
    """Questions that are never trained on, one answer each."""
    max_tokens: PositiveInt = 16


async def run(config: Config, setting: Setting) -> Outcome:
    shown = draw(config.kind, "train", config.conversations, config.seed)
    held_out = draw(config.kind, "held_out", config.held_out, config.seed)
    run = setting.out / "run"
    last = await fine_tune(
        config.sft,
        config,
        setting,
        [example(setting, task) for task in shown],
        run,
        evaluators=[
            right_answers(setting, held_out, config.max_tokens),
            HeldOutNll([example(setting, task) for task in held_out]),
        ],
    )
    return Outcome(
        [
            Measure("right answers to new questions", *before_and_after(run, "env/all/correct")),
            Measure("loss on new questions, nats a token", *before_and_after(run, "nll"), higher_is_better=False),
        ],
        curve(run, "train_mean_nll", "training loss, nats a token"),
        str(last.sampler_path),
    )
