from pathlib import Path
from typing import Any

import pytest

from hone.errors import UserError
from hone.experiments.layers import merge, override, read_layers, with_defaults
from hone.experiments.problems import ConfigError
from hone.experiments.tree import Node, from_values


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def layered(path: Path, **environ: str) -> tuple[Node, list[str]]:
    top, problems = read_layers(path, environ)
    return top, [str(one).replace(f"{path.parent}/", "") for one in problems]


def setting(values: dict[str, Any], text: str) -> Any:
    return override(from_values(values), text, {}).plain()


def test_a_file_lies_on_top_of_those_it_extends(tmp_path: Path) -> None:
    write(
        tmp_path,
        low="name: low\nbudget: {tokens: 1, arms: 2}\ntags: [low]\n",
        high="extends: low.yaml\nname: high\nbudget: {tokens: 3}\ntags: [high]\n",
    )
    top, problems = layered(tmp_path / "high.yaml")
    assert problems == []
    assert top.plain() == {"name": "high", "budget": {"tokens": 3, "arms": 2}, "tags": ["high"]}


def test_of_several_the_last_one_wins_and_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    write(tmp_path / "shared", a="description: a\nname: a\n", b="extends: a.yaml\nname: b\n", c="name: c\n")
    write(tmp_path, top="extends: [shared/b.yaml, shared/c.yaml]\n")
    top, problems = layered(tmp_path / "top.yaml")
    assert problems == []
    assert top.plain() == {"description": "a", "name": "c"}
    assert top.at(("description",))[0].place.file == str(tmp_path / "shared" / "a.yaml")


def test_places_point_into_the_file_that_says_it(tmp_path: Path) -> None:
    write(tmp_path, low="# a comment\nbudget:\n  tokens: 1\n", high="extends: low.yaml\nbudget:\n  arms: 2\n")
    top, _ = layered(tmp_path / "high.yaml")
    places = [top.at(("budget", key))[0].place for key in ("tokens", "arms")]
    assert [(Path(place.file or "").name, place.line) for place in places] == [("low.yaml", 3), ("high.yaml", 3)]


def test_cycles_are_refused_with_their_place(tmp_path: Path) -> None:
    write(tmp_path, a="name: a\nextends: b.yaml\n", b="extends: [a.yaml]\n")
    _, problems = layered(tmp_path / "a.yaml")
    (told,) = problems
    assert told.startswith("b.yaml:1: extends[0]: b.yaml is extended by the file that it extends")


def test_the_same_file_may_be_extended_on_two_ways(tmp_path: Path) -> None:
    write(
        tmp_path, low="tags: [x]\n", a="extends: low.yaml\n", b="extends: low.yaml\n", top="extends: [a.yaml, b.yaml]\n"
    )
    top, problems = layered(tmp_path / "top.yaml")
    assert (top.plain(), problems) == ({"tags": ["x"]}, [])


def test_files_that_cannot_be_read_are_told_beside_the_rest(tmp_path: Path) -> None:
    write(tmp_path, bad="- 1\n", top="extends: [gone.yaml, 3, bad.yaml]\nname: x\nname: y\n")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    _, problems = layered(tmp_path / "top.yaml")
    assert len(problems) == 4
    text = "\n".join(problems)
    assert "extends[0]: cannot be read: No such file" in text
    assert "extends[1]: must be a file's path" in text
    assert "bad.yaml:1: must be a mapping" in text
    assert "twice" in text
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        read_layers(tmp_path / "latin.yaml", {})
    with pytest.raises(UserError, match=r"gone\.yaml cannot be read: No such file"):
        read_layers(tmp_path / "gone.yaml", {})


def test_params_go_with_their_kind() -> None:
    low = from_values({"algorithm": {"kind": "sft", "params": {"batch_size": 8, "lr": 1}}})
    other = from_values({"algorithm": {"kind": "dpo", "params": {"lr": 2}}})
    same = from_values({"algorithm": {"params": {"lr": 2}}})
    assert merge(low, other).plain() == {"algorithm": {"kind": "dpo", "params": {"lr": 2}}}
    assert merge(low, same).plain() == {"algorithm": {"kind": "sft", "params": {"batch_size": 8, "lr": 2}}}


def test_null_takes_away_what_a_lower_layer_said() -> None:
    assert merge(from_values({"run": {"seed": 1}}), from_values({"run": None})).plain() == {"run": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run.algorithm.params.lr=1e-5", {"run": {"algorithm": {"params": {"lr": 1e-5}}}, "runs": [{"seed": 0}]}),
        ("runs.0.seed=3", {"run": None, "runs": [{"seed": 3}]}),
        ("runs[0].tags=[a, b]", {"run": None, "runs": [{"seed": 0, "tags": ["a", "b"]}]}),
        ("name=a=b", {"run": None, "runs": [{"seed": 0}], "name": "a=b"}),
        ("name=", {"run": None, "runs": [{"seed": 0}], "name": None}),
    ],
)
def test_settings_are_yaml_at_a_dotted_path(text: str, expected: Any) -> None:
    assert setting({"run": None, "runs": [{"seed": 0}]}, text) == expected


def test_what_follows_axes_is_one_key() -> None:
    values = {"matrix": {"axes": {"algorithm.kind": ["sft"]}}}
    assert setting(values, "matrix.axes.algorithm.kind=[dpo]") == {"matrix": {"axes": {"algorithm.kind": ["dpo"]}}}
    assert setting(values, "matrix.axes.algorithm.kind.0=dpo") == {"matrix": {"axes": {"algorithm.kind": ["dpo"]}}}
    assert setting({}, "matrix.axes.model.lora_rank=[1]") == {"matrix": {"axes": {"model.lora_rank": [1]}}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name", "must look like"),
        ("a..b=1", "must look like"),
        ("name.x=1", "name is 'n', which has no keys"),
        ("runs.2.seed=1", "runs is a list of 1; its items are 0 to 0, found '2'"),
        ("runs.first.seed=1", "found 'first'"),
        ("name=[1", "is not YAML"),
        ("name=${GONE}", "the environment has no GONE"),
        ("extends=a.yaml", "in files only"),
    ],
)
def test_settings_that_lead_nowhere(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        setting({"name": "n", "runs": [{}]}, text)
    assert str(error.value).startswith(f"--set {text}: ")
    assert says in str(error.value)


def test_defaults_lie_under_every_run() -> None:
    defaults = {"seed": 1, "model": {"lora_rank": 4}}
    for form in (
        {"run": {"model": {"name": "m"}}},
        {"runs": [{"model": {"name": "m"}}]},
        {"matrix": {"base_run": {"model": {"name": "m"}}}},
    ):
        found = with_defaults(from_values({"defaults": defaults, **form})).plain()
        run = found.get("run") or (found.get("runs") or [None])[0] or found["matrix"]["base_run"]
        assert run == {"seed": 1, "model": {"lora_rank": 4, "name": "m"}}
        assert found["defaults"] == defaults
    assert with_defaults(from_values({"defaults": defaults, "run": {"seed": 2}})).plain()["run"]["seed"] == 2
