"""An experiment's values against the schema, the plugins and each other: every problem in one go."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hone.algorithms.config import Config
from hone.experiments import matrix
from hone.experiments.config import ExperimentConfig, HypothesisConfig, RunConfig, Spec
from hone.experiments.fields import (
    FREE,
    SpecPlace,
    get,
    models_in,
    parts,
    put,
    registry_of,
    run_paths,
    specs_in,
    types_in,
    values_in,
)
from hone.experiments.kinds.plugins import REGISTRIES
from hone.experiments.matrix import PlannedArm, Tell
from hone.experiments.problems import Problem, nearest, shown, suggestion
from hone.experiments.tree import KeyPath, Node, key_text

UNKNOWN = "unknown key"

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "list_type": "a list",
}
"""By pydantic's kinds of errors; what is not here is told in its words."""


def validate(top: Node) -> tuple[ExperimentConfig | None, list[Problem]]:
    """The experiment, if there is no problem; plugins are loaded already."""
    found = _Found(top)
    values = top.plain()
    config = _against_model(ExperimentConfig, values, (), found.tell)
    axes = _axes(values)
    for place in specs_in(ExperimentConfig, values):
        if not _touched(place.path, axes):
            _check_plugin(place, found.tell)
    if config is not None:
        _check_arms(config, found)
    return (None if found.problems else config), found.problems


class _Found:
    """Problems, each with the place of its values."""

    def __init__(self, top: Node) -> None:
        self.problems: list[Problem] = []
        self._told: set[Problem] = set()
        self._top = top

    def tell(self, path: KeyPath, message: str, *, found: str | None = None, hint: str | None = None) -> None:
        node, beyond = self._top.at(path)
        place = node.place
        key = key_text((*place.path, *beyond))
        problem = Problem(file=place.file, line=place.line, key=key, message=message, found=found, hint=hint)
        # Combinations of a matrix tell the same again, some with another hint.
        told = problem.model_copy(update={"hint": None})
        if told not in self._told:
            self._told.add(told)
            self.problems.append(problem)


# One model.


def _against_model(model: type[Config], values: Any, path: KeyPath, tell: Tell) -> Any:
    """The model made of the values; without those of them that are wrong, after telling what is wrong with them.

    A model's own check runs only where all its fields are right. So what was told is taken away, and what is left
    is asked again, until nothing new is found. None if too little is left.
    """
    for at in _truths(model, values):
        tell((*path, *at), "must be a number", found=shown(get(values, at)))
    left = copy.deepcopy(values)
    removed: set[KeyPath] = set()
    while True:
        try:
            return model.model_validate(left)
        except ValidationError as error:
            wrong = _explained(error.errors(), model, left)
        for at, message, found, hint in wrong:
            if not any(_follows(at, message, gone, model) for gone in removed):
                tell((*path, *at), message, found=found, hint=hint)
        new = {_removable(left, at) for at, *_ in wrong} - removed
        if () in new and model is ExperimentConfig and "name" not in left:
            left["name"] = "nameless"  # so that the rest can be looked at
            new.discard(())
        elif not new or () in new:
            return None
        for at in new:
            _remove(left, at)
        removed |= new


def _follows(at: KeyPath, message: str, gone: KeyPath, model: type[Config]) -> bool:
    """Whether a problem is there only because a value was taken away: it misses it, or speaks of it."""
    meant = nearest(str(gone[-1]), _names(model, gone[:-1])) or gone[-1]
    return at in (gone, (*gone[:-1], meant)) or (at == gone[:-1] and str(meant) in message)


Explained = tuple[KeyPath, str, str | None, str | None]
"""Path, message, what was found, hint."""


def _explained(details: list[ErrorDetails], model: type[Config], values: Any) -> list[Explained]:
    result: list[Explained] = []
    unions: dict[KeyPath, list[str]] = {}
    located = [(*_located(one, values), one) for one in details]
    meant = {
        (*at[:-1], nearest(str(at[-1]), _names(model, at[:-1])))
        for at, _, one in located
        if one["type"] == "extra_forbidden"
    }
    for at, branch, one in located:
        kind, found = one["type"], shown(one["input"])
        if branch and (kind in _WANTED or kind == "literal_error"):
            if not isinstance(get(values, at), Mapping):  # else what is wrong within the mapping is told
                unions.setdefault(at, []).append(_wanted(one).removeprefix("be "))
        elif kind == "missing":
            if at not in meant:
                result.append((at, "is needed and not there", None, None))
        elif kind == "extra_forbidden":
            result.append((at, UNKNOWN, shown(at[-1]), _hint_for_key(str(at[-1]), model, values, at[:-1])))
        elif kind == "value_error":
            result.append((at, str(one["ctx"]["error"]), None, None))
        else:
            choices = re.findall("'([^']*)'", str(one["ctx"]["expected"])) if kind == "literal_error" else []
            near = nearest(str(one["input"]), choices)
            result.append((at, f"must {_wanted(one)}", found, f"did you mean {near!r}?" if near else None))
    for at, wanted in unions.items():
        result.append((at, f"must be {' or '.join(dict.fromkeys(wanted))}", shown(get(values, at)), None))
    return result


def _wanted(error: ErrorDetails) -> str:
    """What stands after "must"."""
    if error["type"] in _WANTED:
        return f"be {_WANTED[error['type']]}"
    return error["msg"].partition(" should ")[2] or f"be other: {error['msg']}"


def _located(error: ErrorDetails, values: Any) -> tuple[KeyPath, bool]:
    """The path of an error among the values, and whether it is about one of several types that the value may have
    (pydantic puts their names into the path)."""
    at: list[str | int] = []
    branch = False
    for index, part in enumerate(error["loc"]):
        last = index == len(error["loc"]) - 1
        inside = isinstance(values, Mapping) and part in values
        inside = inside or (isinstance(values, list) and isinstance(part, int) and part < len(values))
        if inside:
            values = values[part]
            at.append(part)
            branch = False
        elif last and error["type"] == "missing":
            at.append(part)
        else:
            branch = True
    return tuple(at), branch


def _names(model: type[Config], at: KeyPath) -> list[str]:
    return [name for one in _models_at(model, at) for name in one.model_fields]


def _models_at(model: type[Config], at: KeyPath) -> list[type[Config]]:
    """What may stand at a path."""
    models = [model]
    for part in at:
        if isinstance(part, str):
            fields = [one.model_fields[part] for one in models if part in one.model_fields]
            models = [inner for field in fields for inner in models_in(field.annotation)]
    return models


def _hint_for_key(key: str, model: type[Config], values: Any, above: KeyPath) -> str | None:
    names = _names(model, above)
    near = nearest(key, names)
    if near is not None:
        return f"did you mean {near!r}?"
    for spec in _models_at(model, above):
        if issubclass(spec, Spec):
            registry = registry_of(next((part for part in reversed(above) if isinstance(part, str)), ""), spec)
            kind = get(values, (*above, "kind"))
            if registry is not None and isinstance(kind, str) and kind in REGISTRIES[registry]:
                params = list(REGISTRIES[registry].get(kind).Params.model_fields)
                meant = key if key in params else nearest(key, params)
                if meant is not None:
                    return f"what a plugin is told stands in `params`: did you mean `params.{meant}`?"
    if model is ExperimentConfig and not above and key in RunConfig.model_fields:
        return f"it belongs to a run: `run.{key}`, `matrix.base_run.{key}`, or `defaults.{key}`"
    if key in ExperimentConfig.model_fields and above:
        return "it belongs to the top of the file"
    return suggestion(key, names)


def _truths(model: type[Config], values: Any) -> Iterator[KeyPath]:
    """Where true or false stands in place of a number; pydantic would take it as 1 or 0."""
    for at, field, value in values_in(model, values):
        if isinstance(value, bool):
            taken = types_in(field.annotation)
            if (int in taken or float in taken) and bool not in taken and Any not in taken:
                yield at


def _removable(values: Any, at: KeyPath) -> KeyPath:
    """The innermost key of a mapping at or above the path that is there; taking list items would move the others."""
    while at and not (isinstance(above := get(values, at[:-1]), Mapping) and at[-1] in above):
        at = at[:-1]
    return at


def _remove(values: Any, at: KeyPath) -> None:
    above = get(values, at[:-1])
    if isinstance(above, dict):
        above.pop(at[-1], None)


# Plugins.


def _check_plugin(place: SpecPlace, tell: Tell) -> None:
    kind = place.kind
    if not isinstance(kind, str):
        return  # the schema has told
    registry = REGISTRIES[place.registry]
    at: KeyPath = (*place.path, "kind") if isinstance(place.value, Mapping) else place.path
    if kind not in registry:
        tell(at, f"there is no {place.registry} {kind!r}", hint=suggestion(kind, registry.names()))
    elif isinstance(place.params, Mapping):

        def told(path: KeyPath, message: str, *, found: str | None = None, hint: str | None = None) -> None:
            whose = f"{message} of {place.registry} {kind!r}" if message == UNKNOWN else message
            tell(path, whose, found=found, hint=hint)

        _against_model(registry.get(kind).Params, dict(place.params), (*place.path, FREE), told)


def _axes(values: Any) -> list[KeyPath]:
    axes = get(values, ("matrix", "axes"))
    return [parts(str(path)) for path in axes] if isinstance(axes, Mapping) else []


def _touched(at: KeyPath, axes: list[KeyPath]) -> bool:
    """Whether it is for the combinations to say what stands here."""
    base = ("matrix", "base_run")
    own = at[2:]
    return at[:2] == base and any(axis[: len(own)] == own or own[: len(axis)] == axis for axis in axes)


# Arms.


def _check_arms(config: ExperimentConfig, found: _Found) -> None:
    axes = config.matrix.axes if config.matrix is not None else {}
    base = config.matrix.base_run.model_dump(mode="json") if config.matrix is not None else {}

    def refuse(picks: matrix.Picks, values: Any, error: Exception) -> None:
        if isinstance(error, ValidationError):
            told = _of_combination(axes, picks, values, found.tell)
            _against_model(RunConfig, values, (), told)
            _check_plugins(values, axes, told)
        else:
            for path in axes:
                _check_reachable(path, base, found.tell)

    runs = matrix.primaries(config, found.tell, refuse)
    for one in runs:
        if one.picks is not None:
            values = matrix.values_of(base, axes, one.picks)
            _check_plugins(values, axes, _of_combination(axes, one.picks, values, found.tell))
    if not found.problems:  # names may collide because of what was taken away
        arms = matrix.arms_of(config, runs, found.tell)
        _check_references(config, arms, found.tell)


def _check_plugins(values: Any, axes: Mapping[str, Any], tell: Tell) -> None:
    """Those of a combination's plugins that the axes have to do with."""
    for place in specs_in(RunConfig, values):
        if _touched(("matrix", "base_run", *place.path), [parts(path) for path in axes]):
            _check_plugin(place, tell)


def _of_combination(axes: Mapping[str, Any], picks: matrix.Picks, values: Any, tell: Tell) -> Tell:
    """Tells of a place in a combination's run as one in the axis that it comes from, or in the base run."""

    def told(path: KeyPath, message: str, *, found: str | None = None, hint: str | None = None) -> None:
        unknown = message.startswith(UNKNOWN)
        for axis in axes:
            own = parts(axis)
            if unknown and own[: len(path)] == path:
                return tell(
                    ("matrix", "axes", axis), message, found=found, hint=_hint_for_axis(axis, axes, values) or hint
                )
            if path[: len(own)] == own:
                if axis not in picks:  # it has no values, which is told
                    return None
                return tell(("matrix", "axes", axis, picks[axis], *path[len(own) :]), message, found=found, hint=hint)
        return tell(("matrix", "base_run", *path), message, found=found, hint=hint)

    return told


def _hint_for_axis(axis: str, axes: Iterable[str], values: Any) -> str | None:
    """A path whose last part is alike; or what to do about parameters that only some kinds have."""
    known = sorted(path for path in run_paths(values) if not path.endswith(f".{FREE}"))
    last = nearest(axis.rpartition(".")[2], {path.rpartition(".")[2] for path in known})
    if last is not None:
        alike = [path for path in known if path.rpartition(".")[2] == last]
        return f"did you mean {nearest(axis, alike) or alike[0]!r}?"
    spec, _, param = axis.partition(f".{FREE}.")
    if not param:
        near = nearest(axis, known)
        return f"did you mean {near!r}?" if near else None
    kind = f"{spec}.kind"
    if kind not in axes:
        return None
    named = get(values, parts(kind))
    return f"`where` can leave out the combinations that have no use for it: `{kind} != {named!r}`"


def _check_reachable(path: str, base: Mapping[str, Any], tell: Tell) -> None:
    try:
        put(copy.deepcopy(dict(base)), parts(path), None)
    except KeyError as error:
        part = error.args[0]
        tell(
            ("matrix", "axes", path), f"the path leads to {part!r} in something that has no such key", found=shown(path)
        )


def _check_references(config: ExperimentConfig, arms: list[PlannedArm], tell: Tell) -> None:
    """What one part of the file says about another."""
    _check_unique("benchmarks", [one.name for one in config.benchmarks], tell)
    _check_test_side(config, arms, tell)
    stages = config.continual.stages if config.continual is not None else []
    _check_unique("continual.stages", [one.name for one in stages], tell)
    benchmarks = [one.name for one in config.benchmarks]
    for index, stage in enumerate(stages):
        if stage.benchmark is not None and stage.benchmark not in benchmarks:
            at: KeyPath = ("continual", "stages", index, "benchmark")
            tell(
                at,
                "there is no such benchmark",
                found=shown(stage.benchmark),
                hint=suggestion(stage.benchmark, benchmarks),
            )
    for arm in arms:
        _check_run(arm.run, arm.place, config, tell)
    if isinstance(config.hypothesis, HypothesisConfig):
        _check_hypothesis(config.hypothesis, arms, tell)
    if config.budget.arms is not None and len(arms) > config.budget.arms:
        tell(("budget", "arms"), f"{len(arms)} arms are planned, more than the budget", found=str(config.budget.arms))


def _check_test_side(config: ExperimentConfig, arms: list[PlannedArm], tell: Tell) -> None:
    """The test side of a split is a benchmark, and has a name."""
    datas = [arm.run.data for arm in arms]
    datas += [stage.data for stage in config.continual.stages] if config.continual is not None else []
    if any(data is not None and data.split is not None and data.split.test for data in datas):
        for index, one in enumerate(config.benchmarks):
            if one.name == "test":
                message = "the test side of the split is called so; it is a benchmark too"
                tell(("benchmarks", index, "name"), message, found=shown(one.name))


def _check_unique(path: str, names: list[str], tell: Tell) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            tell((*path.split("."), index, "name"), "the name is there already", found=shown(name))


def _check_run(run: RunConfig, at: KeyPath, config: ExperimentConfig, tell: Tell) -> None:
    if run.data is None and config.continual is None:
        tell(
            at,
            "has no `data`",
            hint="say where its rows come from: `data: {source: {kind: jsonl, params: {path: ...}}}`",
        )
    if run.data is not None and config.continual is not None:
        tell((*at, "data"), "the stages of `continual` have data of their own", hint="take this away")
    halving = run.stop.halving
    if halving is None:
        return
    rungs: KeyPath = (*at, "stop", "halving", "rungs")
    if sorted(set(halving.rungs)) != halving.rungs:
        tell(rungs, "must rise", found=shown(halving.rungs))
    every = run.validation.every
    if every == 0 or any(rung % every for rung in halving.rungs):
        tell(rungs, f"must be multiples of `validation.every`, which is {every}", found=shown(halving.rungs))


def _check_hypothesis(claim: HypothesisConfig, arms: list[PlannedArm], tell: Tell) -> None:
    """Whether runs have what its sides speak of."""
    known = set().union(*(run_paths(arm.run.model_dump(mode="json")) | arm.cell.keys() for arm in arms))
    sides = [
        (side, path) for side in ("better", "than") if isinstance(paths := getattr(claim, side), dict) for path in paths
    ]
    for side, path in sides:
        if path not in known:
            tell(("hypothesis", side, path), UNKNOWN, found=shown(path), hint=suggestion(path, known))
