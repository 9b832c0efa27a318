"""Continuous batching: the right distribution, whoever else is being served, and nothing left behind."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hone.engine.attention import BLOCK
from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward, ModelSource, Sample
from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.sampling.prompt import MASKED_LOGPROB
from hone.engine.sampling.version import AdapterVersion
from hone.engine.trainer import run_pieces
from hone.errors import UserError
from hone.protocol.types import Datum, LoraConfig, SampledSequence, SampleResult, SamplingParams
from tests.unit.engine.material import VOCAB, reference_logprobs, reference_model, trained_adapter
from tests.unit.engine.sampling.material import Asked, assert_equal, free_blocks, one, prompt, request, run, sampler_of

TRAINER_TOLERANCE = 2e-6
"""Nats between a sampled token's log-probability and the trainer's."""


@pytest.fixture(scope="module")
def adapters(qwen3: LoadedModel) -> dict[str, AdapterState]:
    return {
        "v1": trained_adapter(qwen3.config, LoraConfig(8, 1)),
        "v2": trained_adapter(qwen3.config, LoraConfig(3, 2)),
        "v3": trained_adapter(qwen3.config, LoraConfig(4, 3, train_mlp=False)),
    }


@pytest.fixture(scope="module")
def versions(adapters: dict[str, AdapterState]) -> dict[str, AdapterVersion]:
    return {name: AdapterVersion(state.layout, state.weights.clone()) for name, state in adapters.items()}


# --- the right numbers -----------------------------------------------------------------------------------------------


def trainer_logprobs(
    model: LoadedModel, state: AdapterState, prompt_T: np.ndarray, sequence: SampledSequence
) -> np.ndarray:
    """Of every token after the first, prompt included, as a forward pass of the trainer gives them."""
    tokens = np.concatenate([prompt_T, sequence.tokens])
    inputs: dict[str, np.ndarray] = {
        "target_tokens": tokens[1:].astype(np.int64),
        "weights": np.ones(len(tokens) - 1, np.float32),
    }
    datum = Datum(tokens[:-1], inputs)
    (piece,) = cut(ForwardBackward("a", (datum,), "cross_entropy", {}, forward_only=True), 4096)
    return run_pieces(model.decoder, [piece], {"a": state})[0].logprobs[0]


@pytest.mark.parametrize("length", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("family", ["qwen3", "llama_rope", "qwen3_moe"])
def test_sampled_log_probabilities_are_the_trainers(family: str, length: int, models: dict[str, LoadedModel]) -> None:
    model = models[family]
    state = trained_adapter(model.config, LoraConfig(8, 1))
    version, prompt_T = AdapterVersion(state.layout, state.weights.clone()), prompt(length, length)
    op = request(prompt_T, "v", samples=3, max_tokens=60, prompt_logprobs=True)
    result = one(sampler_of(model), op, version)
    for sequence in result.sequences:
        wanted = trainer_logprobs(model, state, prompt_T, sequence)
        assert np.abs(sequence.logprobs - wanted[length - 1 :]).max() < TRAINER_TOLERANCE
        assert result.prompt_logprobs is not None
        np.testing.assert_allclose(result.prompt_logprobs[1:], wanted[: length - 1], atol=TRAINER_TOLERANCE)


@pytest.mark.parametrize("length", [150, 380, 700, 1100])
def test_the_trainers_in_long_contexts_too(length: int, models: dict[str, LoadedModel]) -> None:
    """Where the products inside attention break their sums must not depend on the length of the sequence."""
    model = models["qwen3_long"]
    state = trained_adapter(model.config, LoraConfig(64, 1))
    version, prompt_T = AdapterVersion(state.layout, state.weights.clone()), prompt(length, length)
    op = request(prompt_T, "v", samples=2, max_tokens=150, prompt_logprobs=True)
    result = one(sampler_of(model, prefill=2048), op, version)
    for sequence in result.sequences:
        wanted = trainer_logprobs(model, state, prompt_T, sequence)
        assert np.abs(sequence.logprobs - wanted[length - 1 :]).max() < TRAINER_TOLERANCE
        assert result.prompt_logprobs is not None
        assert np.abs(result.prompt_logprobs[1:] - wanted[: length - 1]).max() < TRAINER_TOLERANCE


def test_greedy_is_that_of_transformers(qwen3: LoadedModel) -> None:
    prompt_T, tokens = prompt(1, 20), prompt(1, 20).tolist()
    (sequence,) = one(sampler_of(qwen3), request(prompt_T, max_tokens=40, temperature=0.0)).sequences
    for token, logprob in zip(sequence.tokens, sequence.logprobs, strict=True):
        everything = np.array([*tokens])
        with torch.no_grad():
            logits = reference_model("qwen3")(torch.from_numpy(everything)[None], use_cache=False).logits[0, -1]
        assert int(logits.argmax()) == token
        tokens.append(int(token))
        targets = np.array([*tokens[1:]])
        assert abs(reference_logprobs(reference_model("qwen3"), everything, targets)[-1] - logprob) < 1e-5


def test_first_tokens_of_many_samples_follow_the_distribution(qwen3: LoadedModel) -> None:
    prompt_T, count = prompt(2, 9), 2000
    result = one(sampler_of(qwen3, rows=64), request(prompt_T, samples=count, max_tokens=1))
    with torch.no_grad():
        logits = reference_model("qwen3")(torch.from_numpy(prompt_T.astype(np.int64))[None]).logits[0, -1]
    expected = torch.softmax(logits.double(), -1).numpy() * count
    found = np.bincount([int(s.tokens[0]) for s in result.sequences], minlength=VOCAB)
    likely = expected >= 5
    rest = (found[~likely].sum() - expected[~likely].sum()) ** 2 / expected[~likely].sum()
    chi_square = ((found - expected)[likely] ** 2 / expected[likely]).sum() + rest
    freedom = int(likely.sum())
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_temperature_scales_the_reported_distribution(qwen3: LoadedModel) -> None:
    prompt_T = prompt(3, 9)
    (sequence,) = one(sampler_of(qwen3), request(prompt_T, max_tokens=8, temperature=0.5, top_k=5)).sequences
    tokens = np.concatenate([prompt_T, sequence.tokens])
    with torch.no_grad():
        logits = reference_model("qwen3")(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0]
    wanted = torch.log_softmax(logits.double() / 0.5, -1)
    for i, token in enumerate(sequence.tokens):
        assert abs(float(wanted[len(prompt_T) - 1 + i, int(token)]) - sequence.logprobs[i]) < 2e-5


# --- equal seeds -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(versions: dict[str, AdapterVersion]) -> list[Asked]:
    """Many kinds of requests; prompts and samples of all lengths."""
    names: list[str | None] = ["v1", None, "v2", "v1", "v3"]
    rng = np.random.default_rng(11)
    out: list[Asked] = []
    for i in range(14):
        name = names[i % len(names)]
        op = request(
            prompt(100 + i, int(rng.integers(1, 70))),
            name,
            samples=1 + i % 3,
            seed=i,
            max_tokens=int(rng.integers(1, 50)),
            temperature=(1.0, 0.7, 0.0)[i % 3],
            top_k=(-1, -1, -1, 10)[i % 4],
            top_p=(1.0, 0.9)[i % 2],
        )
        out.append((op, versions[name] if name else None))
    return out


@pytest.fixture(scope="module")
def alone(asked: list[Asked], qwen3: LoadedModel) -> list[SampleResult]:
    return [one(sampler_of(qwen3), op, version) for op, version in asked]


@pytest.mark.parametrize(
    ("kind", "order", "joining_every"),
    [
        ("all at once", 1, 0),
        ("the other way round", -1, 0),
        ("joining late", 1, 3),
        ("few rows", 1, 0),
        ("a small cache", 1, 2),
        ("short prefills", -1, 1),
    ],
)
def test_equal_requests_give_equal_samples_under_any_load(
    kind: str, order: int, joining_every: int, asked: list[Asked], alone: list[SampleResult], qwen3: LoadedModel
) -> None:
    sampler = sampler_of(
        qwen3,
        rows=3 if kind == "few rows" else 32,
        cache_tokens=160 if kind == "a small cache" else 8192,
        prefill=20 if kind == "short prefills" else 256,
    )
    total = free_blocks(sampler)
    results = run(sampler, asked[::order], joining_every)
    for place, wanted in enumerate(alone[::order]):
        assert_equal(results[place], wanted)
    assert free_blocks(sampler) == total


@pytest.mark.parametrize("rank", [1, 2, 8])
@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe"])
def test_company_on_the_same_adapter_changes_no_bit(family: str, rank: int, models: dict[str, LoadedModel]) -> None:
    model = models[family]
    state = trained_adapter(model.config, LoraConfig(rank, 5), size=0.2)
    version = AdapterVersion(state.layout, state.weights.clone())
    op = request(prompt(7, 6), "v", seed=3, max_tokens=30)
    wanted = one(sampler_of(model), op, version)
    for company in (1, 2, 3, 5, 11):
        others = [(request(prompt(50 + i, 6), "v", seed=i, max_tokens=30), version) for i in range(company)]
        assert_equal(run(sampler_of(model), [*others, (op, version)])[company], wanted)


def test_one_request_for_many_samples_is_many_requests_in_one(qwen3: LoadedModel) -> None:
    """Sample i depends on (seed, i), not on how many were asked."""
    prompt_T = prompt(5, 21)
    many = one(sampler_of(qwen3), request(prompt_T, samples=9, seed=4, max_tokens=20)).sequences
    few = one(sampler_of(qwen3, rows=2), request(prompt_T, samples=4, seed=4, max_tokens=20)).sequences
    for a, b in zip(many, few, strict=False):
        np.testing.assert_array_equal(a.tokens, b.tokens)
    assert len({tuple(s.tokens) for s in many}) == 9
    other = one(sampler_of(qwen3), request(prompt_T, samples=1, seed=5, max_tokens=20)).sequences
    assert tuple(other[0].tokens) not in {tuple(s.tokens) for s in many}


# --- stopping --------------------------------------------------------------------------------------------------------


# --- what is reused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen3_long", "qwen3_moe"])
def test_a_cached_beginning_changes_no_bit_and_is_counted(family: str, models: dict[str, LoadedModel]) -> None:
    model, prompt_T = models[family], prompt(3, 100)
    ops = [request(prompt_T[:n], max_tokens=20, seed=n) for n in (100, 100, 60, 97, 5, 96, 33)]
    sampler = sampler_of(model)
    results = [one(sampler, op) for op in ops]
    assert [r.prompt_cache_hit_tokens for r in results] == [0, 96, 48, 96, 0, 80, 32]
    for op, result in zip(ops, results, strict=True):
        assert_equal(result, one(sampler_of(model), op))
    assert free_blocks(sampler) == sampler._pool.size


def test_the_next_turn_of_a_conversation_computes_only_what_is_new(models: dict[str, LoadedModel]) -> None:
    model, sampler = models["qwen3_long"], sampler_of(models["qwen3_long"])
    history, hits = prompt(4, 40), []
    for turn in range(5):
        op = request(history, max_tokens=50, seed=turn)
        result = one(sampler, op)
        assert_equal(result, one(sampler_of(model), op))
        hits.append(result.prompt_cache_hit_tokens)
        history = np.concatenate([history, result.sequences[0].tokens, prompt(turn, 10)]).astype(np.int32)
    # 40 + 60 per turn; the last token drawn was never fed, so it and what follows is new
    assert hits == [0, *((40 + 60 * turn - 10 - 1) // BLOCK * BLOCK for turn in range(1, 5))]


def test_adapters_share_no_beginnings(qwen3: LoadedModel, versions: dict[str, AdapterVersion]) -> None:
    sampler, prompt_T = sampler_of(qwen3), prompt(5, 50)
    asked: list[Asked] = [
        *[(request(prompt_T, name), versions[name]) for name in ("v1", "v2", "v1", "v2")],
        (request(prompt_T), None),
    ]
    results = [one(sampler, *each) for each in asked]
    assert [r.prompt_cache_hit_tokens for r in results] == [0, 0, 48, 48, 0]
    for each, result in zip(asked, results, strict=True):
        assert_equal(result, one(sampler_of(qwen3), *each))


def test_a_prompt_asked_for_many_times_at_once_is_computed_once(models: dict[str, LoadedModel]) -> None:
    model, prompt_T = models["qwen3_long"], prompt(6, 1000)
    asked: list[Asked] = [(request(prompt_T, seed=i), None) for i in range(16)]
    results = run(sampler_of(model, prefill=1 << 15, cache_tokens=1 << 15), asked)
    assert [results[i].prompt_cache_hit_tokens for i in range(16)] == [0, *[992] * 15]
    for i in range(16):
        assert_equal(results[i], one(sampler_of(model), *asked[i]))


def test_scored_prompts_are_computed_in_full(qwen3: LoadedModel) -> None:
    sampler, prompt_T = sampler_of(qwen3), prompt(7, 60)
    one(sampler, request(prompt_T))
    scored = one(sampler, request(prompt_T, prompt_logprobs=True))
    assert scored.prompt_cache_hit_tokens == 0
    assert scored.prompt_logprobs is not None
    assert np.isfinite(scored.prompt_logprobs[1:]).all()


def test_a_full_cache_forgets_and_serves_on(qwen3: LoadedModel) -> None:
    sampler = sampler_of(qwen3, cache_tokens=160)
    asked = [request(prompt(i % 4, 100), max_tokens=10, seed=i) for i in range(12)]
    for op in asked:
        assert_equal(one(sampler, op), one(sampler_of(qwen3), op))
    assert free_blocks(sampler) == sampler._pool.size


def test_max_tokens_is_a_length_stop(qwen3: LoadedModel) -> None:
    for count in (1, 2, 16, 33):
        (sequence,) = one(sampler_of(qwen3), request(prompt(1, 5), max_tokens=count)).sequences
        assert (len(sequence.tokens), len(sequence.logprobs), sequence.stop_reason) == (count, count, "length")


def test_without_max_tokens_generation_fills_the_context(qwen3: LoadedModel) -> None:
    op = Sample("base", None, prompt(1, 200), 1, SamplingParams(stop=()), 0)
    (sequence,) = one(sampler_of(qwen3), op).sequences
    assert len(sequence.tokens) == qwen3.config.max_context - 200


def test_a_stop_token_ends_its_own_sequence_and_is_part_of_it(qwen3: LoadedModel) -> None:
    free = one(sampler_of(qwen3), request(prompt(1, 5), samples=4, max_tokens=30)).sequences
    stop = int(free[0].tokens[7])
    stopped = one(sampler_of(qwen3), request(prompt(1, 5), samples=4, max_tokens=30, stop=(stop,))).sequences
    assert stopped[0].stop_reason == "stop"
    for whole, found in zip(free, stopped, strict=True):
        hits = np.flatnonzero(whole.tokens == stop)
        end = hits[0] + 1 if len(hits) else len(whole.tokens)
        np.testing.assert_array_equal(found.tokens, whole.tokens[:end])
        assert found.stop_reason == ("stop" if len(hits) else "length")


@pytest.fixture(scope="module")
def with_tokenizer(model_directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    directory = tmp_path_factory.mktemp("tokenizer") / "model"
    shutil.copytree(model_directories["qwen3"], directory)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:VOCAB]
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    return load_model(ModelSource("with tokenizer", directory))


def test_a_stop_string_over_several_tokens_ends_generation(with_tokenizer: LoadedModel) -> None:
    decode = with_tokenizer.tokenizer.decode

    def sampled(seed: int, stop: tuple[str, ...]) -> SampledSequence:
        op = request(prompt(1, 5), seed=seed, max_tokens=40, temperature=2.0, stop=stop)
        return one(sampler_of(with_tokenizer), op).sequences[0]

    tried = 0
    for seed in range(20):
        whole = sampled(seed, ())
        stop = decode(whole.tokens[20:23].tolist())
        if not stop.isascii() or stop in decode(whole.tokens[:22].tolist()):
            continue  # bytes that are no text, or text that came up earlier
        tried += 1
        found = sampled(seed, (stop,))
        assert found.stop_reason == "stop"
        np.testing.assert_array_equal(found.tokens, whole.tokens[:23])
    assert tried


# --- what else a request may ask -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 40])
def test_prompt_log_probabilities_and_their_masks(length: int, qwen3: LoadedModel) -> None:
    prompt_T = prompt(6, length)
    op = request(prompt_T, samples=2, max_tokens=3, prompt_logprobs=True, topk_prompt_logprobs=5)
    result = one(sampler_of(qwen3), op)
    assert result.prompt_logprobs is not None
    assert result.topk_prompt_logprobs is not None
    assert result.prompt_logprobs.shape == (length,)
    assert np.isnan(result.prompt_logprobs[0])
    ids, logprobs = result.topk_prompt_logprobs.token_ids, result.topk_prompt_logprobs.logprobs
    assert ids.shape == logprobs.shape == (length, 5)
    assert ids.dtype == np.dtype(np.int32)
    assert logprobs.dtype == np.dtype(np.float32)
    assert (logprobs[0] == MASKED_LOGPROB).all()
    if length == 1:
        return
    wanted = reference_logprobs(reference_model("qwen3"), prompt_T[:-1], prompt_T[1:])
    np.testing.assert_allclose(result.prompt_logprobs[1:], wanted, atol=1e-5)
    with torch.no_grad():
        logits = reference_model("qwen3")(torch.from_numpy(prompt_T.astype(np.int64))[None]).logits[0, :-1]
    best = torch.log_softmax(logits, -1).topk(5)
    np.testing.assert_array_equal(ids[1:], best.indices.numpy())
    np.testing.assert_allclose(logprobs[1:], best.values.numpy(), atol=1e-5)


def test_what_was_not_asked_is_absent(qwen3: LoadedModel) -> None:
    result = one(sampler_of(qwen3), request(prompt(6, 9)))
    assert result.prompt_logprobs is None
    assert result.topk_prompt_logprobs is None
    assert result.sequences[0].topk is None


def test_likeliest_tokens_of_every_sampled_position(qwen3: LoadedModel) -> None:
    (sequence,) = one(sampler_of(qwen3), request(prompt(6, 9), max_tokens=7, topk_sample_logprobs=VOCAB)).sequences
    assert sequence.topk is not None
    ids, logprobs = sequence.topk.token_ids, sequence.topk.logprobs
    assert ids.shape == logprobs.shape == (7, VOCAB)
    assert (np.diff(logprobs, axis=1) <= 0).all()
    np.testing.assert_allclose(np.exp(logprobs.astype(np.float64)).sum(1), 1, rtol=1e-5)
    for row, (token, logprob) in enumerate(zip(sequence.tokens, sequence.logprobs, strict=True)):
        assert logprobs[row][ids[row] == token] == logprob


# --- space -----------------------------------------------------------------------------------------------------------


def test_cancelling_frees_the_blocks_and_leaves_the_others_alone(qwen3: LoadedModel) -> None:
    kept = request(prompt(1, 20), samples=2, seed=1, max_tokens=30)
    wanted = one(sampler_of(qwen3), kept)
    sampler = sampler_of(qwen3, rows=5)
    total = free_blocks(sampler)
    sampler.add(1, kept, None)
    for ticket in (2, 3, 4):  # some will be running, some started in part, some waiting
        sampler.add(ticket, request(prompt(ticket, 17), samples=3, seed=ticket, max_tokens=30), None)
    results = dict(result for _ in range(5) for result in sampler.step())
    for ticket in (2, 3, 4, 99):
        sampler.cancel(ticket)
    while sampler:
        results.update(sampler.step())
    assert set(results) == {1}
    assert_equal(results[1], wanted)
    assert free_blocks(sampler) == total
    sampler.cancel(1)


def test_the_largest_request_that_is_accepted_is_served(qwen3: LoadedModel) -> None:
    """Whatever passes the check must be able to run on an idle sampler."""
    for blocks in (2, 4, 7):
        for length in (1, 15, 16, 17, 31):
            sampler = sampler_of(qwen3, cache_tokens=blocks * BLOCK)
            for max_tokens in range(blocks * BLOCK - length, 0, -1):
                try:
                    sampler.add(0, request(prompt(1, length), max_tokens=max_tokens), None)
                except UserError:
                    continue
                finished = [done for _ in range(max_tokens + 1) for done in sampler.step()]
                assert finished, f"{length} + {max_tokens} tokens wait forever for {blocks} free blocks"
                break


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_mix_of_requests_waits_forever(data: st.DataObject, qwen3: LoadedModel) -> None:
    blocks = data.draw(st.integers(3, 9), label="blocks")
    sampler = sampler_of(qwen3, data.draw(st.integers(1, 6), label="rows"), blocks * BLOCK, prefill=32)
    total = free_blocks(sampler)
    room = (blocks - 1) * BLOCK
    asked: list[Asked] = []
    for i in range(data.draw(st.integers(1, 6), label="requests")):
        length = data.draw(st.integers(1, room - 1))
        op = request(
            prompt(i, length),
            samples=data.draw(st.integers(1, 4)),
            max_tokens=data.draw(st.integers(1, min(20, room - length))),
        )
        asked.append((op, None))
    results = run(sampler, asked, data.draw(st.integers(0, 3), label="joining every"))
    assert len(results) == len(asked)
    for place, (op, _) in enumerate(asked):
        assert [len(s.tokens) for s in results[place].sequences] == [op.params.max_tokens] * op.num_samples
    assert free_blocks(sampler) == total


def test_a_refused_request_leaves_nothing_behind(qwen3: LoadedModel) -> None:
    sampler = sampler_of(qwen3)
    with pytest.raises(UserError):
        sampler.add(1, request(prompt(1, 5), max_tokens=0), None)
    assert not sampler
    assert sampler.step() == []
