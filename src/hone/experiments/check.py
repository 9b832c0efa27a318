"""Everything that can be known of an experiment before it is run: nothing is trained, no service is opened.

Shallow, it plans the arms and looks at nothing else. Deep, it reads the data as each arm would, renders and tokenises
some of its rows, compares training rows with sealed test sets, and estimates what all of it will take.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hone.algorithms.config import Config
from hone.errors import HoneError, UserError
from hone.experiments import estimate as estimating
from hone.experiments.config import DataConfig
from hone.experiments.estimate import ArmEstimate, Estimate
from hone.experiments.hashing import content_hash
from hone.experiments.hypothesis import UnclearClaim, understand
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import Algorithm, Prices, RowSizes
from hone.experiments.loading import LoadedExperiment
from hone.experiments.matrix import PlannedArm, facts_of, plan_arms
from hone.experiments.preview import Preview, Speakers, UsableRows, preview
from hone.experiments.problems import Problem, shown, suggestion
from hone.experiments.records import Usage
from hone.experiments.runner.usage import tokens, total
from hone.experiments.tree import KeyPath

if TYPE_CHECKING:
    from hone.experiments.firewall import Sealed

NAMED = 5
"""Arms that a message names."""


class ArmCheck(Config):
    """One planned arm."""

    name: str
    group: str
    seed: int
    cell: dict[str, Any]
    config_hash: str
    algorithm: str
    backend: str
    model: str | None
    """None where only the open backend knows."""


class DataCheck(Config):
    """One data set as methods of one kind see it."""

    key: str
    """Where the file names it."""
    arms: list[str]
    kind: str
    """What its rows are read as."""
    rows: int
    """Training rows that can be used."""
    unusable: int
    partly_read: bool = False
    """There are more rows than are looked at."""
    renderer: str | None = None
    mean_tokens: float | None = None
    """Of the rows that were tokenised."""
    longest_tokens: int | None = None
    example: str | None = None
    """A row as the model sees it."""


class OverlapCheck(Config):
    """Training rows beside a sealed test set."""

    benchmark: str
    data: str
    """Where the file names the training rows."""
    leaked: int
    test_rows: int
    waiver: str | None = None
    text: str


class CheckReport(Config):
    """What was found. With `problems` the experiment should not be run."""

    name: str
    config_hash: str
    deep: bool
    arms: list[ArmCheck]
    problems: list[Problem] = []
    warnings: list[Problem] = []
    """What fails some arms only, and what is probably not meant."""
    data: list[DataCheck] = []
    overlaps: list[OverlapCheck] = []
    estimate: Estimate | None = None
    """Of a deep check."""

    @property
    def ok(self) -> bool:
        return not self.problems


def check(loaded: LoadedExperiment, *, deep: bool = True) -> CheckReport:
    """Look at an experiment that was loaded, which has told what is wrong with the file itself."""
    work = _Check(loaded)
    work.shallow()
    found = work.deep() if deep else None
    work.tell_failing()
    return CheckReport(
        name=loaded.config.name,
        config_hash=loaded.config_hash,
        deep=deep,
        arms=[work.summary(arm) for arm in work.arms],
        problems=list(dict.fromkeys(work.problems)),
        warnings=list(dict.fromkeys(work.warnings)),
        data=work.data,
        overlaps=work.overlaps,
        estimate=found,
    )


class _Check:
    def __init__(self, loaded: LoadedExperiment) -> None:
        self.loaded, self.config, self.home = loaded, loaded.config, loaded.home
        self.arms = plan_arms(loaded.config)
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.data: list[DataCheck] = []
        self.overlaps: list[OverlapCheck] = []
        self.speakers = Speakers(loaded.home)
        self._failing: dict[tuple[KeyPath, str], list[str]] = {}
        """Arms that cannot run, by place and reason."""
        self._algorithms: dict[str, Algorithm[Any]] = {}
        """By arm; those that cannot be made are missing."""
        self._previews: dict[str, Preview] = {}
        self._measured: dict[str, tuple[int, int]] = {}
        """Tasks and conversations that an arm is measured on."""
        self._speeds: dict[str, float | None] = {}

    # Without opening anything.

    def shallow(self) -> None:
        same: dict[str, str] = {}
        for arm in self.arms:
            first = same.setdefault(arm.config_hash, arm.name)
            if first != arm.name:
                self._warn(arm.place, f"the arms {first} and {arm.name} are the same run")
            try:
                self._algorithms[arm.name] = plugins.algorithms.make(arm.run.algorithm.kind, arm.run.algorithm.params)
                self.speakers.foresight(arm.run)
            except UserError as error:
                self._fails(arm, arm.place, str(error))
            self._check_metric(arm)
        self._check_hypothesis()

    def _check_metric(self, arm: PlannedArm) -> None:
        """What arms are chosen by is measured."""
        selection, metrics = self.config.selection, arm.run.validation.metrics
        if selection is not None and metrics:
            from hone.experiments.runner.rows import named_metrics

            try:
                names = list(named_metrics(metrics))
            except UserError as error:
                self._fails(arm, (*arm.place, "validation", "metrics"), str(error))
                return
            if selection.metric not in names:
                hint = suggestion(selection.metric, names)
                self._problem(("selection", "metric"), "is not measured", shown(selection.metric), hint)

    def _check_hypothesis(self) -> None:
        claim = self.config.hypothesis
        if claim is None:
            return
        try:
            understand(claim, [facts_of(arm) for arm in self.arms])
        except UnclearClaim as error:
            # A sentence may be for people alone; who names sides means arms.
            tell = self._warn if isinstance(claim, str) or claim.better is None else self._problem
            tell(("hypothesis",), f"it will not be decided: {error}")
        if len({arm.group for arm in self.arms}) == len(self.arms):
            hint = "`repeats: {n: 3}` trains each with three seeds"
            self._warn(("repeats",), "every arm is trained once, so what is better may be luck", None, hint)

    # With the data.

    def deep(self) -> Estimate:
        sets: dict[str, tuple[KeyPath, DataConfig, bool, list[PlannedArm]]] = {}
        for arm in self.arms:
            self._look_at_weights(arm)
            if arm.name in self._algorithms:
                for where, data, own in self._sets(arm):
                    sets.setdefault(self._key(arm, data, own), (where, data, own, []))[3].append(arm)
        for key, (where, data, own, arms) in sets.items():
            self._look(key, where, data, own, arms)
        benchmarks = self._check_benchmarks()
        found = [one for arm in self.arms if (one := self._estimated(arm)) is not None]
        without = [arm.name for arm in self.arms if arm.name not in {one.arm for one in found}]
        whole = estimating.estimate(found, benchmarks, self.config.concurrency, without)
        self._check_budget(whole)
        return whole

    def _look_at_weights(self, arm: PlannedArm) -> None:
        from hone.experiments.runner.weights import state_paths

        try:
            state_paths(arm.run, self.home / self.config.output_dir)
        except UserError as error:
            self._fails(arm, (*arm.place, "model"), str(error))

    def _sets(self, arm: PlannedArm) -> list[tuple[KeyPath, DataConfig, bool]]:
        """What an arm learns from: where it stands, and whether the rows for validation come from elsewhere."""
        if self.config.continual is not None:
            stages = enumerate(self.config.continual.stages)
            return [(("continual", "stages", index, "data"), stage.data, False) for index, stage in stages]
        assert arm.run.data is not None, "loading asks for it"
        return [((*arm.place, "data"), arm.run.data, arm.run.validation.data is not None)]

    def _key(self, arm: PlannedArm, data: DataConfig, own: bool) -> str:
        """Of what is read, as what, and how it is rendered."""
        algorithm = self._algorithms[arm.name]
        speaker = [self.speakers.model(arm.run), arm.run.model.renderer]
        reading = [own, algorithm.learns_from, algorithm.needs_graders]
        return content_hash([data.model_dump(mode="json", exclude={"shuffle"}), reading, speaker])

    def _look(self, key: str, where: KeyPath, data: DataConfig, own: bool, arms: Sequence[PlannedArm]) -> None:
        from hone.experiments.data.load import load_sides

        algorithm = self._algorithms[arms[0].name]
        speaker = self._speaker(arms)
        try:
            found = preview(
                load_sides(data, self.home, own_validation=own).train,
                algorithm.learns_from,
                wants_verifier=algorithm.needs_graders and data.verifier is None,
                speaker=speaker,
            )
        except (HoneError, OSError) as error:
            for arm in arms:
                self._fails(arm, where, str(error))
            return
        found.rows = min(found.rows, data.limit or found.rows)
        self._previews[key] = found
        self.data.append(
            DataCheck(
                key=self.loaded.problem(where, "").key,
                arms=[arm.name for arm in arms],
                kind=algorithm.learns_from,
                rows=found.rows,
                unusable=found.unusable,
                partly_read=found.partly_read,
                renderer=type(speaker[0]).__name__ if speaker is not None else None,
                mean_tokens=sum(found.lengths) / len(found.lengths) if found.lengths else None,
                longest_tokens=max(found.lengths, default=None),
                example=found.example,
            )
        )
        reason = found.reason(algorithm.learns_from)
        for arm in arms:
            if reason is not None:
                self._fails(arm, where, reason)
            elif self.config.continual is None:
                self._look_at_validation(arm)

    def _speaker(self, arms: Sequence[PlannedArm]) -> Any:
        """Of arms with the same model and renderer; None, with a warning or an error, where nobody can be asked."""
        run, place = arms[0].run, (*arms[0].place, "model")
        try:
            speaker = self.speakers.renderer(run)
        except UserError as error:
            for arm in arms:
                self._fails(arm, (*place, "renderer"), str(error))
            return None
        if speaker is None:
            model = self.speakers.model(run)
            what = (
                f"the tokenizer of {model} is not on this machine" if model else "only the open backend knows the model"
            )
            self._warn(place, what, None, "lengths are guessed from characters, and rows are not rendered")
        return speaker

    def _look_at_validation(self, arm: PlannedArm) -> None:
        try:
            measured = self._validation.measured(arm.run)
        except (HoneError, OSError) as error:
            self._fails(arm, (*arm.place, "validation"), f"what it is measured on cannot be read: {error}")
        else:
            self._measured[arm.name] = (len(measured.tasks), len(measured.examples))
            selection = self.config.selection
            if selection is not None and not arm.run.validation.metrics and selection.metric not in measured.metrics:
                names = ", ".join(measured.metrics)
                hint = f"`validation.metrics` says what is; without it, it is {names}"
                self._problem(("selection", "metric"), "is not measured", shown(selection.metric), hint)

    @cached_property
    def _validation(self) -> Any:
        from hone.experiments.runner.rows import Rows

        return Rows(self.home)

    # What it takes.

    def _estimated(self, arm: PlannedArm) -> ArmEstimate | None:
        """None if too little is known of its rows."""
        algorithm = self._algorithms.get(arm.name)
        sets = self._sets(arm) if algorithm is not None else []
        known = [self._previews.get(self._key(arm, data, own)) for _, data, own in sets]
        steps, used = 0, [Usage()]
        for one in known:
            if algorithm is None or one is None or one.sizes is None:
                return None
            own_steps = algorithm.steps(one.rows)
            measured = self._measured.get(arm.name, (0, 0))
            used.append(algorithm.effort(one.rows, one.sizes))
            used.append(estimating.validation_effort(arm.run.validation, own_steps, *measured, one.sizes))
            steps += own_steps
        if not known:
            return None
        prices = self.speakers.foresight(arm.run).prices
        most = estimating.priced(total(used), prices)
        speed = self._speed(self.speakers.model(arm.run))
        return ArmEstimate(
            arm=arm.name,
            rows=sum(one.rows for one in known if one is not None),
            steps=steps,
            most=most,
            least=estimating.priced(estimating.without_answers(most), prices),
            seconds=tokens(most) / speed if speed else None,
        )

    def _speed(self, model: str | None) -> float | None:
        if model is not None and model not in self._speeds:
            self._speeds[model] = estimating.measured_speed(self.home / self.config.output_dir, model)
        return None if model is None else self._speeds[model]

    def _check_budget(self, whole: Estimate) -> None:
        """More than the budget at the least is a problem; only at the most, a warning."""
        budget = self.config.budget
        seconds = whole.seconds or 0.0
        for name, limit, least, most in (
            ("tokens", budget.tokens, tokens(whole.least), tokens(whole.most)),
            ("cost", budget.cost, whole.least.cost, whole.most.cost),
            ("wall_time", budget.wall_time, 0.0, seconds),
        ):
            if limit is not None and least > limit:
                hint = "raise it, or take fewer arms, rows or epochs"
                self._problem(("budget", name), f"the arms need {least:,.6g} at least", shown(limit), hint)
            elif limit is not None and most > limit:
                hint = "arms that no longer fit will not begin"
                self._warn(("budget", name), f"the arms may need up to {most:,.6g}", shown(limit), hint)

    # Test sets.

    def _check_benchmarks(self) -> Usage:
        """Whether training rows give them away. Returns what asking them takes at most."""
        from hone.experiments.firewall import Sealed

        training = self._training_sets()
        prices = next(
            (self.speakers.foresight(arm.run).prices for arm in self.arms if arm.name in self._algorithms), None
        )
        sizes = next((one.sizes for one in self._previews.values() if one.sizes is not None), RowSizes(0.0, 0.0))
        used = []
        for index, benchmark in enumerate(self.config.benchmarks):
            sealed = Sealed(benchmark, self.home)
            self._compare(sealed, ("benchmarks", index), training)
            try:
                effort = estimating.benchmark_effort(benchmark, len(sealed), sizes)
            except (HoneError, OSError):
                continue  # told by `_compare`
            used.append(estimating.priced(effort, prices or Prices()))
        for where, data, rows in training:
            own = Sealed.of_split(data, self.home)
            if own is not None:
                self._compare(own, (*where, "split"), [(where, data, rows)])
        return total(used)

    def _training_sets(self) -> list[tuple[KeyPath, DataConfig, UsableRows]]:
        """Each set of training rows once, whoever learns from it."""
        from hone.experiments.data.load import load_sides

        found: dict[str, tuple[KeyPath, DataConfig, UsableRows]] = {}
        for arm in self.arms:
            for where, data, own in self._sets(arm) if arm.name in self._algorithms else []:
                if self._key(arm, data, own) in self._previews:
                    side = load_sides(data, self.home, own_validation=own).train
                    what = data.model_dump(mode="json", exclude={"shuffle", "limit", "verifier"})
                    rows = UsableRows(side, self._algorithms[arm.name].learns_from)
                    found.setdefault(content_hash([what, own]), (where, data, rows))
        return list(found.values())

    def _compare(
        self, sealed: Sealed, where: KeyPath, training: Sequence[tuple[KeyPath, DataConfig, UsableRows]]
    ) -> None:
        try:
            len(sealed)
            reports = [(self.loaded.problem(at, "").key, sealed.check_overlap(rows)) for at, _, rows in training]
        except (HoneError, OSError) as error:
            self._problem(where, f"the test set {sealed.benchmark.name!r} cannot be read: {error}")
            return
        for data, report in reports:
            self.overlaps.append(
                OverlapCheck(
                    benchmark=sealed.benchmark.name,
                    data=data,
                    leaked=report.leaked,
                    test_rows=report.test_rows,
                    waiver=report.waiver,
                    text=report.as_text(),
                )
            )
            if report.failed:
                self._problem(where, f"{data} gives test rows away: {report.as_text()}")
            elif report.findings:
                self._warn(where, f"overlap with {data} is waived: {report.as_text()}")

    # Telling.

    def summary(self, arm: PlannedArm) -> ArmCheck:
        return ArmCheck(
            name=arm.name,
            group=arm.group,
            seed=arm.run.seed,
            cell=arm.cell,
            config_hash=arm.config_hash,
            algorithm=arm.run.algorithm.kind,
            backend=arm.run.backend.kind,
            model=self.speakers.model(arm.run) if arm.name in self._algorithms else arm.run.model.name,
        )

    def tell_failing(self) -> None:
        """What fails every arm is a problem; what fails some of them, a warning: the others can run."""
        broken = {name for names in self._failing.values() for name in names}
        told = self.problems if broken == {arm.name for arm in self.arms} else self.warnings
        for (where, message), names in self._failing.items():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            which = f"{'arm' if len(names) == 1 else 'arms'} {', '.join(names[:NAMED])}{more}"
            told.append(self.loaded.problem(where, f"{which} will fail: {message}"))

    def _fails(self, arm: PlannedArm, where: KeyPath, message: str) -> None:
        names = self._failing.setdefault((where, message), [])
        if arm.name not in names:
            names.append(arm.name)

    def _problem(self, at: KeyPath, message: str, found: str | None = None, hint: str | None = None) -> None:
        self.problems.append(self.loaded.problem(at, message, found=found, hint=hint))

    def _warn(self, at: KeyPath, message: str, found: str | None = None, hint: str | None = None) -> None:
        self.warnings.append(self.loaded.problem(at, message, found=found, hint=hint))
