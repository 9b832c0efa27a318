"""An experiment file to an experiment, or to everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hone.errors import UserError
from hone.experiments.config import ExperimentConfig
from hone.experiments.hashing import experiment_hash, resolved
from hone.experiments.kinds.plugins import load_plugins
from hone.experiments.layers import override, read_layers, with_defaults
from hone.experiments.problems import ConfigError, Problem, shown
from hone.experiments.tree import Node, from_values, key_text
from hone.experiments.validation import validate


@dataclass(frozen=True)
class LoadedExperiment:
    config: ExperimentConfig
    """As the file says it: `defaults` are under each run, parameters of plugins as they are written."""
    path: Path
    """The file; the home if a program made the experiment."""
    home: Path
    """Relative paths start here: the directory of the file."""
    resolved: dict[str, Any]
    """All values, with every default, as JSON."""
    config_hash: str
    tree: Node = field(repr=False, compare=False)
    """The values with the places where they were written."""

    def problem(
        self, key: Sequence[str | int], message: str, *, found: str | None = None, hint: str | None = None
    ) -> Problem:
        """One about a value of this experiment."""
        node, beyond = self.tree.at(tuple(key))
        place = node.place
        written = key_text((*place.path, *beyond))
        return Problem(file=place.file, line=place.line, key=written, message=message, found=found, hint=hint)


def load_experiment(
    path: Path, overrides: Sequence[str] = (), *, environ: Mapping[str, str] = os.environ
) -> LoadedExperiment:
    """Read it, layer by layer: files that it `extends`, the file, `overrides` (`a.b=value`), `defaults` under each run.

    Plugins that it names are imported before it is checked.

    Raises:
        ConfigError: with every problem.
        UserError: the file cannot be read.
    """
    top, problems = read_layers(path, environ)
    return _loaded(top, problems, overrides, environ, path, path.resolve().parent)


def experiment_from(values: Mapping[str, Any], home: Path, overrides: Sequence[str] = ()) -> LoadedExperiment:
    """The same from values that a program made.

    Raises:
        ConfigError: with every problem.
    """
    return _loaded(from_values(values), [], overrides, {}, home, home.resolve())


def _loaded(
    top: Node, problems: list[Problem], overrides: Sequence[str], environ: Mapping[str, str], path: Path, home: Path
) -> LoadedExperiment:
    if problems and not top.value:  # nothing could be read, so nothing can be missed in it
        raise ConfigError(problems)
    for setting in overrides:
        try:
            top = override(top, setting, environ)
        except ConfigError as error:
            problems += error.problems
    problems += _load_plugins(top, home)
    top = with_defaults(top)
    config, found = validate(top)
    problems += found
    if problems or config is None:
        raise ConfigError(problems)
    return LoadedExperiment(config, path, home, resolved(config), experiment_hash(config), top)


def _load_plugins(top: Node, home: Path) -> list[Problem]:
    assert isinstance(top.value, dict)
    listed = top.value.get("plugins")
    problems = []
    for node in listed.value if listed is not None and isinstance(listed.value, list) else []:
        if isinstance(node.value, str):
            try:
                load_plugins([node.value], home)
            except UserError as error:
                place = node.place
                problems.append(
                    Problem(
                        file=place.file,
                        line=place.line,
                        key=key_text(place.path),
                        message=str(error),
                        found=shown(node.value),
                    )
                )
    return problems
