"""The frozen model that a run compares itself with: its own weights before the first step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import tinker
import torch
from torch import Tensor

from hone.algorithms.run_directory import RunDirectory
from hone.storage.atomic import write_text

REFERENCE = "reference.json"


async def reference_sampler(
    service: tinker.ServiceClient, training: tinker.TrainingClient, run: RunDirectory
) -> tinker.SamplingClient:
    """Saved when the run begins and found again when it goes on, so that a resumed run has the same reference."""
    file = run.path / REFERENCE
    if not file.exists():
        saved = await training.save_weights_for_sampler("reference")
        write_text(file, json.dumps({"sampler_path": saved.path}) + "\n")
    path = json.loads(file.read_text(encoding="utf-8"))["sampler_path"]
    sampler: tinker.SamplingClient = await service.create_sampling_client(model_path=path)
    return sampler


async def score(sampler: tinker.SamplingClient, data_D: Sequence[tinker.Datum]) -> list[Tensor]:
    """The log-probability of every target `[T]` of every datum under `sampler`."""

    async def one(datum: tinker.Datum) -> Tensor:
        sequence = datum.model_input.append_int(int(datum.loss_fn_inputs["target_tokens"].data[-1]))
        return torch.tensor((await sampler.compute_logprobs(sequence))[1:])

    return list(await asyncio.gather(*(one(datum) for datum in data_D)))


def answer_logprobs(data_D: Sequence[tinker.Datum], logprobs_D: Sequence[Tensor]) -> Tensor:
    """`sum(w * logprob)` of each datum, `[D]`: the log-probability of its answer.

    Policy and reference are summed by this one function: two ways of adding would differ in last bits, and a model
    would seem to prefer something before it has learned anything.
    """
    weights_D = [datum.loss_fn_inputs["weights"].to_torch() for datum in data_D]
    return torch.stack([weights @ logprobs for weights, logprobs in zip(weights_D, logprobs_D, strict=True)])
