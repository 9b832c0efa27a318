"""Long contexts on the shape of the embedded model: time, and how far memory grows. One JSON line per metric.

    python -m benchmarks.long [--tokens 8192 16384 32768] [--only sample train]

Every length has a process of its own, so that `growth` is the highest that its memory ever was, less what the same work
took at 300 tokens. Divided by the tokens it stays the same while nothing is quadratic.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward, ModelSource, Sample
from hone.engine.limits import Limits
from hone.engine.lora.state import new_adapter
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.version import AdapterVersion
from hone.engine.trainer import run_pieces
from hone.protocol.types import Datum, LoraConfig, SamplingParams

TINY = Path(__file__).resolve().parents[1] / "src/hone/assets/tiny"
RANK, DRAWN = 32, 32


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, nargs="*", default=[8192, 16384, 32768])
    parser.add_argument("--only", nargs="*", default=["sample", "train"])
    args = parser.parse_args()
    processes = multiprocessing.get_context("spawn")
    for kind in args.only:
        for tokens in args.tokens:
            one = processes.Process(target=measure, args=(kind, tokens))
            one.start()
            one.join()


def measure(kind: str, tokens: int) -> None:
    torch.set_num_threads(1)
    work: Callable[[LoadedModel, np.ndarray], dict[str, float]] = {"sample": sample, "train": train}[kind]
    model = stretched(tokens + 1)
    row = np.random.default_rng(0).integers(0, model.config.vocab_size, tokens).astype(np.int32)
    work(model, row[:300])
    before = peak()
    found = work(model, row)
    growth = peak() - before
    line = {
        "metric": f"long_{kind}",
        "tokens": tokens,
        "growth_mb": growth / 2**20,
        "per_token_kb": growth / tokens / 1024,
    }
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in (line | found).items()}), flush=True)


def stretched(context: int) -> LoadedModel:
    """The embedded model with a longer context than it was trained for: the work is the same, the text is not."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        shutil.copytree(TINY, directory)
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
        return load_model(ModelSource("long", directory))


def sample(model: LoadedModel, row: np.ndarray) -> dict[str, float]:
    """A prompt, then the last tokens drawn."""
    state = new_adapter(model.config, LoraConfig(RANK, seed=1))
    sampler = Sampler(model, 64, Limits.cache_bytes, Limits.prefill_tokens)
    params = SamplingParams(max_tokens=DRAWN, stop=())
    sampler.add(0, Sample("long", "v", row[:-DRAWN], 1, params, 0), AdapterVersion(state.layout, state.weights))
    started = time.perf_counter()
    while sampler.prefilled_tokens < len(row) - DRAWN:
        sampler.step()
    prefilled = time.perf_counter()
    while sampler:
        sampler.step()
    drawing = time.perf_counter() - prefilled
    return {"prefill_seconds": prefilled - started, "decode_ms": drawing / (DRAWN - 1) * 1e3}


def train(model: LoadedModel, row: np.ndarray) -> dict[str, float]:
    """One sequence, forward and backward."""
    inputs = {"target_tokens": np.roll(row, -1).astype(np.int64), "weights": np.ones(len(row), np.float32)}
    (piece,) = cut(ForwardBackward("a", (Datum(row, inputs),), "cross_entropy", {}), len(row))
    state = new_adapter(model.config, LoraConfig(RANK, seed=1))
    started = time.perf_counter()
    run_pieces(model.decoder, [piece], {"a": state})
    return {"seconds": time.perf_counter() - started}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


if __name__ == "__main__":
    main()
