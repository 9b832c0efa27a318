from typing import Any

import pytest

from hone.experiments.config import ExperimentConfig, RunConfig, Spec
from hone.experiments.fields import (
    get,
    in_full,
    known_paths,
    models_in,
    parts,
    put,
    registry_of,
    run_paths,
    specs_in,
    types_in,
)
from hone.experiments.kinds.plugins import REGISTRIES

pytestmark = pytest.mark.usefixtures("kinds")


def test_fields_name_their_registry_in_singular_or_plural() -> None:
    assert [registry_of(name) for name in ("source", "transforms", "stores", "inference", "name", "params")] == [
        "source",
        "transform",
        "store",
        "inference",
        None,
        None,
    ]


def test_every_place_for_a_plugin_is_found_also_within_params() -> None:
    source = {"kind": "listed"}
    values = {
        "matrix": {
            "base_run": {
                "algorithm": {"kind": "imitate"},
                "backend": {"kind": "bench"},
                "data": {"mixture": [{"source": source, "transforms": [{"kind": "shorter"}]}], "verifier": source},
                "validation": {"data": {"source": source}, "metrics": ["score", {"kind": "score"}]},
            }
        },
        "continual": {"stages": [{"data": {"source": source}}]},
        "benchmarks": [
            {
                "source": source,
                "verifier": {"kind": "all_of_them", "params": {"verifiers": [{"kind": "x"}]}},
                "inference": [{"kind": "y"}],
            }
        ],
        "stores": [{"kind": "z"}],
    }
    found = [(".".join(map(str, one.path)), one.registry) for one in specs_in(ExperimentConfig, values)]
    assert sorted(found) == sorted(
        [
            ("matrix.base_run.algorithm", "algorithm"),
            ("matrix.base_run.backend", "backend"),
            ("matrix.base_run.data.mixture.0.source", "source"),
            ("matrix.base_run.data.mixture.0.transforms.0", "transform"),
            ("matrix.base_run.data.verifier", "verifier"),
            ("matrix.base_run.validation.data.source", "source"),
            ("matrix.base_run.validation.metrics.0", "metric"),
            ("matrix.base_run.validation.metrics.1", "metric"),
            ("continual.stages.0.data.source", "source"),
            ("benchmarks.0.source", "source"),
            ("benchmarks.0.verifier", "verifier"),
            ("benchmarks.0.verifier.params.verifiers.0", "verifier"),
            ("benchmarks.0.inference.0", "inference"),
            ("stores.0", "store"),
        ]
    )


def test_every_field_that_names_a_plugin_has_a_registry() -> None:
    """Others would go unchecked. The parameters of plugins are looked at too."""
    seen: set[Any] = set()

    def look(model: Any) -> None:
        if model in seen:
            return
        seen.add(model)
        for name, field in model.model_fields.items():
            for one in models_in(field.annotation):
                if issubclass(one, Spec):
                    assert registry_of(name, one) in REGISTRIES, f"{model.__name__}.{name}"
                look(one)

    look(ExperimentConfig)
    for registry in REGISTRIES.values():
        for _, plugin in registry:
            look(plugin.Params)
    assert len(seen) > 40


def test_in_full_every_parameter_is_there_and_typed() -> None:
    run = RunConfig.model_validate(
        {"algorithm": {"kind": "imitate", "params": {"lr": "1e-5"}}, "backend": {"kind": "?"}}
    )
    full = in_full(RunConfig, run.model_dump(mode="json"))
    assert full["algorithm"] == {"kind": "imitate", "params": {"lr": 1e-5, "batch_size": 8, "epochs": 1}}
    assert full["backend"] == {"kind": "?", "params": {}}
    assert run.algorithm.params == {"lr": "1e-5"}


def test_a_kind_alone_is_the_plugin_with_its_defaults() -> None:
    run = RunConfig.model_validate({"validation": {"metrics": ["score", {"kind": "score", "params": {"k": 1}}]}})
    first, second = in_full(RunConfig, run.model_dump(mode="json"))["validation"]["metrics"]
    assert first == second == {"kind": "score", "params": {"k": 1}}


def test_known_paths_are_those_of_the_kinds_that_are_named() -> None:
    values = {"algorithm": {"kind": "prefer"}, "data": {"transforms": [{"kind": "shorter"}]}}
    paths = run_paths(values)
    assert {"algorithm.params.beta", "model.lora_rank", "data.transforms.0.kind", "stop.halving.rungs"} <= paths
    assert "algorithm.params.beta" not in run_paths({"algorithm": {"kind": "imitate"}})
    assert known_paths(ExperimentConfig, {}) >= {"name", "budget.tokens", "repeats.n"}


def test_types_are_opened() -> None:
    annotation = RunConfig.model_fields["validation"].annotation
    assert annotation is not None
    inner = annotation.model_fields["metrics"].annotation
    assert [one.__name__ for one in types_in(inner)] == ["Spec", "str"]


def test_values_by_path() -> None:
    values: dict[str, Any] = {"a": {"b": [1, {"c": 2}]}, "n": None}
    assert get(values, parts("a.b.1.c")) == get(values, parts("a.b[1].c")) == 2
    assert get(values, parts("a.x.y")) is get(values, parts("a.b.7")) is None
    put(values, parts("a.b[1].c"), 3)
    put(values, parts("n.d.e"), 4)
    put(values, parts("a.b.0"), 5)
    assert values == {"a": {"b": [5, {"c": 3}]}, "n": {"d": {"e": 4}}}
    for path in ("a.b.2", "a.b.0.x", "a.b.x.y"):
        with pytest.raises(KeyError):
            put(values, parts(path), 0)
