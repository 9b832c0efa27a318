"""What a plugin of each kind promises. A plugin is a class with `Params`; it is made with checked values of them.

Built-in plugins use nothing else. Modules of plugins are imported to check a file, so they import torch and the SDK
inside the methods that need them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from hone.algorithms.config import Config

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.evaluation import Evaluator
    from hone.algorithms.graders.grade import Grader
    from hone.algorithms.messages import Message
    from hone.algorithms.renderers import Renderer
    from hone.algorithms.run_directory import Checkpoint, MetricSink
    from hone.experiments.config import Goal, RunConfig
    from hone.experiments.data.rows import RowKind, StandardRow
    from hone.experiments.records import Usage
    from hone.observe.progress import Display

ParamsT = TypeVar("ParamsT", bound=Config)


class NoParams(Config):
    """Nothing to tell."""


class Plugin(ABC, Generic[ParamsT]):
    Params: ClassVar[type[Config]] = NoParams
    """What it can be told; each field documented where it stands."""

    def __init__(self, params: ParamsT) -> None:
        self.params = params


@dataclass(frozen=True)
class RawRow:
    """A row as its source has it."""

    place: str
    """For people: file and line."""
    value: Mapping[str, Any]
    source_value: Mapping[str, Any] | None = None
    """The value as its source had it, if a transform has changed it."""
    part: int = 0
    """Which of a mixture's sources it is from."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """The value as its source had it: what decides on which side of a split the row lies."""
        return self.value if self.source_value is None else self.source_value

    def changed(self, value: Mapping[str, Any]) -> RawRow:
        """The same row with another value: how transforms make their rows."""
        return RawRow(self.place, value, self.origin, self.part)


class Source(Plugin[ParamsT]):
    @abstractmethod
    def read(self, home: Path) -> Iterator[RawRow]:
        """Every row, in the same order each time, without holding all in memory.

        Args:
            home: Relative paths start here: the directory of the experiment file.

        Raises:
            UserError: it cannot be read; a row that is broken is named by its place.
        """


class Transform(Plugin[ParamsT]):
    @abstractmethod
    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        """New rows of old ones (`row.changed(...)`), lazily. It keeps no state between calls and changes none in place.

        Raises:
            RowError: a row is not what it works on.
        """


@dataclass(frozen=True)
class RowSizes:
    """Tokens of rows, on average."""

    prompt: float
    """Before the first token that a model would have to produce."""
    whole: float
    """All that is learned from: of a preference, both conversations; of a task, its prompt."""


class Algorithm(Plugin[ParamsT]):
    learns_from: RowKind
    """The kind of rows it is given; rows that are not of it fail the arm, with the reason."""
    needs_graders: bool = False
    """Whether each of its rows has to have a verifier."""

    @abstractmethod
    def steps(self, rows: int) -> int:
        """Optimizer steps on so many training rows."""

    def effort(self, rows: int, sizes: RowSizes) -> Usage:
        """The tokens that training takes, at most; answers are counted at their full length.

        Overridden where `steps` times `batch_size` rows, of `group_size` answers of `max_tokens` each if it samples,
        is not what is trained on.
        """
        from hone.experiments.estimate import usual_effort

        return usual_effort(self, rows, sizes)

    def checkpoints(self, run_dir: Path) -> list[Checkpoint]:
        """What `train` saved so far, in order of steps. Overridden by what keeps more than one run in `run_dir`."""
        from hone.algorithms.run_directory import read_checkpoints

        return read_checkpoints(run_dir)

    @abstractmethod
    async def train(self, training: Training) -> Checkpoint:
        """Train to the end, and return the last checkpoint.

        Called again on the same `run_dir` after an interruption, it goes on to the same numbers. It calls every
        evaluator before each step that is a multiple of `validate_every` and after the last one (by
        `hone.algorithms.evaluation.evaluate`, which tells the step), and saves a checkpoint at the same steps, so that
        any measured weights can be kept. With 0 it calls none. `StopTraining` of an evaluator goes through it
        untouched.
        """


@dataclass(frozen=True)
class Training:
    """What an algorithm is handed."""

    service: tinker.ServiceClient
    run: RunConfig
    """Of this arm: the model's name and the seed are filled in."""
    renderer: Renderer
    tokenizer: Any
    rows: Sequence[StandardRow]
    """All of the kind that it learns from, in the order for this seed."""
    graders: Sequence[Grader]
    """One for each row, if the rows are tasks and the algorithm needs them; else empty."""
    run_dir: Path
    evaluators: Sequence[Evaluator]
    validate_every: int
    sinks: Sequence[MetricSink]
    display: Display
    rows_as: Callable[[RowKind, bool], tuple[Sequence[StandardRow], Sequence[Grader]]] | None = None
    """The same rows as another kind, with their graders if asked for: for methods that are made of several."""


class StopTraining(Exception):
    """Raised by an evaluator: this arm need not go on. Not an error."""


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens."""

    training: float = 0.0
    prefill: float = 0.0
    sample: float = 0.0


@dataclass(frozen=True)
class Session:
    """An open backend."""

    service: tinker.ServiceClient
    models: Sequence[str]
    """Base models that it serves, its first choice first."""
    prices: Prices = Prices()
    keep: Callable[[str], Awaitable[None]] | None = None
    """Makes a checkpoint stay for good that would expire; None where none does."""


@dataclass(frozen=True)
class Foresight:
    """What is known of a backend that is not open."""

    models: Sequence[str] = ()
    """Base models that it will serve, its first choice first; empty if only the open service knows."""
    tokenizers: Mapping[str, Path] = field(default_factory=dict)
    """By model, the folders on this machine that hold their tokenizers."""
    prices: Prices = Prices()


class Backend(Plugin[ParamsT]):
    connection: ClassVar[frozenset[str]] = frozenset({"base_url", "api_key_env"})
    """Parameters that say where the service is reached, not what it computes: another value is no other experiment."""

    @abstractmethod
    def open(self, home: Path) -> AbstractContextManager[Session]:
        """A client on the service; it ends with the block. Several may be open at once, each its own.

        Args:
            home: A directory that is the experiment's own and stays: what the backend must find again after a crash.
        """

    def foresee(self, home: Path) -> Foresight:
        """What can be said of it before it is opened, for `hone check`. Nothing is opened or asked."""
        return Foresight()


class Verifier(Plugin[ParamsT]):
    @abstractmethod
    def grader(self) -> Grader:
        """Judges answers; used in training by reinforcement and in every evaluation alike."""


@dataclass(frozen=True)
class TaskScores:
    """What one task got."""

    task: str
    """The same in every arm and on every day, so that arms can be compared task by task."""
    values: Sequence[float]
    """One for each answer (or one for the row); failures are in it as 0."""
    weight: float = 1.0
    """Its share in a mean over tasks: for a log-likelihood, the tokens of the row."""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Metric(Plugin[ParamsT]):
    goal: ClassVar[Goal] = "max"
    """Which direction is better."""
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)
    """The least and the most that it can be, where there is such a thing; no interval is shown beyond them."""
    measures: ClassVar[str] = "answers"
    """What the values of a task are. `answers`: grades of sampled answers. `likelihood`: one, the negative mean
    log-likelihood of the row's target tokens, in nats. `preferences`: two, the log-likelihoods of the chosen and of the
    rejected answer, in nats."""

    @abstractmethod
    def task_value(self, scores: TaskScores) -> float:
        """One number for one task. The metric's value is their mean, weighted; intervals and paired tests rest on
        these numbers."""


class Store(Plugin[ParamsT]):
    @abstractmethod
    def open(self, experiment: str, arm: str, run_dir: Path, config: Mapping[str, Any]) -> MetricSink:
        """A place for one arm's metrics."""

    def conclude(self, experiment: str, conclusion: Mapping[str, Any]) -> None:
        """The end of the experiment."""


class Inference(Plugin[ParamsT]):
    @abstractmethod
    async def generate(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> str:
        """The text of one answer.

        Raises:
            UserError: the model cannot be reached or refuses; the answer counts as failed.
        """
