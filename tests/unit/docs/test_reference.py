"""The reference pages are what the code says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate import pages
from hone.cli.main import COMMANDS
from hone.experiments.explain import built_in_kinds, explain_plugin
from hone.experiments.kinds.plugins import REGISTRIES

BUILT_IN = [(registry, kind) for registry in REGISTRIES for kind in built_in_kinds(registry)]


def test_no_page_is_stale() -> None:
    assert pages.stale() == [], "run `make docs`"


def test_a_page_that_drifts_is_found_and_made_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "REFERENCE", tmp_path)
    assert set(pages.write()) == set(pages.pages())
    assert pages.stale() == []
    (tmp_path / "settings.md").write_text("old")
    (tmp_path / "removed.md").write_text("about nothing")
    assert pages.stale() == ["removed.md", "settings.md"]
    assert pages.write() == ["removed.md", "settings.md"]
    assert pages.stale() == []


def test_every_command_has_a_section() -> None:
    text = pages.pages()["commands.md"]
    assert [name for name in COMMANDS if f"\n## hone {name}\n" not in text] == []


@pytest.mark.parametrize(("registry", "kind"), BUILT_IN)
def test_built_in_plugins_explain_themselves(registry: str, kind: str) -> None:
    found = explain_plugin(registry, kind)
    assert found.about
    assert [one.name for one in found.params if not one.description and one.type != "object"] == []


@pytest.mark.parametrize(("registry", "kind"), BUILT_IN)
def test_examples_can_be_used(registry: str, kind: str) -> None:
    def specs(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if value.get("kind") == kind:
                yield value
            for inner in value.values():
                yield from specs(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from specs(inner)

    found = list(specs(yaml.safe_load(explain_plugin(registry, kind).example)))
    assert found
    REGISTRIES[registry].params(kind, found[-1].get("params", {}))
