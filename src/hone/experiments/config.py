"""What an experiment file says. Reading one loads neither torch nor the SDK.

`loading` makes an `ExperimentConfig` from a file and reports what is wrong with it; `matrix` makes its arms.
Where a value is `{kind, params}`, `kinds` has what may stand there, and checks `params`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from hone.algorithms.config import Config

Goal = Literal["max", "min"]


class Spec(Config):
    """One plugin and what it is told."""

    registry: ClassVar[str | None] = None
    """The registry that it is from; without it the one that the field is called after: `source`, `transforms`."""

    kind: str
    """Its name in the registry."""
    params: dict[str, Any] = {}
    """Checked against the plugin's own parameters; `hone explain <registry> <kind>` shows them."""


class ModelConfig(Config):
    """The adapter that an arm trains."""

    name: str | None = None
    """The base model's id; without it the first one that the backend serves."""
    renderer: str | None = None
    """The chat format; without it what is recommended for the model."""
    lora_rank: PositiveInt = 32
    """Size of the adapter; more learns more and costs more memory."""
    train_attn: bool = True
    """Adapt the attention layers."""
    train_mlp: bool = True
    """Adapt the feed-forward layers."""
    train_unembed: bool = True
    """Adapt the output layer."""
    init_from_checkpoint: str | None = None
    """Weights to begin with, with a fresh optimizer: `tinker://...`, or `EXPERIMENT/ARM` of an earlier experiment
    (`EXPERIMENT` alone: its best arm)."""
    load_checkpoint: str | None = None
    """Weights and optimizer to go on with, named in the same way."""

    @model_validator(mode="after")
    def _one_beginning(self) -> ModelConfig:
        if self.init_from_checkpoint and self.load_checkpoint:
            raise ValueError(
                "init_from_checkpoint begins with a fresh optimizer, load_checkpoint with the saved one; keep one"
            )
        return self


class SplitConfig(Config):
    """Divides one source into training, validation and test rows. Stable: a row's side depends on the row alone, so
    data that grows moves none of the rows that were there."""

    by: Literal["hash", "group"] = "hash"
    """`hash`: by the row's content as its source has it, so that arms with other transforms divide alike. `group`: by
    the value of `key`, so that a group never lies on two sides."""
    key: str | None = None
    """The column that names a row's group (dots go into objects)."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """The share of rows that arms are compared on."""
    test: float = Field(default=0.0, ge=0, lt=1)
    """The share that is sealed until an arm is chosen; it becomes a benchmark named `test`."""
    salt: str = ""
    """Another word, another division."""

    @model_validator(mode="after")
    def _sensible(self) -> SplitConfig:
        if (self.by == "group") != (self.key is not None):
            raise ValueError("`by: group` needs `key`, and `key` needs `by: group`")
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave nothing to train on")
        return self


class MixturePart(Config):
    """One of several sources."""

    source: Spec
    """Where its rows come from."""
    transforms: list[Spec] = []
    """What happens to its rows before they are mixed."""
    weight: PositiveFloat = 1.0
    """Its share of the rows drawn, among the weights of all parts."""
    name: str | None = None
    """For messages and the report; without it the source's kind."""


class DataConfig(Config):
    """Where rows come from and what happens to them, in this order: read, transform, split, shuffle, limit."""

    source: Spec | None = None
    """Where the rows come from: `hone explain source`."""
    mixture: list[MixturePart] = []
    """In place of `source`: several sources with weights."""
    transforms: list[Spec] = []
    """What happens to every row, in this order: `hone explain transform`."""
    split: SplitConfig | None = None
    """Without it, and without validation data of its own, a tenth of the rows is kept for validation."""
    shuffle: bool = True
    """In an order drawn from the arm's seed; otherwise the file's order."""
    limit: PositiveInt | None = None
    """At most so many training rows, after the split."""
    verifier: Spec | None = None
    """Grades answers to rows that name no verifier of their own."""

    @model_validator(mode="after")
    def _one_origin(self) -> DataConfig:
        if (self.source is None) == (not self.mixture):
            raise ValueError("give either `source` or `mixture`")
        return self


class AlgorithmSpec(Spec):
    """The method, and its parameters: `hone explain algorithm <kind>`."""

    registry = "algorithm"

    kind: str = "sft"


class BackendSpec(Spec):
    """The service to train on."""

    registry = "backend"
    kind: str = "tinker"


class ValidationConfig(Config):
    """Measures arms while they train, on rows that they never train on. Arms are chosen by it."""

    every: NonNegativeInt = 10
    """Steps between measurements; 0 measures at the end only."""
    data: DataConfig | None = None
    """Rows to measure on; without it the validation side of the arm's own data."""
    metrics: list[Spec | str] = []
    """What is measured; without any, what suits the rows: `mean_reward` where they have a verifier, otherwise `nll`."""
    keep: Literal["best", "last"] = "last"
    """Which checkpoint the arm ends with: the best by the selection's metric, or the last."""
    limit: PositiveInt | None = 200
    """Rows measured, at most; always the same."""
    samples: PositiveInt = 1
    """Answers to each task; `pass@k` needs k or more."""
    max_tokens: PositiveInt = 256
    """Longest answer; a longer one is cut off, and usually wrong."""
    temperature: NonNegativeFloat = 1.0
    """0 asks for the likeliest answer; 1 draws answers as training does."""


class HalvingConfig(Config):
    """Successive halving: at each rung the worse arms stop (Jamieson and Talwalkar 2016, arXiv 1502.07943)."""

    rungs: list[PositiveInt] = Field(min_length=1)
    """Steps at which the arms that are still training are compared; multiples of `validation.every`."""
    keep: float = Field(default=0.5, gt=0, lt=1)
    """The share of arms that goes on after a rung, at least one. Repeats of one arm go or stop together."""


class StopConfig(Config):
    """Ends an arm before its last step."""

    patience: PositiveInt | None = None
    """Measurements without improvement after which the arm stops."""
    min_delta: NonNegativeFloat = 0.0
    """An improvement is at least this much."""
    halving: HalvingConfig | None = None
    """Stops the worse arms at fixed steps, so that the better ones get the time."""


class StageConfig(Config):
    """One of the data sets that are learned one after another."""

    name: str
    """Unique among the stages; the forgetting matrix shows it."""
    data: DataConfig
    """What is learned in this stage."""
    replay: float = Field(default=0.0, ge=0, lt=1)
    """The share of this stage's training rows that is drawn from the stages before it."""
    benchmark: str | None = None
    """The benchmark that measures this stage; without it the validation rows of its data do."""


class ContinualConfig(Config):
    """Data sets learned in order by one adapter; each is measured after every stage."""

    stages: list[StageConfig] = Field(min_length=2)
    """In the order in which they are learned."""


class RunConfig(Config):
    """One arm."""

    name: str | None = None
    """Unique in the experiment; without it made of what makes the arm special."""
    seed: int = 0
    """Draws first weights, data order and every sample. Repeats count on from it."""
    tags: list[str] = []
    """Words to find it by."""
    model: ModelConfig = ModelConfig()
    """The adapter to train, and its base model."""
    data: DataConfig | None = None
    """Needed, unless `continual` gives each stage its own."""
    algorithm: AlgorithmSpec = AlgorithmSpec()
    """How it learns: `hone explain algorithm`."""
    backend: BackendSpec = BackendSpec()
    """Where it is trained: `hone explain backend`. Without more, a server of its own on this machine."""
    validation: ValidationConfig = ValidationConfig()
    """How it is measured while it trains."""
    stop: StopConfig = StopConfig()
    """When it ends early."""


class MatrixConfig(Config):
    """One arm for each combination of values."""

    base_run: RunConfig
    """What all arms share."""
    axes: dict[str, list[Any]] = Field(min_length=1)
    """Values by dotted path into a run, such as `algorithm.params.lr: [1.0e-5, 2.0e-5]`."""
    mode: Literal["grid", "zip", "random"] = "grid"
    """`grid`: every combination. `zip`: the first values together, then the second ones. `random`: `samples` of the
    grid, drawn without repetition."""
    samples: PositiveInt | None = None
    """How many combinations `mode: random` draws."""
    seed: int = 0
    """Of the random draw."""
    where: list[str] = []
    """Conditions that a combination must meet, such as `algorithm.kind == 'sft' or algorithm.params.lr < 2e-5`."""
    name_template: str | None = None
    """Such as `{base}-{algorithm.kind}-{algorithm.params.lr}`."""

    @model_validator(mode="after")
    def _sampled(self) -> MatrixConfig:
        if (self.mode == "random") != (self.samples is not None):
            raise ValueError("`mode: random` needs `samples`, and `samples` needs `mode: random`")
        return self


class RepeatsConfig(Config):
    """Every arm several times, with seeds of its own: what one run shows may be luck."""

    n: PositiveInt = 1
    """How often. Three and more give intervals that mean something."""
    base_seed: int | None = None
    """The first seed; without it each arm's own."""


class SelectionConfig(Config):
    """How the best arm is found: by the mean over its repeats, on validation rows only."""

    metric: str
    """One of the validation metrics."""
    goal: Goal = "max"
    """Which direction is better."""
    split: Literal["validation"] = "validation"
    """The test set takes no part in choosing; there is nothing else to write here."""


class HypothesisConfig(Config):
    """A claim that the evidence can support or refute."""

    statement: str
    """In words; the report begins with it."""
    better: dict[str, Any] | str | None = None
    """The arms that the claim favours: dotted paths with their values, or a pattern of arm names."""
    than: dict[str, Any] | str | None = None
    """The arms they are compared with; `baseline` is the model without training. Without it, all the others."""
    margin: NonNegativeFloat = 0.0
    """How much better, in the metric's unit. An effect shown to be smaller refutes the claim."""


class BudgetConfig(Config):
    """What the experiment may use. No arm begins that would exceed it, and one that does is stopped."""

    tokens: PositiveInt | None = None
    """Of training, prefill and sampling together."""
    cost: PositiveFloat | None = None
    """In US dollars, by the backend's prices."""
    wall_time: PositiveFloat | None = None
    """In seconds."""
    arms: PositiveInt | None = None
    """Arms begun, repeats counted."""


class OverlapConfig(Config):
    """Which training rows are too close to a test row. Any finding fails the run unless `waiver` says why not."""

    ngram: PositiveInt = 13
    """Words in a row that both have."""
    share: float = Field(default=0.5, gt=0, le=1)
    """The share of a test row's n-grams found in one training row from which it counts as leaked."""
    near: float = Field(default=0.8, gt=0, le=1)
    """The likeness (Jaccard, of word sets) to a training row's question from which a test question counts as leaked,
    in whatever order, case and punctuation its words are."""
    waiver: str | None = None
    """Why overlap is right here; recorded with every result."""


class BenchmarkConfig(Config):
    """A sealed test set. It is opened after training, for the chosen arm and the baseline, and each opening counts."""

    name: str
    """Unique in the experiment."""
    path: str | None = None
    """A JSONL file of tasks, or a directory of Harbor tasks."""
    source: Spec | None = None
    """In place of `path`: any source."""
    verifier: Spec | None = None
    """Grades answers to tasks that name none of their own."""
    metrics: list[Spec | str] = ["mean_reward"]
    """What is reported."""
    samples: PositiveInt = 1
    """Answers to each task."""
    max_tokens: PositiveInt = 512
    """Longest answer."""
    temperature: NonNegativeFloat = 1.0
    """0 asks for the likeliest answer."""
    limit: PositiveInt | None = None
    """Tasks asked, at most; always the same."""
    baseline: bool = True
    """Also asks the model as it was before training."""
    inference: list[Spec] = []
    """Other models to ask the same, such as a hosted one."""
    openings: PositiveInt = 1
    """How often the chosen arm may be tested in this experiment's life. More looks make a lucky result likelier."""
    overlap: OverlapConfig = OverlapConfig()
    """When a training row counts as a leak of a task."""

    @model_validator(mode="after")
    def _one_origin(self) -> BenchmarkConfig:
        if (self.path is None) == (self.source is None):
            raise ValueError("give either `path` or `source`")
        return self


class ReportConfig(Config):
    """The page that shows the experiment."""

    html: bool = True
    """Write `report.html` into the experiment's directory."""
    samples: NonNegativeInt = 6
    """Answers shown, before and after training."""


class ExperimentConfig(Config):
    """A whole experiment."""

    version: Literal[1] = 1
    """Of this format."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Letters, digits, `.`, `_` and `-`. Names the results' directory."""
    description: str = ""
    """For people."""
    hypothesis: HypothesisConfig | str | None = None
    """What is claimed. A sentence such as `DPO beats SFT` is understood where both words name arms."""
    tags: list[str] = []
    """Words to find it by."""
    plugins: list[str] = []
    """Python modules or files whose plugins the file uses."""
    output_dir: str = "runs"
    """Results go to a directory of the experiment's name in it; relative to the experiment file."""
    parent_experiment: str | None = None
    """The experiment that this one follows from."""
    defaults: dict[str, Any] = {}
    """Values of a run that every arm has unless it says otherwise."""
    run: RunConfig | None = None
    """A single arm. Exactly one of `run`, `runs` and `matrix` is given."""
    runs: list[RunConfig] | None = Field(default=None, min_length=1)
    """Several arms, each written out."""
    matrix: MatrixConfig | None = None
    """Arms for all combinations of some values."""
    continual: ContinualConfig | None = None
    """With `run` only."""
    repeats: RepeatsConfig = RepeatsConfig()
    """How often each arm is trained, with other seeds."""
    selection: SelectionConfig | None = None
    """Without it the first validation metric, in the direction that is better."""
    budget: BudgetConfig = BudgetConfig()
    """What may be used at most."""
    concurrency: PositiveInt = 4
    """Arms that train at once."""
    benchmarks: list[BenchmarkConfig] = []
    """Sealed test sets, opened once an arm is chosen."""
    stores: list[Spec] = []
    """Other places that want the results, beside the run directory."""
    report: ReportConfig = ReportConfig()
    """What the report shows."""

    @model_validator(mode="after")
    def _one_form(self) -> ExperimentConfig:
        given = [name for name in ("run", "runs", "matrix") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"give exactly one of `run`, `runs` and `matrix`; found {found}")
        if self.continual is not None and self.run is None:
            raise ValueError(f"`continual` trains one adapter through stages and needs `run`; found {given[0]}")
        return self
