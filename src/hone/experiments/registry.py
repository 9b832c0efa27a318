"""Plugins of one kind, by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.kinds.contract import Plugin

PluginT = TypeVar("PluginT", bound=Plugin[Any])


class Registry(Generic[PluginT]):
    """Built-ins first; plugins may add names, never replace one."""

    def __init__(
        self,
        base: type[Any],
        kind: str,
        built_ins: Mapping[str, type[PluginT]],
        discover: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            discover: Called before each look-up; whatever registers what installed packages bring.
        """
        self.kind = kind
        self._base = base
        self._built_ins = dict(built_ins)
        self._plugins: dict[str, type[PluginT]] = {}
        self._discover = discover

    def register(self, name: str) -> Callable[[type[PluginT]], type[PluginT]]:
        """A class decorator. The same class may come twice (its module was reloaded), another one may not.

        Raises:
            UserError: the name is taken, or the class does not keep the contract.
        """

        def add(plugin: type[PluginT]) -> type[PluginT]:
            self._check(name, plugin)
            found = self._built_ins.get(name) or self._plugins.get(name)
            if found is not None and _origin(found) != _origin(plugin):
                raise UserError(
                    f"two {self.kind} plugins are named {name!r}: {_origin(found)} and {_origin(plugin)}; rename one"
                )
            self._plugins[name] = plugin
            return plugin

        return add

    def _check(self, name: str, plugin: Any) -> None:
        if not inspect.isclass(plugin) or not issubclass(plugin, self._base):
            raise UserError(
                f"{plugin!r} cannot be the {self.kind} {name!r}: it is no subclass of {self._base.__name__}"
            )
        missing = ", ".join(sorted(getattr(plugin, "__abstractmethods__", ())))
        if missing:
            raise UserError(f"{_origin(plugin)} cannot be the {self.kind} {name!r}: it lacks {missing}")
        if not issubclass(vars(plugin).get("Params", Config), Config):
            raise UserError(f"{_origin(plugin)} has Params that are no `hone.algorithms.config.Config`")

    def names(self) -> list[str]:
        self._discover()
        return sorted({**self._built_ins, **self._plugins})

    def __iter__(self) -> Iterator[tuple[str, type[PluginT]]]:
        return iter((name, self.get(name)) for name in self.names())

    def __contains__(self, name: str) -> bool:
        return self._found(name) is not None

    def is_built_in(self, name: str) -> bool:
        return name in self._built_ins

    def get(self, name: str) -> type[PluginT]:
        """The plugin's class.

        Raises:
            UserError: there is none of this name; it lists those that there are, the nearest first.
        """
        found = self._found(name)
        if found is None:
            near = difflib.get_close_matches(name, self.names(), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"there is no {self.kind} {name!r}; {hint}there are {', '.join(self.names())}")
        return found

    def _found(self, name: str) -> type[PluginT] | None:
        if name in self._built_ins:
            return self._built_ins[name]
        self._discover()
        return self._plugins.get(name)

    def params(self, name: str, values: Mapping[str, Any]) -> Config:
        """The values as the plugin's own parameters.

        Raises:
            pydantic.ValidationError: they are not; each error has its place within `params`.
        """
        return self.get(name).Params.model_validate(dict(values))

    def make(self, name: str, values: Mapping[str, Any]) -> PluginT:
        """The plugin, ready to work.

        Raises:
            UserError: the name or a value is not known.
        """
        try:
            return self.get(name)(self.params(name, values))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise UserError(f"{self.kind} {name!r} cannot take its params: {problems}") from None


def _origin(plugin: type[Any]) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"
