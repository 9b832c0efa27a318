from typing import Any

import jsonschema
import pytest
import yaml

from hone.experiments.kinds.plugins import REGISTRIES
from hone.experiments.schema import experiment_schema

THREE = """\
name: three-methods
hypothesis: DPO beats SFT on this data
matrix:
  axes:
    algorithm.kind: [sft, dpo, grpo]
    algorithm.params.lr: [1.0e-5, 2.0e-5]
  base_run:
    data: { source: { kind: jsonl, params: { path: data/train.jsonl } } }
    backend: { kind: tinker }
"""
pytestmark = pytest.mark.usefixtures("kinds")


def errors(text: str) -> list[str]:
    """The deepest place of each mistake."""
    checker = jsonschema.Draft202012Validator(experiment_schema())
    return [deepest(error) for error in checker.iter_errors(yaml.safe_load(text))]


def deepest(error: Any) -> str:
    return max([error.json_path, *(deepest(inner) for inner in error.context or ())], key=len)


def run(text: str) -> list[str]:
    return errors(f"name: x\nrun:\n  {text}\n")


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(experiment_schema())


def test_every_reference_leads_somewhere_and_every_kind_is_there() -> None:
    schema = experiment_schema()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    assert {one.rpartition("/")[2] for one in references(schema)} <= set(schema["$defs"])
    for registry in REGISTRIES.values():
        branches = schema["$defs"][f"a_{registry.kind}"]["oneOf"][:-1]
        assert [one["properties"]["kind"]["const"] for one in branches] == registry.names()


def test_good_files_are_valid() -> None:
    assert errors(THREE) == []
    assert run("algorithm: {kind: imitate, params: {lr: 0.1}}") == []
    assert run("data: {source: {kind: rows, params: {rows: [{a: 1}]}}, transforms: [{kind: shorter}]}") == []
    assert run("validation: {metrics: [score, {kind: score, params: {k: 2}}]}") == []
    assert run("algorithm: {params: {whatever: 1}}") == []  # another layer may name the kind
    assert run("seed: ${SEED}\n  data: {shuffle: '${SHUFFLE}'}") == []
    assert errors("extends: [base.yaml]\ndefaults: {model: {lora_rank: 4}}") == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("modle: {}", "$.run"),
        ("seed: x", "$.run.seed"),
        ("algorithm: {kind: imitat}", "$.run.algorithm"),
        ("algorithm: {kind: imitate, params: {beta: 1}}", "$.run.algorithm"),
        ("algorithm: {kind: prefer, params: {beta: no}}", "$.run.algorithm"),
        ("data: {source: {kind: sft}}", "$.run.data.source"),
        ("data: {transforms: [{kind: shorter, params: {a: 1}}]}", "$.run.data.transforms[0]"),
        ("algorithm: {kind: sequence, params: {phases: [{kind: sfft}]}}", "$.run.algorithm"),
        ("validation: {metrics: [{kind: score, params: {k: 0}}]}", "$.run.validation.metrics[0]"),
    ],
)
def test_mistakes_are_found_where_they_stand(text: str, place: str) -> None:
    found = run(text)
    assert found
    assert all(one.startswith(place) for one in found)
    assert errors(f"name: x\ndefaults:\n  {text}\n")


def test_plugins_within_params_are_checked() -> None:
    verifier = "verifier: {kind: all_of_them, params: {verifiers: [{kind: %s}]}}"
    assert errors(f"name: x\nbenchmarks: [{{name: b, path: p, {verifier % 'all_of_them'}}}]") == []
    assert errors(f"name: x\nbenchmarks: [{{name: b, path: p, {verifier % 'nothing'}}}]") != []
