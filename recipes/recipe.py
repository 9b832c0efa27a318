"""What a recipe is: a configuration, a function that trains, and what it measured before and after."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tinker
import yaml
from pydantic import ValidationError

from hone.algorithms.config import Config
from hone.algorithms.renderers import Renderer
from hone.algorithms.run_directory import MetricSink
from hone.errors import UserError
from hone.observe.progress import Display

FOLDER = Path(__file__).parent
CONFIG, RECIPE = "config.yaml", "recipe.py"


class RecipeConfig(Config):
    """What every recipe can be told. Its own class adds what is special to it."""

    model: str = "hone/tiny"
    """The base model to train on."""
    base_url: str | None = None
    """The server; without it one of its own, on this machine."""
    seed: int = 0
    """Of the adapter's first weights, the order of the data and every sample."""
    sinks: str = ""
    """Where metrics go besides `metrics.jsonl`: `tensorboard`, `wandb`, `trackio`, or several with commas between."""


@dataclass(frozen=True)
class Measure:
    """One number about a model, on what it was not trained on."""

    name: str
    before: float
    after: float
    higher_is_better: bool = True

    @property
    def gain(self) -> float:
        return self.after - self.before if self.higher_is_better else self.before - self.after


@dataclass(frozen=True)
class Curve:
    """How a number went while training."""

    name: str
    points: list[tuple[float, float]]
    x: str = "step"
    log_x: bool = False


@dataclass(frozen=True)
class Outcome:
    measures: list[Measure]
    """The first is what the recipe is for."""
    curve: Curve | None
    """What is plotted; without it the gain of every measure."""
    checkpoint: str
    """Sampler weights of the trained model."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else was found, by name; the tables give each seed's."""


@dataclass(frozen=True)
class Setting:
    """What a recipe works with."""

    service: tinker.ServiceClient
    tokenizer: Any
    renderer: Renderer
    out: Path
    display: Display
    sinks: Callable[[Path], Sequence[MetricSink]]
    """Opens those of `RecipeConfig.sinks` for a run's directory; the run closes them."""


Run = Callable[[Any, Setting], Coroutine[Any, Any, Outcome]]


@dataclass(frozen=True)
class Recipe:
    name: str
    summary: str
    """The first line of its docstring."""
    config: RecipeConfig
    run: Run


def names() -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{RECIPE}"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe with its `config.yaml`, and `overrides` such as `optimizer.learning_rate=1e-3` on top.

    Raises:
        UserError: there is no such recipe, or a setting that it does not know or cannot take.
    """
    if name not in names():
        raise UserError(f"there is no recipe {name!r}; there are {', '.join(names())}")
    module = importlib.import_module(f"recipes.{name}.recipe")
    values = yaml.safe_load((FOLDER / name / CONFIG).read_text(encoding="utf-8")) or {}
    for override in overrides:
        _set(values, override)
    try:
        config = module.Config(**values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError(f"recipe {name}: {problems}. Its settings are in {FOLDER.name}/{name}/{RECIPE}") from None
    return Recipe(name, str(module.__doc__).splitlines()[0], config, module.run)


def _set(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"{override!r} is no setting; write key=value, such as seed=1")
    *above, last = path.split(".")
    for key in above:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise UserError(f"{path}: {key} has no settings below it")
    values[last] = yaml.safe_load(text)
