"""What the demo measured, as plain data: made by the stages, shown by the table, the report and the JSON file."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Answer:
    """One held-out problem and what the model said."""

    question: str
    expected: str
    said: str
    right: bool


@dataclass(frozen=True)
class Score:
    """How many held-out problems were answered right, one sampled answer each."""

    right: int
    asked: int

    @property
    def accuracy(self) -> float:
        return self.right / self.asked

    @property
    def margin(self) -> float:
        """Half the width of the 95 % interval (Agresti-Coull, which holds near 0 and 1 too)."""
        share = (self.right + 2) / (self.asked + 4)
        return 1.96 * math.sqrt(share * (1 - share) / (self.asked + 4))


@dataclass(frozen=True)
class Comparison:
    """The same held-out problem before and after training."""

    question: str
    expected: str
    before: str
    after: str


@dataclass(frozen=True)
class Measure:
    """One step of training."""

    step: int
    value: float
    """The loss per answer token, or the mean reward: see `AdapterResult.measures`."""
    seconds: float
    """Since the training began."""


@dataclass(frozen=True)
class AdapterResult:
    task: str
    summary: str
    before: Score
    after: Score
    measures: Literal["loss", "reward"]
    curve: tuple[Measure, ...]
    train_seconds: float
    """From the first training step to the end of the last one; evaluation is not in it."""
    tokens_trained: int
    """Tokens that went forward and backward."""
    tokens_sampled: int
    """Tokens generated for training; those of the evaluation are not in it."""
    checkpoint: str
    directory: str
    examples: tuple[Comparison, ...]

    @property
    def tokens_per_second(self) -> float:
        return (self.tokens_trained + self.tokens_sampled) / self.train_seconds


@dataclass(frozen=True)
class StageResult:
    name: str
    title: str
    seconds: float
    """All of it, evaluation included."""
    adapters: tuple[AdapterResult, ...]

    @property
    def tokens_per_second(self) -> float:
        """Of all adapters together, while training."""
        tokens = sum(adapter.tokens_trained + adapter.tokens_sampled for adapter in self.adapters)
        return tokens / max(adapter.train_seconds for adapter in self.adapters)


@dataclass(frozen=True)
class DemoResult:
    base_model: str
    data_dir: str
    seconds: float
    stages: tuple[StageResult, ...]

    @property
    def adapters(self) -> list[AdapterResult]:
        return [adapter for stage in self.stages for adapter in stage.adapters]

    @property
    def tokens_trained(self) -> int:
        return sum(adapter.tokens_trained for adapter in self.adapters)

    @property
    def tokens_sampled(self) -> int:
        return sum(adapter.tokens_sampled for adapter in self.adapters)

    def as_json(self) -> dict[str, Any]:
        """The fields, and the rates that follow from them."""
        result = asdict(self)
        for stage, stage_json in zip(self.stages, result["stages"], strict=True):
            stage_json["tokens_per_second"] = stage.tokens_per_second
            for adapter, adapter_json in zip(stage.adapters, stage_json["adapters"], strict=True):
                adapter_json["tokens_per_second"] = adapter.tokens_per_second
                adapter_json["before"]["accuracy"] = adapter.before.accuracy
                adapter_json["after"]["accuracy"] = adapter.after.accuracy
        return result
