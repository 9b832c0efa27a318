"""Whether an exported adapter computes elsewhere what it computes here.

Elsewhere is a process of its own, `python -m hone.engine.parity`, that knows nothing of our decoder: transformers
loads the base model, the bytes of the export are merged into its weights, and it scores the tokens that we scored. In
goes one line of JSON and the export's tensors, out comes one line of JSON; the adapter is never on disk in the clear.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn

from hone.engine.batch import cut
from hone.engine.checkpoints import PREFIX
from hone.engine.contract import ForwardBackward
from hone.engine.lora.state import AdapterState
from hone.engine.models.hf_config import auto_class
from hone.engine.models.load import LoadedModel
from hone.engine.trainer import run_pieces
from hone.protocol.types import Datum

TOLERANCE = 1e-4
"""Nats."""
TOKENS = 48
SECONDS = 600.0
COMMAND = [sys.executable, "-m", "hone.engine.parity"]


@dataclass(frozen=True)
class Probe:
    """What the adapter computed here."""

    base: Path
    tokens: np.ndarray
    """[N + 1]"""
    logprobs: np.ndarray
    """[N], each of a token after those before it"""


def take_probe(model: LoadedModel, state: AdapterState) -> Probe:
    """Random tokens: they leave no part of the model in its usual place."""
    count = min(TOKENS, model.config.max_context)
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, count + 1)
    targets: dict[str, np.ndarray] = {
        "target_tokens": tokens[1:].astype(np.int64),
        "weights": np.ones(count, np.float32),
    }
    datum = Datum(tokens[:-1].astype(np.int32), targets)
    pieces = cut(ForwardBackward("probe", (datum,), "cross_entropy", {}, forward_only=True), count)
    (result,) = run_pieces(model.decoder, pieces, {"probe": state})
    return Probe(model.directory, tokens, result.logprobs[0])


def compare(probe: Probe, config: dict[str, Any], adapter: bytes) -> dict[str, Any]:
    """What is kept with the export: the largest difference, or why there is none."""
    question = {
        "base": str(probe.base),
        "scale": config["lora_alpha"] / config["r"],
        "tokens": [int(token) for token in probe.tokens],
    }
    try:
        done = subprocess.run(
            COMMAND,
            input=json.dumps(question).encode() + b"\n" + adapter,
            capture_output=True,
            timeout=SECONDS,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        return {"checked": False, "why": f"it took longer than {SECONDS:.0f} s"}
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return {"checked": False, "why": said[-1] if said else f"the check ended with status {done.returncode}"}
    answer = json.loads(done.stdout.splitlines()[-1])
    difference = float(np.abs(np.array(answer["logprobs"]) - probe.logprobs).max())
    return {
        "checked": True,
        "max_difference_nats": difference,
        "tolerance_nats": TOLERANCE,
        "within_tolerance": difference <= TOLERANCE,
        "tokens": len(probe.logprobs),
        "by": f"transformers {answer['transformers']}, adapter merged into float32 weights",
    }


@torch.no_grad()
def merge(model: nn.Module, adapter: dict[str, Tensor], scale: float) -> None:
    """Add `scale` B A to every weight that the adapter is for, under the names of transformers."""
    parameters = dict(model.named_parameters())
    for name, a in adapter.items():
        site, _, side = name.removeprefix(PREFIX).partition(".lora_")
        if side != "A.weight":
            continue
        delta = scale * (adapter[name.replace(".lora_A.", ".lora_B.")].float() @ a.float())
        if site == "model.unembed_tokens":
            head: Any = model.get_submodule("lm_head")
            head.weight = nn.Parameter(head.weight + delta)  # a new one, for it may be the embedding's too
        elif ".experts." in site:
            experts, _, matrix = site.rpartition(".")
            _add_to_experts(model.get_submodule(experts), parameters, experts, matrix, delta)
        else:
            weight = parameters[f"{site}.weight"]
            # some models of old keep weights as [inputs, outputs]
            weight.add_(delta.t() if type(model.get_submodule(site)).__name__ == "Conv1D" else delta)


def _add_to_experts(module: Any, parameters: dict[str, nn.Parameter], experts: str, matrix: str, delta: Tensor) -> None:
    """`delta` [E, O, I] for w1 (gate), w3 (up) or w2 (down): stacked in transformers 5, one by one before."""
    if f"{experts}.down_proj" in parameters:
        first = parameters[f"{experts}.gate_up_proj" if module.has_gate else f"{experts}.up_proj"]
        weight: Tensor = parameters[f"{experts}.down_proj"] if matrix == "w2" else first
        if module.is_transposed:
            weight = weight.transpose(1, 2)
        if matrix != "w2" and module.has_gate:
            parts = weight.chunk(2, dim=1) if module.is_concatenated else (weight[:, 0::2], weight[:, 1::2])
            weight = parts[0 if matrix == "w1" else 1]
        weight.add_(delta)
        return
    name = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}[matrix]
    for i, of_one in enumerate(delta):
        parameters[f"{experts}.{i}.{name}.weight"].add_(of_one)


def main() -> int:
    import transformers

    question = json.loads(sys.stdin.buffer.readline())
    adapter = load(sys.stdin.buffer.read())
    family = auto_class(transformers.AutoConfig.from_pretrained(question["base"]))
    model: nn.Module = family.from_pretrained(question["base"], dtype=torch.float32)
    model.requires_grad_(False).eval()
    merge(model, adapter, question["scale"])
    tokens = torch.tensor(question["tokens"])
    logits = model(tokens[None, :-1], use_cache=False).logits[0].float()
    scores = torch.log_softmax(logits, -1).gather(1, tokens[1:, None])[:, 0]
    print(json.dumps({"logprobs": scores.tolist(), "transformers": transformers.__version__}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
