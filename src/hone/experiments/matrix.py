"""The arms of an experiment: combinations, names, groups, seeds, hashes."""

from __future__ import annotations

import copy
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from hone.experiments.config import ExperimentConfig, MatrixConfig, RunConfig
from hone.experiments.expressions import Expression, ExpressionError
from hone.experiments.fields import get, parts, put, run_paths
from hone.experiments.hashing import arm_hash, run_in_full
from hone.experiments.hypothesis import ArmFacts
from hone.experiments.naming import PLACEHOLDER, SEED, from_template, names_of, safe
from hone.experiments.problems import ConfigError, Problem, shown, suggestion
from hone.experiments.tree import KeyPath, key_text

MOST_ARMS = 10_000
"""Of one matrix; more is a slip of the pen."""
MOST_DRAWS = 100_000
"""Combinations that `mode: random` looks at to find those that meet the conditions."""
RESERVED = ("baseline", "start")
"""What records call the model before training."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class PlannedArm:
    """A run that will be done."""

    name: str
    """`group`, or `group-s<seed>` where it has repeats. Fit for a file's name, and unique."""
    group: str
    """What runs that differ in their seed alone share."""
    cell: dict[str, Any]
    """What makes the group special, by dotted path: its values on the axes, or what differs between `runs`."""
    run: RunConfig
    """With the name and the seed filled in."""
    config_hash: str
    """The same for the same training, whatever it is called; see `hashing`."""
    place: KeyPath = ()
    """Where its run stands in the experiment's values."""


def facts_of(arm: PlannedArm) -> ArmFacts:
    """What a hypothesis can call it by."""
    return ArmFacts(arm.name, arm.group, arm.cell, arm.run.tags, arm.run.model_dump(mode="json"))


class Tell(Protocol):
    """Takes a problem found at a place of the experiment's values."""

    def __call__(self, path: KeyPath, message: str, *, found: str | None = None, hint: str | None = None) -> None: ...


def plan_arms(config: ExperimentConfig) -> list[PlannedArm]:
    """Every arm, in the order of the file: repeats of a group follow each other.

    Raises:
        ConfigError: combinations that are no runs, names that collide.
    """
    problems: list[Problem] = []

    def tell(path: KeyPath, message: str, *, found: str | None = None, hint: str | None = None) -> None:
        problems.append(Problem(key=key_text(path), message=message, found=found, hint=hint))

    def refuse(picks: Picks, values: Any, error: Exception) -> None:
        tell(("matrix", "axes"), f"a combination is no run: {error}", found=shown(picks))

    arms = arms_of(config, primaries(config, tell, refuse), tell)
    if problems:
        raise ConfigError(problems)
    return arms


# Combinations of a matrix.

Picks = dict[str, int]
"""Which value of each axis a combination has."""

Refuse = Callable[[Picks, Any, Exception], None]
"""Told of a combination that is no run: its picks, its values if they could be put together, and why."""


@dataclass(frozen=True)
class Cell:
    """One combination that is a run."""

    picks: Picks
    run: RunConfig
    full: dict[str, Any]
    """The run as JSON values, with parameters in full."""


def combinations(axes: Mapping[str, Sequence[Any]], mode: str, seed: int) -> Iterator[Picks]:
    """In order; for `random` in an order drawn once for all, so that more samples keep the earlier ones."""
    sizes = [len(values) for values in axes.values()]
    if mode == "zip":
        assert len(set(sizes)) == 1, "the axes of a zip are equally long"
        yield from (dict.fromkeys(axes, index) for index in range(sizes[0]))
    elif mode == "grid":
        yield from (dict(zip(axes, picks, strict=True)) for picks in itertools.product(*map(range, sizes)))
    else:
        total = math.prod(sizes)
        for number in random.Random(seed).sample(range(total), min(total, MOST_DRAWS)):
            picks = {}
            for path, size in reversed(list(zip(axes, sizes, strict=True))):
                number, picks[path] = divmod(number, size)
            yield dict(reversed(picks.items()))


def values_of(base: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], picks: Picks) -> dict[str, Any]:
    """The base run's values with those of a combination, outer ones first.

    Raises:
        KeyError: a path leads through something that has no keys.
    """
    values = copy.deepcopy(dict(base))
    for path in sorted(picks, key=lambda path: path.count(".")):
        put(values, parts(path), copy.deepcopy(axes[path][picks[path]]))
    return values


def _cells(matrix: MatrixConfig, tell: Tell, refuse: Refuse) -> list[Cell]:
    """The combinations that meet the conditions."""
    where = _conditions(matrix, tell)
    if where is None or not _fits(matrix, tell):
        return []
    base = matrix.base_run.model_dump(mode="json")
    if not _names_known(matrix, base, where, tell):
        return []
    cells: list[Cell] = []
    refused = 0
    for picks in combinations(matrix.axes, matrix.mode, matrix.seed):
        if matrix.samples is not None and len(cells) + refused == matrix.samples:
            break
        values: Any = None
        try:
            values = values_of(base, matrix.axes, picks)
            run = RunConfig.model_validate(values)
        except (ValidationError, KeyError) as error:
            refused += 1
            refuse(picks, values, error)
            continue
        full = run_in_full(run)
        meets = _meets(full, where, tell)
        if meets is None:
            return cells
        if meets:
            cells.append(Cell(picks, run, full))
    if refused:
        return cells
    if not cells:
        tell(("matrix", "where"), "no combination meets these conditions", found=shown(matrix.where))
    elif matrix.samples is not None and len(cells) < matrix.samples:
        which = " that meet `where`" if where else ""
        tell(("matrix", "samples"), f"there are only {len(cells)} combinations{which}", found=str(matrix.samples))
    # Drawn at random, listed in the order of the grid.
    return sorted(cells, key=lambda cell: [*cell.picks.values()]) if matrix.mode == "random" else cells


def _conditions(matrix: MatrixConfig, tell: Tell) -> list[Expression] | None:
    where: list[Expression] = []
    for index, text in enumerate(matrix.where):
        try:
            where.append(Expression(text))
        except ExpressionError as error:
            tell(("matrix", "where", index), str(error))
    return where if len(where) == len(matrix.where) else None


def _meets(full: Mapping[str, Any], where: Sequence[Expression], tell: Tell) -> bool | None:
    """Whether a run meets the conditions; None if that cannot be decided."""
    for index, condition in enumerate(where):
        try:
            if not condition.holds(full):
                return False
        except ExpressionError as error:
            tell(("matrix", "where", index), str(error), hint="`has(name)` asks whether a run has a value")
            return None
    return True


def _names_known(matrix: MatrixConfig, base: Mapping[str, Any], where: Sequence[Expression], tell: Tell) -> bool:
    """Whether conditions ask for what at least one of the combinations may have."""
    asked = {name for condition in where for name in condition.names}
    known = set(matrix.axes)
    for picks in itertools.islice(combinations(matrix.axes, matrix.mode, matrix.seed), MOST_ARMS):
        if asked <= known:
            return True
        try:
            known |= run_paths(values_of(base, matrix.axes, picks))
        except KeyError:
            continue
    for index, condition in enumerate(where):
        for name in condition.names - known:
            tell(
                ("matrix", "where", index),
                f"there is no {name!r} in these runs",
                found=shown(condition.text),
                hint=suggestion(name, known),
            )
    return asked <= known


def _fits(matrix: MatrixConfig, tell: Tell) -> bool:
    """Whether axes combine."""
    sizes = {path: len(values) for path, values in matrix.axes.items()}
    if matrix.mode == "zip" and len(set(sizes.values())) > 1:
        listed = ", ".join(f"{path}: {size}" for path, size in sizes.items())
        tell(("matrix", "axes"), "`mode: zip` needs axes of the same length", found=listed)
        return False
    if matrix.mode == "grid" and (total := math.prod(sizes.values())) > MOST_ARMS:
        hint = f"at most {MOST_ARMS} are planned; `mode: random` with `samples` draws some of them"
        tell(("matrix", "axes"), f"the axes make {total} combinations", hint=hint)
        return False
    return True


# From runs to arms.


@dataclass(frozen=True)
class Primary:
    """A run before its repeats."""

    place: KeyPath
    """Of the run in the experiment's values."""
    where: KeyPath
    """Of what gives it its name."""
    run: RunConfig
    full: dict[str, Any]
    group: str
    cell: dict[str, Any]
    picks: Picks | None = None


def primaries(config: ExperimentConfig, tell: Tell, refuse: Refuse) -> list[Primary]:
    """The runs of the file, with the names of their groups."""
    if config.matrix is not None:
        return _of_matrix(config, config.matrix, tell, refuse)
    if config.runs is not None:
        return _of_runs(config.runs)
    assert config.run is not None
    full = run_in_full(config.run)
    return [Primary(("run",), ("run",), config.run, full, config.run.name or safe(full["algorithm"]["kind"]), {})]


def arms_of(config: ExperimentConfig, runs: Sequence[Primary], tell: Tell) -> list[PlannedArm]:
    """Runs with their repeats."""
    first, count = config.repeats.base_seed, config.repeats.n
    seeds = [[(one.run.seed if first is None else first) + i for i in range(count)] for one in runs]
    members = Counter(one.group for one in runs for _ in range(count))
    arms: list[PlannedArm] = []
    taken: dict[str, PlannedArm] = {}
    groups: dict[str, PlannedArm] = {}
    for one, own in zip(runs, seeds, strict=True):
        for seed in own:
            name = one.group if members[one.group] == 1 else f"{one.group}-s{seed}"
            run = one.run.model_copy(update={"name": name, "seed": seed})
            arm = PlannedArm(name, one.group, one.cell, run, arm_hash(config, run), one.place)
            if _check_name(arm, one.where, taken, tell) and groups.setdefault(arm.group, arm).cell != arm.cell:
                _tell_same_name(one.where, arm.group, tell)
            arms.append(arm)
    return arms


def _check_name(arm: PlannedArm, where: KeyPath, taken: dict[str, PlannedArm], tell: Tell) -> bool:
    """Whether no arm before it has its name."""
    if not _SAFE_NAME.fullmatch(arm.name):
        needed = "letters, digits, `.`, `_` and `-`, at most 100, and begins with one of the first two"
        tell(where, f"an arm's name has {needed}", found=shown(arm.name))
    elif arm.name.lower() in RESERVED:
        tell(where, "the name is reserved for the model before training", found=shown(arm.name))
    first = taken.setdefault(arm.name.lower(), arm)  # file systems may not tell capitals
    if first is not arm and first.config_hash == arm.config_hash:
        tell(where, "two arms are the same run", found=shown(arm.name), hint="keep one of them")
    elif first is not arm:
        _tell_same_name(where, arm.name, tell)
    return first is arm


def _tell_same_name(where: KeyPath, name: str, tell: Tell) -> None:
    tell(where, "two arms have the same name", found=shown(name), hint="give each a `name` of its own")


def _of_runs(runs: Sequence[RunConfig]) -> list[Primary]:
    fulls = [run_in_full(run) for run in runs]
    leaves = [dict(_leaves({k: v for k, v in full.items() if k not in ("name", "tags", SEED)})) for full in fulls]
    paths = list(dict.fromkeys(path for one in leaves for path in one))
    differing = [path for path in paths if any(one.get(path) != leaves[0].get(path) for one in leaves)]
    # What tells more about a run comes first, and names have no more than they need.
    differing.sort(key=lambda path: (path != "algorithm.kind", path != "model.name", path.count(".")))
    needed: list[str] = []
    distinct = 1
    for path in differing:
        with_it = len({repr([one.get(known) for known in (*needed, path)]) for one in leaves})
        if with_it > distinct:
            needed.append(path)
            distinct = with_it
    labels = names_of([{path: one.get(path) for path in needed} for one in leaves], "")
    return [
        Primary(
            ("runs", index),
            ("runs", index),
            run,
            full,
            run.name or label or safe(full["algorithm"]["kind"]),
            {path: own.get(path) for path in differing},
        )
        for index, (run, full, own, label) in enumerate(zip(runs, fulls, leaves, labels, strict=True))
    ]


def _of_matrix(config: ExperimentConfig, matrix: MatrixConfig, tell: Tell, refuse: Refuse) -> list[Primary]:
    empty = [path for path, values in matrix.axes.items() if not values]
    for path in empty:
        tell(("matrix", "axes", path), "an axis needs at least one value", found="[]")
    matrix = matrix.model_copy(update={"axes": {path: values for path, values in matrix.axes.items() if values}})
    cells = _cells(matrix, tell, refuse)
    axes = [path for path in matrix.axes if path != SEED]
    several = [path for path in axes if len({cell.picks[path] for cell in cells}) > 1]
    if matrix.name_template is not None:
        _check_template(matrix, cells, tell)
        base = matrix.base_run.name or config.name
        groups = [from_template(matrix.name_template, base, cell.full) for cell in cells]
    else:
        shown_values = [{path: _shown_value(matrix, cell, path) for path in several} for cell in cells]
        groups = [
            name or safe(cell.full["algorithm"]["kind"])
            for name, cell in zip(names_of(shown_values, matrix.base_run.name or ""), cells, strict=True)
        ]
    where: KeyPath = ("matrix", "name_template") if matrix.name_template is not None else ("matrix", "axes")
    return [
        Primary(("matrix", "base_run"), where, cell.run, cell.full, group, dict(_cell_values(matrix, cell)), cell.picks)
        for cell, group in zip(cells, groups, strict=True)
    ]


def _cell_values(matrix: MatrixConfig, cell: Cell) -> Iterator[tuple[str, Any]]:
    """The values on the axes as the run has them; of an axis of mappings, what each of them says."""
    for path in matrix.axes:
        if path == SEED:
            continue
        given = matrix.axes[path][cell.picks[path]]
        if isinstance(given, Mapping):
            inner = [f"{path}.{leaf}" for leaf, _ in _leaves(given)]
            yield from ((leaf, get(cell.full, parts(leaf))) for leaf in inner)
        else:
            yield path, get(cell.full, parts(path))


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        at = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, at)
        else:
            yield at, value


# Names.


def _shown_value(matrix: MatrixConfig, cell: Cell, path: str) -> Any:
    """What a name shows of an axis: the value, or its number if it is long."""
    value = get(cell.full, parts(path))
    return cell.picks[path] + 1 if isinstance(value, Mapping | list) else value


def _check_template(matrix: MatrixConfig, cells: Iterable[Cell], tell: Tell) -> None:
    known = {"base", SEED}.union(*(run_paths(cell.full) for cell in cells)) | set(matrix.axes)
    assert matrix.name_template is not None
    for name in PLACEHOLDER.findall(matrix.name_template):
        if name not in known and cells:
            tell(
                ("matrix", "name_template"),
                f"there is no {{{name}}}",
                found=shown(matrix.name_template),
                hint=suggestion(name, known),
            )
