"""Plugins: a page for each registry, with every built-in kind."""

from __future__ import annotations

import inspect

from docs.generate.markdown import fenced, parameter_table, sentence, table
from hone.experiments.explain import built_in_kinds, explain_plugin, first_sentence
from hone.experiments.kinds import contract
from hone.experiments.kinds.plugins import REGISTRIES

MEANINGS = {
    "source": "where rows come from",
    "transform": "rows to rows, before they are parsed",
    "algorithm": "how a model learns",
    "backend": "the service to train on",
    "verifier": "how good an answer is, in training and evaluation alike",
    "metric": "one number for many tasks",
    "store": "another place that wants the results",
    "inference": "other models to ask the questions of a benchmark",
}


HEAD = """# Plugins

Where an experiment file has `{kind, params}`, one of these stands. `hone explain REGISTRY KIND` prints what the
pages say, and knows the plugins of installed packages and of your project too.
[How to write one](../guides/plugins.md)."""


def index() -> str:
    rows = [
        (
            f"[{registry}](plugins/{registry}.md)",
            MEANINGS[registry],
            ", ".join(f"`{kind}`" for kind in built_in_kinds(registry)),
        )
        for registry in REGISTRIES
    ]
    return f"{HEAD}\n\n{table(('registry', 'what', 'built in'), rows)}"


def page(registry: str) -> str:
    parts = [
        f"# {registry.capitalize()}",
        f"{sentence(MEANINGS[registry])} Back to [all registries](../plugins.md).",
    ]
    promise = getattr(contract, registry.capitalize())
    methods = [
        (f"`{name}{_signature(method)}`", first_sentence(inspect.cleandoc(method.__doc__ or "")))
        for name, method in vars(promise).items()
        if inspect.isfunction(method)
    ]
    parts += ["What one of your own has to have, beside `Params`:", table(("method", "what"), methods)]
    for kind in built_in_kinds(registry):
        found = explain_plugin(registry, kind)
        facts = "; ".join(f"{name}: `{value}`" for name, value in found.facts.items())
        parts += [f"## {kind}", found.about]
        parts += [sentence(facts)] if facts else []
        parts += [parameter_table(found.params) if found.params else "It has no params."]
        parts += [fenced("yaml fragment", found.example)]
    return "\n\n".join(parts)


def _signature(method: object) -> str:
    assert callable(method)
    names = [name for name in inspect.signature(method).parameters if name != "self"]
    return f"({', '.join(names)})"
