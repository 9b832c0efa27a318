"""What may stand where in an experiment's values, read off the models: plugins, dotted paths, parameters in full.

A field whose type is a `Spec` names a plugin: of the registry that the type says, or that the field is called after
(`source`, `transforms`, `verifier`). That goes for parameters of plugins too.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from hone.algorithms.config import Config
from hone.experiments.config import RunConfig, Spec
from hone.experiments.kinds.metrics import metric_spec
from hone.experiments.kinds.plugins import REGISTRIES
from hone.experiments.tree import KeyPath

FREE = "params"


@dataclass(frozen=True)
class SpecPlace:
    """A `{kind, params}`, or a kind alone, among raw values."""

    path: KeyPath
    registry: str
    value: Any
    model: type[Spec]
    """Its defaults."""

    @property
    def kind(self) -> Any:
        if isinstance(self.value, Mapping):
            return self.value.get("kind", self.model.model_fields["kind"].default)
        return self._short.kind if self._short else self.value

    @property
    def params(self) -> Any:
        if isinstance(self.value, Mapping):
            return self.value.get(FREE) or {}
        return self._short.params if self._short else {}

    @property
    def _short(self) -> Spec | None:
        """What a metric's name stands for, such as `pass@4`."""
        return metric_spec(self.value) if self.registry == "metric" and isinstance(self.value, str) else None


def registry_of(field: str, spec: type[Spec] = Spec) -> str | None:
    """The registry that a field's plugins are from."""
    return spec.registry or (field if field in REGISTRIES else field[:-1] if field[:-1] in REGISTRIES else None)


def types_in(annotation: Any) -> list[Any]:
    """The types that a field takes, with unions, lists and constraints opened; `dict` stays."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return types_in(get_args(annotation)[0])
    if origin in (Union, types.UnionType, list):
        return [one for part in get_args(annotation) for one in types_in(part)]
    return [annotation]


def models_in(annotation: Any) -> list[type[Config]]:
    return [one for one in types_in(annotation) if isinstance(one, type) and issubclass(one, Config)]


@dataclass(frozen=True)
class _Field:
    """What `specs_in` asks of a model's field, found out once."""

    name: str
    models: tuple[type[Config], ...]
    spec: type[Spec] | None
    registry: str | None


@cache
def _fields(model: type[Config]) -> tuple[_Field, ...]:
    """Those that hold models."""
    found = []
    for name, field in model.model_fields.items():
        models = tuple(models_in(field.annotation))
        spec = next((one for one in models if issubclass(one, Spec)), None)
        if models:
            found.append(_Field(name, models, spec, registry_of(name, spec) if spec is not None else None))
    return tuple(found)


def specs_in(model: type[Config], values: Any, path: KeyPath = ()) -> Iterator[SpecPlace]:
    """Every place of a plugin in raw values of a model, also in the parameters of plugins that exist."""
    if not isinstance(values, Mapping):
        return
    for field in _fields(model):
        if values.get(field.name) is None:
            continue
        for at, value in _items(values[field.name], (*path, field.name)):
            if field.registry is None or field.spec is None:
                for one in field.models:
                    yield from specs_in(one, value, at)
            elif isinstance(value, Mapping | str):
                found = SpecPlace(at, field.registry, value, field.spec)
                yield found
                yield from _inside(found)


def _inside(found: SpecPlace) -> Iterator[SpecPlace]:
    kind = found.kind
    if isinstance(kind, str) and kind in REGISTRIES[found.registry]:
        yield from specs_in(REGISTRIES[found.registry].get(kind).Params, found.params, (*found.path, FREE))


def _items(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, list):
        yield from (((*path, index), one) for index, one in enumerate(value))
    else:
        yield path, value


def values_in(model: type[Config], values: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo, Any]]:
    """Every value of a model's fields with its field, list items one by one, models opened."""
    if not isinstance(values, Mapping):
        return
    for name, field in model.model_fields.items():
        if name in values:
            for at, value in _items(values[name], (*path, name)):
                yield at, field, value
                for one in models_in(field.annotation):
                    yield from values_in(one, value, at)


def in_full(model: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    """Dumped values of a model with the parameters of every plugin as the plugin reads them: typed, defaults and all.

    Parameters that their plugin refuses stay as they are; `loading` has told about them.
    """
    full = copy.deepcopy(values)
    for found in list(specs_in(model, full)):
        if found.kind in REGISTRIES[found.registry]:
            try:
                params = REGISTRIES[found.registry].params(found.kind, found.params).model_dump(mode="json")
            except ValidationError:
                continue
            put(full, found.path, {"kind": found.kind, FREE: params})
    return full


def known_paths(model: type[Config], values: Any, path: KeyPath = ()) -> set[str]:
    """The dotted paths that values may have; parameters are those of the kinds that the values name."""
    paths: set[str] = set()
    for name, field in model.model_fields.items():
        at = (*path, name)
        paths.add(".".join(map(str, at)))
        value = values.get(name) if isinstance(values, Mapping) else None
        for one in models_in(field.annotation):
            for place, item in _items(value, at):
                paths |= known_paths(one, item, place)
                registry = registry_of(name, one) if issubclass(one, Spec) else None
                if issubclass(one, Spec) and registry is not None:
                    kind = SpecPlace(place, registry, item or {}, one).kind
                    if isinstance(kind, str) and kind in REGISTRIES[registry]:
                        params = REGISTRIES[registry].get(kind).Params
                        inner = item.get(FREE) if isinstance(item, Mapping) else None
                        paths |= known_paths(params, inner, (*place, FREE))
    return paths


def run_paths(values: Any) -> set[str]:
    """Of a run."""
    return known_paths(RunConfig, values)


def parts(path: str) -> KeyPath:
    """`data.transforms.0.kind` or `data.transforms[0].kind`"""
    pieces = path.replace("[", ".").replace("]", "").split(".")
    return tuple(int(piece) if piece.isdecimal() else piece for piece in pieces)


def get(values: Any, path: KeyPath) -> Any:
    """The value there; None if there is none."""
    for part in path:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def put(values: Any, path: KeyPath, value: Any) -> None:
    """Set it there, in place; mappings that are missing on the way are made.

    Raises:
        KeyError: the path leads through something that has no such key.
    """
    for part in path[:-1]:
        if isinstance(values, dict):
            if values.get(str(part)) is None:
                values[str(part)] = {}
            values = values[str(part)]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            raise KeyError(part)
    last = path[-1]
    if isinstance(values, dict):
        values[str(last)] = value
    elif isinstance(values, list) and isinstance(last, int) and last < len(values):
        values[last] = value
    else:
        raise KeyError(last)
