"""The eight registries, and the three ways into them from outside: a decorator, an entry point, `plugins:` in a file.

    @register_verifier("polite")
    class Polite(Verifier[PoliteParams]):
        Params = PoliteParams
        ...

A package announces its modules under `[project.entry-points."hone.experiments"]`; each is imported once, and what its
decorators name is there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hone.errors import UserError
from hone.experiments.kinds.algorithms import ALGORITHMS
from hone.experiments.kinds.backends import BACKENDS
from hone.experiments.kinds.contract import (
    Algorithm,
    Backend,
    Inference,
    Metric,
    Source,
    Store,
    Transform,
    Verifier,
)
from hone.experiments.kinds.inference import INFERENCE
from hone.experiments.kinds.metrics import METRICS
from hone.experiments.kinds.sources import SOURCES
from hone.experiments.kinds.stores import STORES
from hone.experiments.kinds.transforms import TRANSFORMS
from hone.experiments.kinds.verifiers import VERIFIERS
from hone.experiments.registry import Registry

ENTRY_POINTS = "hone.experiments"

sources: Registry[Source[Any]] = Registry("source", SOURCES)
transforms: Registry[Transform[Any]] = Registry("transform", TRANSFORMS)
algorithms: Registry[Algorithm[Any]] = Registry("algorithm", ALGORITHMS)
backends: Registry[Backend[Any]] = Registry("backend", BACKENDS)
verifiers: Registry[Verifier[Any]] = Registry("verifier", VERIFIERS)
metrics: Registry[Metric[Any]] = Registry("metric", METRICS)
stores: Registry[Store[Any]] = Registry("store", STORES)
inference: Registry[Inference[Any]] = Registry("inference", INFERENCE)

REGISTRIES: dict[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (sources, transforms, algorithms, backends, verifiers, metrics, stores, inference)
}

register_source = sources.register
register_transform = transforms.register
register_algorithm = algorithms.register
register_backend = backends.register
register_verifier = verifiers.register
register_metric = metrics.register
register_store = stores.register
register_inference = inference.register


def load_entry_points() -> None:
    """Import the plugins of every installed package. A broken one warns, and the others are there."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:
            warnings.warn(f"the plugins of {entry.value} cannot be loaded: {error}", stacklevel=2)


def load_plugins(names: Sequence[str], home: Path) -> None:
    """Import modules that an experiment file names: dotted names, looked for beside the file first, or files.

    Raises:
        UserError: one is not there, or fails while it is imported.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _load_file((home / name).resolve())
            else:
                _load_module(name, home)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"the plugin {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _load_module(name: str, home: Path) -> None:
    beside = str(home.resolve())
    sys.path.insert(0, beside)
    try:
        importlib.import_module(name)
    finally:
        sys.path.remove(beside)


def _load_file(path: Path) -> None:
    name = f"hone_plugin_{abs(hash(path))}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"the plugin file {path} does not exist")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
