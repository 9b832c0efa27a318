"""Content hashes: which experiments, and which arms, are the same.

They cover what the numbers come from, with every parameter of every plugin in full, so that a default that changes in
the code changes the hash as the same value in the file would. They leave out what only people read (`name` of an arm,
`description`, `tags`), where results go and how they look (`output_dir`, `stores`, `report`), how fast they come
(`concurrency`), how far the experiment may go before it is stopped (`budget`: raised, the same experiment goes on),
where it came from (`parent_experiment`), and where a service is reached (each backend's `connection`).

Of data they cover what the file says of it, not what lies at its path: the runner adds the fingerprint of the rows.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hone.experiments.config import ExperimentConfig, RunConfig
from hone.experiments.fields import FREE, get, in_full, specs_in
from hone.experiments.kinds.plugins import backends

LENGTH = 16
"""Hexadecimal digits."""

_NOT_IN_EXPERIMENT = (
    "description tags output_dir parent_experiment defaults budget concurrency stores report".split()  # in all arms
)
_NOT_IN_RUN = ("name", "tags")


def content_hash(values: Any) -> str:
    """Of JSON values; the order of keys does not count."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:LENGTH]


def resolved(config: ExperimentConfig) -> dict[str, Any]:
    """Everything that the file says and leaves to defaults, parameters of plugins too; JSON values."""
    return in_full(ExperimentConfig, config.model_dump(mode="json"))


def experiment_hash(config: ExperimentConfig) -> str:
    values = {name: value for name, value in resolved(config).items() if name not in _NOT_IN_EXPERIMENT}
    _without_connections(ExperimentConfig, values)
    for run in (values["run"], *(values["runs"] or ())):
        if run is not None:
            run.pop("tags")
    return content_hash(values)


def arm_hash(config: ExperimentConfig, run: RunConfig) -> str:
    """Of all that an arm's training and validation rest on: the run; the stages, if it learns in stages; and what
    arms are chosen by, if that decides which checkpoint is kept or when the arm stops."""
    values = {name: value for name, value in run_in_full(run).items() if name not in _NOT_IN_RUN}
    _without_connections(RunConfig, values)
    if config.continual is not None:
        values["continual"] = in_full(ExperimentConfig, {"continual": config.continual.model_dump(mode="json")})[
            "continual"
        ]
    if config.selection is not None and (
        run.validation.keep == "best" or run.stop.patience is not None or run.stop.halving is not None
    ):
        values["selection"] = config.selection.model_dump(mode="json")
    return content_hash(values)


def run_in_full(run: RunConfig) -> dict[str, Any]:
    return in_full(RunConfig, run.model_dump(mode="json"))


def _without_connections(model: Any, values: dict[str, Any]) -> None:
    for found in specs_in(model, values):
        if found.registry == "backend" and found.kind in backends:
            params = get(values, (*found.path, FREE))
            for name in backends.get(found.kind).connection:
                params.pop(name, None)
