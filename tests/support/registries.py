"""Registries as they were: what a test adds is gone after it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hone.experiments.kinds.plugins import REGISTRIES


@contextmanager
def own_plugins() -> Iterator[None]:
    before = {name: dict(registry._plugins) for name, registry in REGISTRIES.items()}
    modules = set(sys.modules)
    try:
        yield
    finally:
        for name, registry in REGISTRIES.items():
            registry._plugins = before[name]
        for module in set(sys.modules) - modules:
            if module.startswith("hone_plugin_"):
                del sys.modules[module]
