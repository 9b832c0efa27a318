"""The eight registries, and the three ways into them from outside: a decorator, an entry point, `plugins:` in a file.

    @register_verifier("polite")
    class Polite(Verifier[PoliteParams]):
        Params = PoliteParams
        ...

A package announces its modules under `[project.entry-points."hone.experiments"]`; each is imported once, and what its
decorators name is there.
"""

from __future__ import annotations

import hashlib
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

_loaded = False
_digests: dict[str, str] = {}
"""Of the plugin files that are loaded, by module."""


def load_entry_points() -> None:
    """Import the plugins of every installed package, once: the first look-up does it. A broken one warns, and the
    others are there."""
    global _loaded
    if _loaded:
        return
    _loaded = True  # first, since plugins may look things up while they are imported
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"the plugins of {entry.value} cannot be loaded: {reason}", stacklevel=2)


sources: Registry[Source[Any]] = Registry(Source, "source", SOURCES, load_entry_points)
transforms: Registry[Transform[Any]] = Registry(Transform, "transform", TRANSFORMS, load_entry_points)
algorithms: Registry[Algorithm[Any]] = Registry(Algorithm, "algorithm", ALGORITHMS, load_entry_points)
backends: Registry[Backend[Any]] = Registry(Backend, "backend", BACKENDS, load_entry_points)
verifiers: Registry[Verifier[Any]] = Registry(Verifier, "verifier", VERIFIERS, load_entry_points)
metrics: Registry[Metric[Any]] = Registry(Metric, "metric", METRICS, load_entry_points)
stores: Registry[Store[Any]] = Registry(Store, "store", STORES, load_entry_points)
inference: Registry[Inference[Any]] = Registry(Inference, "inference", INFERENCE, load_entry_points)

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
        except (Exception, SystemExit) as error:
            raise UserError(f"the plugin {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _load_module(name: str, home: Path) -> None:
    beside = str(home.resolve())
    sys.path.insert(0, beside)
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(beside)
    if beside not in sys.path:
        sys.path.append(beside)  # for what the plugin imports when it works
    inside = Path(*name.split("."))
    wanted = [home.resolve() / inside.with_suffix(".py"), home.resolve() / inside / "__init__.py"]
    found = getattr(module, "__file__", None)
    if found is not None and any(file.is_file() for file in wanted) and Path(found).resolve() not in wanted:
        raise UserError(
            f"a module {name!r} is loaded already, from {found}; give the plugin another name, or name its file: "
            f"{inside.with_suffix('.py')}"
        )


def _load_file(path: Path) -> None:
    """Once, and again when it has changed."""
    if not path.is_file():
        raise UserError(f"the plugin file {path} does not exist")
    name = f"hone_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if name in sys.modules and _digests.get(name) == digest:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not by the loader, which takes compiled code for current by its time in seconds.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    _digests[name] = digest
