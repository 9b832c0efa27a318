"""The engine against Hugging Face + PEFT on the same weights, side by side in one run. One JSON line per metric.

    python -m benchmarks.engine [--model DIR] [--rank 32] [--rounds 9] [--only train decode ...]

Both sides use one thread (`cores`: the engine on two against itself on one), the same LoRA sites and the same batch;
rounds alternate between them, so that noise of the machine hits both, and `ratio` is the median of the per-round ratios
(above 1: the engine is faster). Needs the `dev` extra.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model
from transformers import AutoModelForCausalLM, DynamicCache

from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward, ModelSource, Sample
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.optim.adamw import adamw_step
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.version import AdapterVersion
from hone.engine.side_by_side import SideBySide
from hone.engine.trainer import run_pieces
from hone.engine.workers import Workers
from hone.memory import keep_loaded
from hone.protocol.types import AdamParams, Datum, LoraConfig, SamplingParams

TINY = Path(__file__).resolve().parents[1] / "src/hone/assets/tiny"
MICRO_BATCH = 2048

Row = dict[str, Any]


def main() -> None:
    for row in measure(arguments().parse_args()):
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=TINY)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    return parser


def measure(args: argparse.Namespace) -> Iterator[Row]:
    """A row for each metric, as soon as it is measured."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = load_model(ModelSource("bench", args.model))
    keep_loaded()  # as the engine process does
    for part in args.only:
        yield from PARTS[part](model, args)
    yield {"metric": "peak_memory", "unit": "MB", "value": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


# --- training -------------------------------------------------------------------------------------------------------


def bench_train(model: LoadedModel, args: argparse.Namespace) -> Iterator[Row]:
    state, peft = adapter(model, args.rank), peft_model(args)
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=1e-5)
    for sequences, length in ((1, 128), (8, 128), (8, 512)):
        data = make_data(model, sequences, length)
        tokens = torch.from_numpy(np.stack([d.tokens for d in data]).astype(np.int64))
        targets = torch.from_numpy(np.stack([d.loss_inputs["target_tokens"] for d in data]))

        def theirs(tokens: torch.Tensor = tokens, targets: torch.Tensor = targets) -> None:
            logits = peft(input_ids=tokens).logits
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
            optimizer.step()
            optimizer.zero_grad()

        def ours(data: tuple[Datum, ...] = data) -> None:
            train_step(model, state, data)

        tokens_in_all = sequences * length
        yield compare(f"train_{tokens_in_all}", ours, theirs, tokens_in_all, args.rounds)


def train_step(model: LoadedModel, state: AdapterState, data: tuple[Datum, ...]) -> None:
    for piece in cut(ForwardBackward("a", data, "cross_entropy", {}), MICRO_BATCH):
        run_pieces(model.decoder, [piece], {"a": state})
    adamw_step(state, AdamParams(learning_rate=1e-5))


# --- decoding -------------------------------------------------------------------------------------------------------


def bench_decode(model: LoadedModel, args: argparse.Namespace) -> Iterator[Row]:
    new_tokens, prompt = 64, 64
    version, peft = published(model, args.rank), peft_model(args)
    peft.eval()
    for batch in (1, 8, 32):

        def ours(batch: int = batch) -> None:
            sampler = Sampler(model, 64, 1 << 28, MICRO_BATCH)
            for i in range(batch):
                tokens = np.random.default_rng(i).integers(0, model.config.vocab_size, prompt).astype(np.int32)
                sampler.add(
                    i, Sample("bench", "v", tokens, 1, SamplingParams(max_tokens=new_tokens, stop=()), i), version
                )
            while sampler:
                sampler.step()

        @torch.inference_mode()
        def theirs(batch: int = batch) -> None:
            cache = DynamicCache()
            tokens = torch.randint(0, model.config.vocab_size, (batch, prompt))
            for _ in range(new_tokens):
                logits = peft(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
                tokens = torch.multinomial(torch.softmax(logits, -1), 1)

        yield compare(f"decode_batch_{batch}", ours, theirs, batch * new_tokens, args.rounds)


# --- many tenants ---------------------------------------------------------------------------------------------------


def bench_tenants(model: LoadedModel, args: argparse.Namespace) -> Iterator[Row]:
    """Tenants' small passes in one batch against one after another: the gain of mixing."""
    for tenants in (1, 4, 8, 16):
        states = {f"t{i}": adapter(model, args.rank) for i in range(tenants)}
        data = make_data(model, 1, 64)
        pieces = [cut(ForwardBackward(name, data, "cross_entropy", {}), MICRO_BATCH)[0] for name in states]

        def together(pieces: list[Any] = pieces, states: dict[str, AdapterState] = states) -> None:
            run_pieces(model.decoder, pieces, states)

        def apart(pieces: list[Any] = pieces, states: dict[str, AdapterState] = states) -> None:
            for piece in pieces:
                run_pieces(model.decoder, [piece], states)

        yield compare(f"tenants_{tenants}_mixed_vs_apart", together, apart, tenants * 64, args.rounds)


def bench_publish(model: LoadedModel, args: argparse.Namespace) -> Iterator[Row]:
    state = adapter(model, args.rank)
    values = [timed(lambda: AdapterVersion(state.layout, state.weights.clone())) * 1e3 for _ in range(args.rounds)]
    yield {
        "metric": "publish",
        "unit": "ms",
        "value": statistics.median(values),
        "adapter_parameters": state.layout.size,
    }


# --- two cores ------------------------------------------------------------------------------------------------------


def bench_cores(model: LoadedModel, args: argparse.Namespace) -> Iterator[Row]:
    """The engine on two cores against itself on one: what dealing out sequences gains."""
    state, version = adapter(model, args.rank), published(model, args.rank)
    data = make_data(model, 64, 128)
    workers = {count: Workers(count) for count in (1, 2)}
    one, two = (SideBySide(some) for some in workers.values())
    samplers = {count: Sampler(model, 64, 1 << 28, MICRO_BATCH, count) for count in workers}

    def train(passing: SideBySide) -> None:
        for piece in cut(ForwardBackward("a", data, "cross_entropy", {}), MICRO_BATCH):
            passing.run_pieces(model.decoder, [piece], {"a": state})

    def decode(threads: int) -> None:
        sampler = samplers[threads]
        tokens = make_data(model, 1, 64)[0].tokens
        sampler.add(0, Sample("bench", "v", tokens, 64, SamplingParams(max_tokens=64, stop=()), 0), version)
        while sampler:
            sampler.step()

    yield compare("cores_train_8192", lambda: train(two), lambda: train(one), 64 * 128, args.rounds)
    yield compare("cores_decode_batch_64", lambda: decode(2), lambda: decode(1), 64 * 64, args.rounds)
    for count in workers:
        workers[count].close()
        samplers[count].close()


# --- pieces ---------------------------------------------------------------------------------------------------------


def adapter(model: LoadedModel, rank: int) -> AdapterState:
    state = new_adapter(model.config, LoraConfig(rank=rank, seed=1))
    state.weights.add_(torch.randn(state.layout.size) * 0.01)
    return state


def published(model: LoadedModel, rank: int) -> AdapterVersion:
    state = adapter(model, rank)
    return AdapterVersion(state.layout, state.weights)


def peft_model(args: argparse.Namespace) -> Any:
    base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    sites = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    # no head adapter here: PEFT would untie the head; the engine carries one, so the comparison leans towards PEFT
    return get_peft_model(base, PeftConfig(r=args.rank, lora_alpha=32, target_modules=sites, init_lora_weights=False))


def make_data(model: LoadedModel, sequences: int, length: int) -> tuple[Datum, ...]:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, model.config.vocab_size, (sequences, length + 1))
    ones = np.ones(length, np.float32)
    return tuple(
        Datum(row[:-1].astype(np.int32), {"target_tokens": row[1:].astype(np.int64), "weights": ones}) for row in rows
    )


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], tokens: int, rounds: int) -> Row:
    for run in (ours, theirs):
        run()
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    return {
        "metric": name,
        "unit": "tokens/s",
        "tokens": tokens,
        "value": tokens / statistics.median(p[0] for p in pairs),
        "reference": tokens / statistics.median(p[1] for p in pairs),
        "ratio": statistics.median(p[1] / p[0] for p in pairs),
    }


PARTS = {
    "train": bench_train,
    "decode": bench_decode,
    "tenants": bench_tenants,
    "cores": bench_cores,
    "publish": bench_publish,
}

if __name__ == "__main__":
    main()
