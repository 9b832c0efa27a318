"""The engine on a GPU: correctness first, then speed. One JSON line per check and per metric.

    python benchmarks/gpu.py [--device cuda] [--only check train decode tenants publish] [--tokens 8192] [--tiny]

Weights are random and made on the device, in the shape of Qwen3-8B; adapters have rank 32 on all sites. A check that
fails ends the run before anything is measured. Lines with a goal say whether it was reached. Needs numpy, torch,
safetensors and tokenizers. `--tiny` is a shape that a CPU computes in seconds, to try out the program itself; its
numbers mean nothing.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hone.engine.attention import BLOCK, DecodeAttention, KeyValueCache
from hone.engine.backends.bank import BankedLora
from hone.engine.backends.cpu import CPU
from hone.engine.backends.gpu import GpuBackend
from hone.engine.backends.graphs import call_again
from hone.engine.backends.kernels import kernels_serve
from hone.engine.batch import Piece, cut
from hone.engine.contract import ForwardBackward, Sample
from hone.engine.lora.batch import LoraBatch
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.models.config import ModelConfig
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.models.weights import DenseMlp, LayerWeights, ModelWeights, count_parameters
from hone.engine.optim.adamw import adamw_step
from hone.engine.sampling.sampler import Sampler
from hone.engine.trainer import PieceResult, run_pieces
from hone.protocol.types import AdamParams, Datum, LoraConfig, SampledSequence, SamplingParams

SMALL = ModelConfig(
    architecture="qwen3",
    vocab_size=512,
    hidden_size=128,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    intermediate_size=256,
    max_context=1024,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    rope_scaling=None,
    tie_embeddings=False,
    qk_norm=True,
)
QWEN3_8B = replace(
    SMALL,
    vocab_size=151936,
    hidden_size=4096,
    layers=36,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate_size=12288,
    max_context=8192,
)


GOALS = {
    "train": ("value", 11_000.0, math.inf),
    "train_recomputed": ("value", 7_500.0, math.inf),
    "decode": ("share", 0.6, math.inf),
    "tenants_8x64": ("ratio", 3.0, math.inf),
    "publish": ("value", 0.0, 5.0),
}
"""By metric, a field of its line, and the least and the most that we want of it."""


@dataclass(frozen=True)
class Sizes:
    config: ModelConfig
    rank: int
    adapters: int
    tokens: int
    """Of one training pass."""
    sequence: int
    decode_rows: int
    prompt: int
    new_tokens: int
    rounds: int


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="*", default=["check", "train", "decode", "tenants", "publish"])
    parser.add_argument("--tokens", type=int, default=8192, help="of one training pass (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=64, help="sequences decoded at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a shape for a CPU, to try out the program")
    args = parser.parse_args()
    device = torch.device(args.device)
    sizes = Sizes(QWEN3_8B, 32, 8, args.tokens, 2048, args.rows, 1024, 128, args.rounds)
    if args.tiny:
        sizes = Sizes(SMALL, 8, 3, 128, 64, 4, 24, 4, 1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    emit("machine", device=name, torch=torch.__version__, kernels=kernels_serve(torch.empty(0, device=device)))
    if "check" in args.only and not all([*check(device)]):
        return 1
    bench(sizes, device, args.only)
    return 0


# --- correctness ----------------------------------------------------------------------------------------------------


def check(device: torch.device) -> list[bool]:
    """A small model on the device against the same in float32 on the CPU, and the device against itself."""
    exact = Decoder(SMALL, random_weights(SMALL, torch.device("cpu"), torch.float32), CPU)
    done = []
    for dtype, nats, error in ((torch.float32, 1e-4, 1e-4), (torch.bfloat16, 0.1, 0.05)):
        model = moved(exact, GpuBackend(device, dtype))
        short = str(dtype).removeprefix("torch.")
        wanted, found = (train_small(m) for m in (loaded(exact), model))
        done.append(verdict(f"logprobs_{short}", largest(found[0], wanted[0]), nats))
        done.append(verdict(f"gradients_{short}", distance(found[1], wanted[1]), error))
        alone = train_small(model, together=False)
        done.append(verdict(f"mixed_vs_alone_{short}", largest(found[0], alone[0]), nats))
        done.append(verdict(f"grouped_vs_looped_{short}", grouped_against_looped(model), error))
        done.append(verdict(f"sampler_vs_trainer_{short}", sampler_against_trainer(model), nats))
        graphs, eager = (sample_small(m) for m in (model, moved(exact, GpuBackend(device, dtype, record=call_again))))
        apart = max(float(np.abs(a.logprobs[:1] - b.logprobs[:1]).max()) for a, b in zip(graphs, eager, strict=True))
        same = all(a.tokens.tolist() == b.tokens.tolist() for a, b in zip(graphs, eager, strict=True))
        done.append(verdict(f"graph_vs_eager_{short}", apart if same else float("inf"), nats))
        if not kernels_serve(torch.empty(0, device=device)):
            emit(f"check_invariant_{short}", skipped="there is no Triton here")
            continue
        done.append(verdict(f"kernel_vs_general_{short}", kernel_against_general(device, dtype), error))
        strict = moved(exact, GpuBackend(device, dtype, invariant=True))
        done.append(verdict(f"invariant_logprobs_{short}", largest(train_small(strict)[0], wanted[0]), nats))
        done.append(verdict(f"invariant_gradients_{short}", distance(train_small(strict)[1], wanted[1]), error))
        together, apart_ = train_small(strict)[0], train_small(strict, together=False)[0]
        done.append(verdict(f"invariant_mixed_vs_alone_{short}", largest(together, apart_), 0.0))
        done.append(verdict(f"invariant_sampler_vs_trainer_{short}", sampler_against_trainer(strict), 0.0))
    return done


def verdict(name: str, value: float, limit: float) -> bool:
    emit(f"check_{name}", value=value, limit=limit, ok=bool(value <= limit))
    return value <= limit


def train_small(model: LoadedModel, together: bool = True) -> tuple[list[PieceResult], list[torch.Tensor]]:
    """Three tenants of different ranks: their results and gradients."""
    states = {f"t{i}": adapter(model, rank, i) for i, rank in enumerate((4, 16, 5))}
    pieces = [piece_of(name, model.config, 3, 40 + 9 * i, i) for i, name in enumerate(states)]
    if together:
        results = run_pieces(model.decoder, pieces, states)
    else:
        results = [run_pieces(model.decoder, [piece], states)[0] for piece in pieces]
    return results, [gradient.cpu() for state in states.values() if (gradient := state.gradient) is not None]


def largest(found: Sequence[PieceResult], wanted: Sequence[PieceResult]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(x - y).max()) for a, b in pairs for x, y in zip(a.logprobs, b.logprobs, strict=True))


def distance(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in pairs)


def grouped_against_looped(model: LoadedModel) -> float:
    """One projection of several adapters by the grouped product and by one product after another."""
    backend, config = model.backend, model.config
    states = [adapter(model, rank, rank) for rank in (4, 16, 5)]
    parts = [(0, 30, states[0]), (30, 31, states[1]), (31, 80, states[2])]
    lora = backend.training_lora(parts, backward=False)
    assert isinstance(lora, BankedLora)
    x = torch.randn(80, config.hidden_size, device=backend.device).to(backend.dtype)
    weight = torch.zeros(512, config.hidden_size, device=backend.device, dtype=backend.dtype)
    group = "model.layers.0.gate_up"
    return distance([lora.project(group, x, weight)], [LoraBatch.project(lora, group, x, weight)])


def kernel_against_general(device: torch.device, dtype: torch.dtype) -> float:
    """Decoding in runs of keys, from scattered pages, against plain attention over them."""
    from hone.engine.backends.attention import DecodePages

    torch.manual_seed(0)
    cache = KeyValueCache(1, 200, 2, 32, device, dtype)
    cache.entries[0].normal_()
    positions = [0, 17, 700, 1030]
    blocks = (torch.randperm(199)[: 4 * 66] if 4 * 66 < 199 else torch.randint(1, 199, (4 * 66,))).view(4, 66)
    slots = torch.tensor([int(b[p // BLOCK]) * BLOCK + p % BLOCK for b, p in zip(blocks, positions, strict=True)])
    q, k, v = (torch.randn(4, heads, 32).to(device, dtype) for heads in (8, 2, 2))
    places, slots = torch.tensor(positions, dtype=torch.int32).to(device), slots.to(device)
    tables = blocks.to(device, torch.int32)
    found = DecodePages(cache, tables, slots, places, 66 * BLOCK)(0, q, k, v)
    wanted = DecodeAttention(cache, tables, slots, places)(0, q, k, v)
    return distance([found.cpu()], [wanted.cpu()])


def sample_small(model: LoadedModel) -> list[SampledSequence]:
    """Greedy, by several adapters and none, with rows that come and go."""
    states = [adapter(model, rank, rank) for rank in (4, 16)]
    versions = [model.backend.version(s.layout, s.weights.clone()) for s in states]
    sampler, results = Sampler(model, 8, 1 << 25, 256), {}
    for i in range(6):
        prompt = np.random.default_rng(i).integers(0, model.config.vocab_size, 5 + 30 * i).astype(np.int32)
        params = SamplingParams(max_tokens=4 + i, temperature=0.0, stop=())
        which = i % 3
        sampler.add(i, Sample("x", f"v{which}" if which < 2 else None, prompt, 1, params, i), [*versions, None][which])
    while sampler:
        results.update(dict(sampler.step()))
    return [results[i].sequences[0] for i in sorted(results)]


def sampler_against_trainer(model: LoadedModel) -> float:
    """The largest difference in nats between what the sampler says of its tokens and what the trainer does."""
    state = adapter(model, 16, 1)
    sampler, other = Sampler(model, 8, 1 << 25, 256), adapter(model, 4, 2)
    version, company = (model.backend.version(s.layout, s.weights.clone()) for s in (state, other))
    prompt = np.random.default_rng(0).integers(0, model.config.vocab_size, 50).astype(np.int32)
    params, results = SamplingParams(max_tokens=24, stop=()), {}
    for i in range(3):
        sampler.add(i, Sample("x", "v" if i == 0 else "w", prompt[i:], 1, params, i), company if i else version)
    while sampler:
        results.update(dict(sampler.step()))
    (sequence,) = results[0].sequences
    tokens = np.concatenate([prompt, sequence.tokens])
    ones = np.ones(len(tokens) - 1, np.float32)
    datum = Datum(tokens[:-1], {"target_tokens": tokens[1:].astype(np.int64), "weights": ones})
    pieces = cut(ForwardBackward("a", (datum,), "cross_entropy", {}, forward_only=True), 4096)
    (result,) = run_pieces(model.decoder, pieces, {"a": state})
    return float(np.abs(result.logprobs[0][len(prompt) - 1 :] - sequence.logprobs).max())


# --- speed ----------------------------------------------------------------------------------------------------------


def bench(sizes: Sizes, device: torch.device, only: Sequence[str]) -> None:
    backend = GpuBackend(device, torch.bfloat16)
    model = loaded(Decoder(sizes.config, random_weights(sizes.config, device, backend.dtype), backend))
    bandwidth = copy_bandwidth(device)
    emit("copy_bandwidth", unit="GB/s", value=bandwidth / 1e9)
    if "train" in only:
        bench_train(model, sizes)
    if "decode" in only:
        bench_decode(model, sizes, bandwidth)
    if "tenants" in only:
        bench_tenants(model, sizes)
    if "publish" in only:
        bench_publish(model, sizes)


def bench_train(model: LoadedModel, sizes: Sizes) -> None:
    """Forward, losses and backward over several adapters, then a step of each."""
    states = {f"t{i}": adapter(model, sizes.rank, i) for i in range(sizes.adapters)}
    count = max(1, sizes.tokens // sizes.sequence // sizes.adapters)
    length = min(sizes.sequence, sizes.tokens // sizes.adapters)
    pieces = [piece_of(name, model.config, count, length, i) for i, name in enumerate(states)]
    tokens = sum(piece.tokens for piece in pieces)
    for name, recomputed in (("train", 0), ("train_recomputed", model.config.layers)):

        def step(recomputed: int = recomputed) -> None:
            run_pieces(model.decoder, pieces, states, recomputed)
            for state in states.values():
                adamw_step(state, AdamParams(learning_rate=1e-5))

        reset_peak(model.backend.device)
        try:
            seconds = measured(step, sizes.rounds, model.backend.device)
        except torch.OutOfMemoryError:
            for state in states.values():
                state.set_gradient(None)
            emit(name, tokens=tokens, skipped="it does not fit; try fewer --tokens")
            continue
        peak = peak_memory(model.backend.device)
        judged(sizes, name, unit="tokens/s", tokens=tokens, adapters=len(states), value=tokens / seconds, peak_gb=peak)


def bench_decode(model: LoadedModel, sizes: Sizes, bandwidth: float) -> None:
    """Against the time it takes to read weights, adapters and cache once for each token."""
    config, rows = model.config, sizes.decode_rows
    states = [adapter(model, sizes.rank, i) for i in range(sizes.adapters)]
    versions = [model.backend.version(s.layout, s.weights) for s in states]
    read = model.parameters - config.vocab_size * config.hidden_size  # of the embedding a row for each token
    cached = 2 * config.layers * config.kv_heads * config.head_dim * (sizes.prompt + sizes.new_tokens // 2) * rows
    for name, used in (("decode", versions), ("decode_one_adapter", versions[:1]), ("decode_no_adapter", [None])):
        adapters = sum(v.layout.size for v in used if v is not None)
        bound = rows * bandwidth / (model.backend.dtype.itemsize * (read + adapters + cached))
        per_block = KeyValueCache.block_bytes(config.layers, config.kv_heads, config.head_dim, model.backend.dtype)
        cache_bytes = rows * (-(-(sizes.prompt + sizes.new_tokens) // BLOCK) + 4) * per_block
        reset_peak(model.backend.device)
        sampler = Sampler(model, rows, cache_bytes, sizes.prompt * 8)
        seconds = []
        for round_ in range(2):  # the first records the steps
            for i in range(rows):
                prompt = np.random.default_rng(round_ * rows + i).integers(0, config.vocab_size, sizes.prompt)
                params = SamplingParams(max_tokens=sizes.new_tokens, stop=())
                version, operation = used[i % len(used)], f"v{i % len(used)}"
                op = Sample("x", None if version is None else operation, prompt.astype(np.int32), 1, params, i)
                sampler.add(i, op, version)
            while sampler and len(sampler._running) < rows:
                sampler.step()
            seconds = []
            while sampler:
                seconds.append(measured(sampler.step, 1, model.backend.device, warm=0))
        found = rows / statistics.median(seconds)
        peak = peak_memory(model.backend.device)
        fields = {"rows": rows, "context": sizes.prompt, "adapters": len(used), "peak_gb": peak}
        judged(sizes, name, unit="tokens/s", value=found, bound=bound, share=found / bound, **fields)


def bench_tenants(model: LoadedModel, sizes: Sizes) -> None:
    """Eight tenants of 64 tokens in one pass against eight passes."""
    states = {f"t{i}": adapter(model, sizes.rank, i) for i in range(8)}
    pieces = [piece_of(name, model.config, 1, 64, i) for i, name in enumerate(states)]

    def apart() -> None:
        for piece in pieces:
            run_pieces(model.decoder, [piece], states)

    device = model.backend.device
    mixed = measured(lambda: run_pieces(model.decoder, pieces, states), sizes.rounds, device)
    serial = measured(apart, sizes.rounds, device)
    judged(sizes, "tenants_8x64", unit="ms", value=mixed * 1e3, serial=serial * 1e3, ratio=serial / mixed)


def bench_publish(model: LoadedModel, sizes: Sizes) -> None:
    state = adapter(model, sizes.rank, 0)

    def to_host_and_back() -> None:
        state.move(torch.device("cpu"))
        state.move(model.backend.device)

    seconds = measured(
        lambda: model.backend.version(state.layout, state.weights.clone()), sizes.rounds, model.backend.device
    )
    judged(sizes, "publish", unit="ms", value=seconds * 1e3, adapter_parameters=state.layout.size)
    seconds = measured(to_host_and_back, sizes.rounds, model.backend.device)
    emit("adapter_to_host_and_back", unit="ms", value=seconds * 1e3)


# --- pieces ---------------------------------------------------------------------------------------------------------


def random_weights(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> ModelWeights:
    """In the sizes that trained models have, so that numbers neither vanish nor overflow."""
    generator = torch.Generator(device).manual_seed(0)

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype) * shape[-1] ** -0.5

    def norm(*shape: int) -> torch.Tensor:  # as `fold` leaves it
        return torch.full(shape, float(shape[-1]) ** 0.5, device=device)

    hidden, heads, kv_heads, d = config.hidden_size, config.heads, config.kv_heads, config.head_dim

    def layer() -> LayerWeights:
        return LayerWeights(
            attention_norm=norm(hidden),
            qkv=matrix((heads + 2 * kv_heads) * d, hidden),
            qk_norm=norm(heads + kv_heads, d),
            o=matrix(hidden, heads * d),
            mlp_norm=norm(hidden),
            mlp=DenseMlp(matrix(2 * config.intermediate_size, hidden), matrix(hidden, config.intermediate_size)),
        )

    layers = tuple(layer() for _ in range(config.layers))
    return ModelWeights(matrix(config.vocab_size, hidden), layers, norm(hidden), matrix(config.vocab_size, hidden))


def moved(decoder: Decoder, backend: GpuBackend) -> LoadedModel:
    """The same model elsewhere."""

    def of(weights: Any) -> Any:
        if isinstance(weights, torch.Tensor):
            norm = weights.ndim == 1 or weights.shape[-1] == decoder.config.head_dim
            return weights.to(backend.device, torch.float32 if norm else backend.dtype)
        if isinstance(weights, tuple):
            return tuple(of(x) for x in weights)
        return type(weights)(**{name: of(value) for name, value in vars(weights).items()})

    return loaded(Decoder(decoder.config, of(decoder.weights), backend))


def loaded(decoder: Decoder) -> LoadedModel:
    assert count_parameters(decoder.config, decoder.weights)
    return LoadedModel(Path("random"), decoder.config, decoder)


def adapter(model: LoadedModel, rank: int, seed: int) -> AdapterState:
    """As if it had been trained: B is not zero."""
    state = new_adapter(model.config, LoraConfig(rank, seed))
    state.weights.add_(torch.randn(state.weights.shape, generator=torch.Generator().manual_seed(seed)), alpha=0.01)
    state.move(model.backend.device)
    return state


def piece_of(name: str, config: ModelConfig, sequences: int, length: int, seed: int) -> Piece:
    rows = np.random.default_rng(seed).integers(0, config.vocab_size, (sequences, length + 1))
    ones = np.ones(length, np.float32)
    data = tuple(
        Datum(row[:-1].astype(np.int32), {"target_tokens": row[1:].astype(np.int64), "weights": ones}) for row in rows
    )
    (piece,) = cut(ForwardBackward(name, data, "cross_entropy", {}), sequences * length)
    return piece


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second by a large copy."""
    source = torch.ones((1 << 30) if device.type == "cuda" else (1 << 22), dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / measured(lambda: target.copy_(source), 5, device)


def measured(run: Callable[[], Any], rounds: int, device: torch.device, warm: int = 1) -> float:
    """The median of some rounds, in seconds."""
    for _ in range(warm):
        run()
    seconds = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def judged(sizes: Sizes, metric: str, **fields: Any) -> None:
    """Emit it with its goal, which is one for the whole shape only."""
    if metric in GOALS and sizes.config is QWEN3_8B:
        field, least, most = GOALS[metric]
        fields["goal"] = f"{field} >= {least:g}" if most == math.inf else f"{field} <= {most:g}"
        fields["reached"] = bool(least <= fields[field] <= most)
    emit(metric, **fields)


def emit(metric: str, **fields: Any) -> None:
    row = {"metric": metric, **fields}
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
