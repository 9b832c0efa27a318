"""Every baseline, loss and loop of reinforcement learning on the same problems (the GRPO family).

The first method is the plainest; each other one changes one thing of it. All see the same problems in the same order
and answer the same held-out ones.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt, model_validator

from hone.algorithms.config import Config as Settings
from hone.algorithms.envs.datasets import ProblemDataset
from hone.algorithms.graders.exact import Exact
from hone.algorithms.rl import asynchronous, streaming
from hone.algorithms.rl import train as synchronous
from hone.algorithms.run_directory import Checkpoint
from recipes.questions import draw, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import finished, named

AnyConfig = synchronous.GrpoConfig | streaming.StreamingConfig | asynchronous.AsynchronousConfig
CONFIGS: dict[str, Callable[..., AnyConfig]] = {
    "synchronous": synchronous.GrpoConfig,
    "streaming": streaming.StreamingConfig,
    "asynchronous": asynchronous.AsynchronousConfig,
}


class Method(Settings):
    loop: Literal["synchronous", "streaming", "asynchronous"] = "synchronous"
    settings: dict[str, Any] = {}
    """What it is told beside what all are."""


class Config(RecipeConfig):
    rl: dict[str, Any]
    """What all methods are told."""
    methods: dict[str, Method]
    family: str = "subtract_two_digit"
    """Which problems: see `hone env list`."""
    steps: PositiveInt = 30
    problems_per_step: PositiveInt = 16
    group_size: PositiveInt = 8
    """Answers to each problem."""
    held_out: PositiveInt = 400
    """Problems that are never trained on, one answer each."""

    @model_validator(mode="after")
    def _known(self) -> "Config":
        for method in self.methods.values():
            self.of(method)
        return self

    def of(self, method: Method) -> AnyConfig:
        return CONFIGS[method.loop](**{**self.rl, **method.settings})


async def run(config: Config, setting: Setting) -> Outcome:
    tasks = draw(config.family, "train", config.steps * config.problems_per_step, config.seed)
    problems = ProblemDataset(
        tasks, Exact(), setting.renderer, config.problems_per_step, config.group_size, config.seed
    )
    max_tokens = config.of(Method()).rollouts.max_tokens
    held_out = right_answers(setting, draw(config.family, "held_out", config.held_out, config.seed), max_tokens)

    async def right(path: str | None) -> float:
        sampler = await setting.service.create_sampling_client(
            model_path=path, base_model=None if path else config.model
        )
        return float((await held_out(sampler))["env/all/correct"])

    before = await right(None)
    trained: dict[str, Checkpoint] = {}
    for number, (name, method) in enumerate(config.methods.items()):
        trained[name] = await _train(config, config.of(method), problems, setting, setting.out / f"method{number}")
    return Outcome(
        [Measure(name, before, await right(last.sampler_path)) for name, last in trained.items()],
        None,
        str(next(iter(trained.values())).sampler_path),
    )


async def _train(
    config: Config, method: AnyConfig, problems: ProblemDataset, setting: Setting, run: Path
) -> Checkpoint:
    sinks = setting.sinks(run)
    match method:
        case synchronous.GrpoConfig():
            return finished(
                await synchronous.train(
                    named(method, config), setting.service, problems, run, sinks=sinks, display=setting.display
                )
            )
        case streaming.StreamingConfig():
            return finished(
                await streaming.train(
                    named(method, config), setting.service, problems, run, sinks=sinks, display=setting.display
                )
            )
        case asynchronous.AsynchronousConfig():
            return finished(
                await asynchronous.train(
                    named(method, config), setting.service, problems, run, sinks=sinks, display=setting.display
                )
            )
