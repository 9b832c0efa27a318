"""`hone explain`: what can be written in an experiment file, from the code that reads it.

hone explain                        the registries and what is in them
hone explain algorithm              one registry
hone explain algorithm grpo         one plugin: parameters, types, defaults, an example
hone explain config                 the parts of the experiment file
hone explain config run.data        one part
"""

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from hone.cli.schema import add_plugins_argument

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hone.experiments.explain import Explanation, Parameter, Section

WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "registry", nargs="?", help="source, transform, algorithm, backend, verifier, metric, store, inference, config"
    )
    parser.add_argument("kind", nargs="?", help="a plugin of the registry, or a part of the file, such as run.data")
    add_plugins_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from hone.experiments.kinds.plugins import load_entry_points, load_plugins

    load_entry_points()
    load_plugins(args.plugins, Path.cwd())
    if args.registry is None:
        _overview(args.json)
    elif args.registry == "config":
        _config(args.kind, args.json)
    elif args.kind is None:
        _registry(args.registry, args.json)
    else:
        _plugin(args.registry, args.kind, args.json)
    return 0


def _overview(as_json: bool) -> None:
    from hone.experiments.explain import kinds_of
    from hone.experiments.kinds.plugins import REGISTRIES

    found = {registry: kinds_of(registry) for registry in REGISTRIES}
    if as_json:
        print(json.dumps({"registries": found}))
        return
    for registry, kinds in found.items():
        print(f"{registry}: {', '.join(kinds) or 'none'}")
    print("\n`hone explain REGISTRY [KIND]` tells more, `hone explain config` the parts of the experiment file.")


def _registry(registry: str, as_json: bool) -> None:
    from hone.experiments.explain import kinds_of

    kinds = kinds_of(registry)
    if as_json:
        print(json.dumps({"registry": registry, "kinds": kinds}))
        return
    width = max(map(len, kinds), default=0)
    for name, sentence in kinds.items():
        print(f"{name:<{width}}  {sentence}".rstrip())


def _plugin(registry: str, kind: str, as_json: bool) -> None:
    from hone.experiments.explain import explain_plugin

    found = explain_plugin(registry, kind)
    if as_json:
        print(found.model_dump_json())
    else:
        print("\n".join(_plugin_lines(found)))


def _plugin_lines(found: "Explanation") -> "Iterable[str]":
    yield f"{found.registry} {found.kind}{'' if found.built_in else ' (a plugin)'}"
    if found.about:
        yield textwrap.indent(found.about, "  ")
    yield from ("", *(f"  {name}: {value}" for name, value in found.facts.items())) if found.facts else ()
    yield ""
    yield "params" if found.params else "It has no params."
    for param in found.params:
        yield from _parameter_lines(param)
    yield from ("", "example", textwrap.indent(found.example.rstrip(), "  "))


def _config(path: str | None, as_json: bool) -> None:
    from hone.experiments.explain import Sections, config_section, explain_config

    sections = explain_config() if path is None else [config_section(path)]
    if as_json:
        print(Sections(sections=sections).model_dump_json())
        return
    print("\n\n".join("\n".join(_section_lines(section)) for section in sections))


def _section_lines(section: "Section") -> "Iterable[str]":
    yield section.path or "the experiment file"
    yield from textwrap.wrap(" ".join(section.about.split()), WIDTH, initial_indent="  ", subsequent_indent="  ")
    for key in section.keys:
        yield from _parameter_lines(key)


def _parameter_lines(param: "Parameter") -> "Iterable[str]":
    need = "required" if param.required else "" if param.default is None else f"default {_plain(param.default)}"
    yield f"  {param.name}  {param.type}{f'; {need}' if need else ''}"
    yield from textwrap.wrap(param.description, WIDTH, initial_indent="      ", subsequent_indent="      ")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
