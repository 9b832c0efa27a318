"""Weights that a run keeps as they were at some moment: a reference to stay near, a teacher to learn from."""

from __future__ import annotations

import json

import tinker

from hone.algorithms.run_directory import RunDirectory
from hone.storage.atomic import write_text

FROZEN_WEIGHTS = "frozen_weights.json"


async def frozen_sampler(
    service: tinker.ServiceClient, training: tinker.TrainingClient, run: RunDirectory, name: str
) -> tinker.SamplingClient:
    """The weights after all steps submitted so far, when `name` is asked for first; ever after, the same ones.

    What was frozen is noted in the run's directory, so a run that goes on has what it had.
    """
    file = run.path / FROZEN_WEIGHTS
    paths: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if name not in paths:
        paths[name] = (await training.save_weights_for_sampler(name)).path
        write_text(file, json.dumps(paths, indent=2) + "\n")
    sampler: tinker.SamplingClient = await service.create_sampling_client(model_path=paths[name])
    return sampler
