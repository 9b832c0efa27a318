"""A second implementation of what `tinker.ServiceClient` promises, in this process: strict, exact, and fast.

    service = FakeService()                      # in place of tinker.ServiceClient(...)
    checkpoint = asyncio.run(sft.train(config, service, examples, tmp_path))
    assert service.kinds()[:3] == ["create", "forward_backward", "optim_step"]

- It computes with `fake_model.TinyModel`, a softmax model of `FakeService.vocabulary` tokens whose names are the
  characters of `ALPHABET` (`FakeTokenizer`; token 0 ends an answer). Losses, Adam, seeds, temperature, stops, prompt
  log-probabilities, snapshots, saves and loads are real: equal requests give equal bits, so resumed runs can be
  compared with `==`.
- It refuses what a strict service may refuse, through the future like the real one, with `Refused`: unknown losses,
  settings and inputs (`mask` stays at home), wrong dtypes, shapes and lengths, tokens outside the vocabulary, values
  that are not finite, provenance that does not tile or does not name the very tokens and log-probabilities sampled,
  optimizer steps without a gradient, weights saved or published between a gradient and its step, prompts beyond the
  context, lifetimes outside the protocol's bounds, names used twice.
- `requests` lists what was asked, in order; `most_samples_at_once` is the highest number of samples under way.
- `latency` makes requests take time (asyncio only): a trainer takes one request at a time, samples run side by side.
- `on_request` is called with each `Request` before it is looked at; what it raises is raised at the caller, so
  `on_request=crash_at("optim_step", 5)` ends a program in the middle.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import tinker
from tinker.lib.public_interfaces import AwaitableConcurrentFuture

from tests.support.fake_model import LOSSES, Adapter, TinyModel

T = TypeVar("T")

END = 0
ALPHABET = "\x00abcdefghijklmnopqrstuvwxyz0123456789 ?="
MODEL = "fake/softmax"
HOUR, TEN_YEARS = 3600, 10 * 366 * 86_400


class Refused(Exception):
    """The request is not what the protocol allows; the text says where."""


class Crash(Exception):
    """The program ends here."""


class FakeTokenizer:
    """One token per character of `ALPHABET`."""

    eos_token_id = END

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ALPHABET.index(character) for character in text]

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        return "".join(ALPHABET[token] for token in tokens if token != END or not skip_special_tokens)


@dataclass(frozen=True)
class Latency:
    """Seconds that work takes; nothing by default."""

    per_sampled_token: float = 0.0
    per_trained_token: float = 0.0
    per_step: float = 0.0
    """Of the optimizer."""


@dataclass(frozen=True)
class Request:
    kind: str
    client: str
    seq: int
    """Counted by client, in the order of the calls."""
    facts: Mapping[str, Any] = field(default_factory=dict)


def crash_at(kind: str, count: int) -> Callable[[Request], None]:
    """Raises `Crash` at the `count`-th request of this kind, counted from 1."""
    seen = itertools.count(1)

    def look(request: Request) -> None:
        if request.kind == kind and next(seen) == count:
            raise Crash(f"{kind} {count}")

    return look


@dataclass(frozen=True)
class _Sampled:
    """What the service remembers of a sequence, for training data that name it."""

    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    recorded: bool


@dataclass(frozen=True)
class _Saved:
    adapter: Adapter
    base_model: str
    kind: str


@dataclass
class FakeService:
    """Stands where a `tinker.ServiceClient` is expected. Checkpoints live as long as the object."""

    vocabulary: int = len(ALPHABET)
    context_length: int = 512
    latency: Latency = Latency()
    on_request: Callable[[Request], None] | None = None
    requests: list[Request] = field(default_factory=list)
    most_samples_at_once: int = 0

    def __post_init__(self) -> None:
        self._saved: dict[str, _Saved] = {}
        self.lifetimes: dict[str, int | None] = {}
        self._sampled: dict[str, _Sampled] = {}
        self._models: dict[str, TinyModel] = {}
        self._numbers = itertools.count()
        self._samples_under_way = 0

    def kinds(self, client: str | None = None) -> list[str]:
        return [request.kind for request in self.requests if client in (None, request.client)]

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
    ) -> AwaitableConcurrentFuture[FakeTrainingClient]:
        if not rank > 0:
            raise Refused(f"rank {rank}")
        return _done(self._training_client(base_model, Adapter.fresh(self.vocabulary)))

    def create_training_client_from_state(
        self, path: str, user_metadata: dict[str, str] | None = None
    ) -> AwaitableConcurrentFuture[FakeTrainingClient]:
        saved = self._load(path, "weights")
        return _done(self._training_client(saved.base_model, saved.adapter.copy(optimizer=False)))

    def create_training_client_from_state_with_optimizer(
        self, path: str, user_metadata: dict[str, str] | None = None
    ) -> AwaitableConcurrentFuture[FakeTrainingClient]:
        saved = self._load(path, "weights")
        return _done(self._training_client(saved.base_model, saved.adapter.copy()))

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None, record_stability_info: bool = False
    ) -> AwaitableConcurrentFuture[FakeSamplingClient]:
        if (model_path is None) == (base_model is None):
            raise Refused("a sampler needs a path or a base model, and not both")
        adapter = None
        if model_path is not None:
            saved = self._load(model_path, "sampler_weights")
            adapter, base_model = saved.adapter, saved.base_model
        assert base_model is not None
        return _done(self.sampler(adapter, base_model, record_stability_info))

    async def keep(self, path: str) -> None:
        """A checkpoint stays for good."""
        if path not in self.lifetimes:
            raise Refused(f"{path} is no checkpoint")
        self.lifetimes[path] = None

    def sampler(self, adapter: Adapter | None, base_model: str, recording: bool) -> FakeSamplingClient:
        name = f"fake:sample:{next(self._numbers)}"
        return FakeSamplingClient(self, name, self.model(base_model), adapter, recording)

    def model(self, name: str) -> TinyModel:
        return self._models.setdefault(name, TinyModel(name, self.vocabulary))

    def note(self, request: Request) -> None:
        self.requests.append(request)
        if self.on_request is not None:
            self.on_request(request)

    def save(self, path: str, adapter: Adapter, base_model: str, kind: str, overwrite: bool = False) -> None:
        if path in self._saved and not overwrite:
            raise Refused(f"{path} exists")
        self._saved[path] = _Saved(adapter.copy(), base_model, kind)

    def remember(self, sequence_id: str, sampled: _Sampled) -> None:
        self._sampled[sequence_id] = sampled

    def remembered(self, sequence_id: str, where: str) -> _Sampled:
        if sequence_id not in self._sampled:
            raise Refused(f"{where} names sequence {sequence_id!r}, which was never sampled")
        return self._sampled[sequence_id]

    def samples_began(self, count: int) -> None:
        self._samples_under_way += count
        self.most_samples_at_once = max(self.most_samples_at_once, self._samples_under_way)

    def samples_ended(self, count: int) -> None:
        self._samples_under_way -= count

    def _load(self, path: str, kind: str) -> _Saved:
        saved = self._saved.get(path)
        if saved is None or saved.kind != kind:
            raise Refused(f"{path} is no checkpoint of kind {kind!r}")
        return saved

    def _training_client(self, base_model: str, adapter: Adapter) -> FakeTrainingClient:
        client = FakeTrainingClient(self, f"fake:train:{next(self._numbers)}", base_model, adapter)
        self.note(Request("create", client.model_id, 0, {"base_model": base_model}))
        return client


@dataclass
class FakeTrainingClient:
    """Stands where a `tinker.TrainingClient` is expected."""

    service: FakeService
    model_id: str
    base_model: str
    adapter: Adapter
    _gradient: Any = None
    _free_at: float = 0.0
    _seq: int = 0

    def get_tokenizer(self) -> FakeTokenizer:
        return FakeTokenizer()

    def forward(
        self, data: list[tinker.Datum], loss_fn: str, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> AwaitableConcurrentFuture[tinker.ForwardBackwardOutput]:
        self._note("forward", loss_fn=loss_fn, data=len(data))
        return self._after(self._seconds(data), lambda: self._pass(data, loss_fn, loss_fn_config)[0])

    def forward_backward(
        self, data: list[tinker.Datum], loss_fn: str, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> AwaitableConcurrentFuture[tinker.ForwardBackwardOutput]:
        self._note("forward_backward", loss_fn=loss_fn, data=len(data))

        def compute() -> tinker.ForwardBackwardOutput:
            output, gradient = self._pass(data, loss_fn, loss_fn_config)
            self._gradient = gradient if self._gradient is None else self._gradient + gradient
            return output

        return self._after(self._seconds(data), compute)

    def forward_backward_custom(
        self, data: list[tinker.Datum], loss_fn: Callable[..., Any]
    ) -> AwaitableConcurrentFuture[tinker.ForwardBackwardOutput]:
        """`loss_fn(data, logprobs_D)` gives the loss, a torch scalar, and metrics; its gradient is taken by torch."""
        self._note("forward_backward_custom", data=len(data))

        def compute() -> tinker.ForwardBackwardOutput:
            import torch

            weighted = [_with_zero_weights(datum) for datum in data]
            output, _ = self._pass(weighted, "cross_entropy", None)
            logprobs_D = [out["logprobs"].to_torch().clone().requires_grad_() for out in output.loss_fn_outputs]
            loss, metrics = loss_fn(data, logprobs_D)
            if loss.ndim != 0 or not torch.isfinite(loss):
                raise Refused(f"a custom loss is one finite number; found {loss}")
            loss.backward()
            # Cross-entropy with these weights has the custom loss's gradient.
            by_D = [-(lp.grad if lp.grad is not None else torch.zeros_like(lp)) for lp in logprobs_D]
            surrogate = [
                tinker.Datum(
                    datum.model_input,
                    {**datum.loss_fn_inputs, "weights": tinker.TensorData.from_torch(by.detach())},
                )
                for datum, by in zip(weighted, by_D, strict=True)
            ]
            _, gradient = self._pass(surrogate, "cross_entropy", None)
            self._gradient = gradient if self._gradient is None else self._gradient + gradient
            return tinker.ForwardBackwardOutput(
                output.loss_fn_output_type, output.loss_fn_outputs, {"loss:sum": float(loss.detach())} | dict(metrics)
            )

        return self._after(2 * self._seconds(data), compute)

    def optim_step(self, optim_params: tinker.AdamParams) -> AwaitableConcurrentFuture[tinker.OptimStepResponse]:
        self._note("optim_step", learning_rate=optim_params.learning_rate)

        def compute() -> tinker.OptimStepResponse:
            rate = optim_params.learning_rate
            if not (math.isfinite(rate) and rate >= 0 and 0 <= optim_params.beta1 < 1 and 0 <= optim_params.beta2 < 1):
                raise Refused(f"no optimizer takes {optim_params}")
            if self._gradient is None:
                raise Refused("an optimizer step without a gradient: send forward_backward first")
            metrics = self.adapter.adam_step(self._gradient, optim_params)
            self._gradient = None
            return tinker.OptimStepResponse(metrics=metrics)

        return self._after(self.service.latency.per_step, compute)

    def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> AwaitableConcurrentFuture[Any]:
        return self._save("save_state", "weights", name, ttl_seconds, overwrite)

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None, user_metadata: dict[str, str] | None = None
    ) -> AwaitableConcurrentFuture[Any]:
        return self._save("save_weights_for_sampler", "sampler_weights", name, ttl_seconds, False)

    def save_weights_and_get_sampling_client(
        self, *, record_stability_info: bool = False
    ) -> AwaitableConcurrentFuture[FakeSamplingClient]:
        self._note("publish")

        def compute() -> FakeSamplingClient:
            self._check_no_gradient()
            return self.service.sampler(self.adapter.copy(optimizer=False), self.base_model, record_stability_info)

        return self._after(0.0, compute)

    def create_sampling_client(
        self, model_path: str, record_stability_info: bool = False
    ) -> AwaitableConcurrentFuture[FakeSamplingClient]:
        return self.service.create_sampling_client(model_path, record_stability_info=record_stability_info)

    def load_state(self, path: str) -> AwaitableConcurrentFuture[Any]:
        return self._restore(path, optimizer=False)

    def load_state_with_optimizer(self, path: str) -> AwaitableConcurrentFuture[Any]:
        return self._restore(path, optimizer=True)

    def _restore(self, path: str, optimizer: bool) -> AwaitableConcurrentFuture[Any]:
        self._note("load_state")

        def compute() -> Any:
            self.adapter = self.service._load(path, "weights").adapter.copy(optimizer)
            return tinker.types.LoadWeightsResponse(path=path)

        return self._after(0.0, compute)

    def _save(self, request: str, kind: str, name: str, ttl: int | None, overwrite: bool) -> Any:
        self._note(request, name=name, ttl_seconds=ttl)

        def compute() -> Any:
            self._check_no_gradient()
            if not name or "/" in name:
                raise Refused(f"a checkpoint cannot be called {name!r}")
            if ttl is not None and not HOUR <= ttl <= TEN_YEARS:
                raise Refused(f"a lifetime of {ttl} s is not between an hour and ten years")
            path = f"tinker://{self.model_id}/{kind}/{name}"
            self.service.save(path, self.adapter, self.base_model, kind, overwrite)
            self.service.lifetimes[path] = ttl
            if kind == "weights":
                return tinker.types.SaveWeightsResponse(path=path)
            return tinker.types.SaveWeightsForSamplerResponse(path=path)

        return self._after(0.0, compute)

    def _pass(
        self, data: Sequence[tinker.Datum], loss_fn: str, config: Mapping[str, float | str] | None
    ) -> tuple[tinker.ForwardBackwardOutput, Any]:
        if not data:
            raise Refused("no data")
        loss, settings = _loss_settings(loss_fn, config)
        model = self.service.model(self.base_model)
        gradient = np.zeros_like(self.adapter.delta_FV)
        outputs, total = [], 0.0
        for index, datum in enumerate(data):
            where = f"data[{index}]"
            tokens, targets_TK, inputs = self._checked(datum, loss_fn, where)
            logprobs_TK = np.take_along_axis(model.logprobs_TV(tokens, self.adapter), targets_TK, axis=1)
            shape = datum.loss_fn_inputs["target_tokens"].to_numpy().shape
            value, by = loss.compute(logprobs_TK.reshape(shape), inputs, settings)
            total += value
            gradient += model.gradient_FV(tokens, self.adapter, targets_TK, by.reshape(targets_TK.shape))
            logprobs = tinker.TensorData.from_numpy(logprobs_TK.reshape(shape).astype(np.float32))
            outputs.append({"logprobs": logprobs})
        return tinker.ForwardBackwardOutput("TorchLossReturn", outputs, {"loss:sum": total}), gradient

    def _checked(self, datum: tinker.Datum, loss_fn: str, where: str) -> tuple[list[int], Any, dict[str, Any]]:
        """Tokens, targets `[T, K]` and the loss's inputs, all as the protocol wants them."""
        loss, given = LOSSES[loss_fn], datum.loss_fn_inputs
        tokens = datum.model_input.to_ints()  # images raise: this model has no eyes
        self._check_tokens(tokens, f"{where}.model_input")
        if not 0 < len(tokens) < self.service.context_length:
            raise Refused(f"{where}.model_input has {len(tokens)} tokens of {self.service.context_length} at most")
        wanted = {"target_tokens", *loss.inputs}
        if missing := wanted - given.keys():
            raise Refused(f"{where} lacks {sorted(missing)} for {loss_fn!r}")
        if unknown := given.keys() - wanted:
            raise Refused(f"{where} has {sorted(unknown)}, which {loss_fn!r} does not take")
        targets = given["target_tokens"].to_numpy()
        if targets.dtype != np.int64 or targets.ndim not in ((1, 2) if loss_fn == "cross_entropy" else (1,)):
            raise Refused(f"{where}.target_tokens is {targets.dtype}{list(targets.shape)}")
        if len(targets) != len(tokens):
            raise Refused(f"{where} has {len(tokens)} tokens and {len(targets)} targets")
        self._check_tokens(targets.flatten().tolist(), f"{where}.target_tokens")
        inputs = {}
        for name in loss.inputs:
            values = given[name].to_numpy()
            if values.dtype != np.float32 or values.shape != targets.shape:
                raise Refused(f"{where}.{name} is {values.dtype}{list(values.shape)}, targets are {targets.shape}")
            if not np.isfinite(values).all():
                raise Refused(f"{where}.{name} is not finite everywhere")
            inputs[name] = values.astype(np.float64)
        if "logprobs" in inputs and (inputs["logprobs"] > 1e-6).any():
            raise Refused(f"{where}.logprobs are above 0")
        if datum.loss_fn_input_spans is not None:
            self._check_provenance(datum, tokens, targets, where, recorded=loss_fn == "stable_reinforce")
        elif loss_fn == "stable_reinforce":
            raise Refused(f"{where} has no provenance, which 'stable_reinforce' needs")
        return tokens, targets.reshape(len(targets), -1), inputs

    def _check_provenance(
        self, datum: tinker.Datum, tokens: list[int], targets: Any, where: str, recorded: bool
    ) -> None:
        """The spans tile both fields, and what they name is what was sampled, to the bit."""
        logprobs = datum.loss_fn_inputs["logprobs"].to_numpy()
        advantages = datum.loss_fn_inputs["advantages"].to_numpy()
        for spans, field_tokens, name in (
            (datum.model_input_spans, tokens, "model_input"),
            (datum.loss_fn_input_spans, targets.tolist(), "target_tokens"),
        ):
            at, taken = 0, dict[str, int]()
            for span in spans or ():
                sampled = self.service.remembered(span.sequence_id, f"{where}.{name}")
                if recorded and not sampled.recorded:
                    raise Refused(f"{where}.{name}: sequence {span.sequence_id!r} was sampled without recording")
                rows = slice(at, at + span.length)
                if isinstance(span, tinker.PromptProvenanceSpan):
                    expected = sampled.prompt[span.offset : span.offset + span.length]
                    if name == "target_tokens" and advantages[rows].any():
                        raise Refused(f"{where}: tokens of a prompt have an advantage")
                else:
                    # The targets lack the first token of the datum, which is sampled only if there was no prompt.
                    begin = taken.get(span.sequence_id, 0)
                    taken[span.sequence_id] = begin + span.length
                    expected = sampled.tokens[begin : begin + span.length]
                    was = np.float32(sampled.logprobs[begin : begin + span.length])
                    if name == "target_tokens" and not np.array_equal(logprobs[rows], was):
                        raise Refused(f"{where}.logprobs are not those of sequence {span.sequence_id!r}")
                if list(field_tokens[rows]) != expected:
                    raise Refused(f"{where}.{name}: {span} does not name these tokens")
                at += span.length
            if at != len(field_tokens):
                raise Refused(f"{where}.{name}: spans cover {at} of {len(field_tokens)} positions")

    def _check_tokens(self, tokens: Sequence[int], where: str) -> None:
        if bad := [token for token in tokens if not 0 <= token < self.service.vocabulary]:
            raise Refused(f"{where} holds token {bad[0]}; the vocabulary has {self.service.vocabulary}")

    def _check_no_gradient(self) -> None:
        if self._gradient is not None:
            raise Refused("weights are saved between a gradient and its optimizer step")

    def _seconds(self, data: Sequence[tinker.Datum]) -> float:
        return self.service.latency.per_trained_token * sum(datum.model_input.length for datum in data)

    def _note(self, kind: str, **facts: Any) -> None:
        self._seq += 1
        self.service.note(Request(kind, self.model_id, self._seq, facts))

    def _after(self, seconds: float, compute: Callable[[], T]) -> AwaitableConcurrentFuture[T]:
        """The state changes at once, so requests take effect in order; the answer comes when the trainer is done."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + seconds
        return _answer(compute, self._free_at - now)


@dataclass
class FakeSamplingClient:
    """Stands where a `tinker.SamplingClient` is expected: weights as they were when it was made."""

    service: FakeService
    name: str
    model: TinyModel
    adapter: Adapter | None
    recording: bool
    _seq: int = 0

    def get_tokenizer(self) -> FakeTokenizer:
        return FakeTokenizer()

    def get_base_model(self) -> str:
        return self.model.name

    def sample(
        self,
        prompt: tinker.ModelInput,
        num_samples: int,
        sampling_params: tinker.SamplingParams,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
    ) -> AwaitableConcurrentFuture[tinker.SampleResponse]:
        self._note("sample", num_samples=num_samples, seed=sampling_params.seed, prompt=prompt.length)
        params, tokens = sampling_params, prompt.to_ints()
        response: tinker.SampleResponse | None = None

        def compute() -> tinker.SampleResponse:
            self._check(tokens, num_samples, params)
            sequences = [self._sequence(tokens, params, index) for index in range(num_samples)]
            scores = self._prompt_logprobs(tokens) if include_prompt_logprobs else None
            topk = self._topk(tokens, topk_prompt_logprobs) if topk_prompt_logprobs else None
            return tinker.SampleResponse(
                sequences=sequences, _prompt_logprobs_list=scores, _topk_prompt_logprobs_list=topk
            )

        try:
            response = compute()
        except Refused as error:
            return _failed(error)
        longest = max(len(sequence.tokens) for sequence in response.sequences)
        self.service.samples_began(num_samples)
        answer = _answer(lambda: response, self.service.latency.per_sampled_token * longest)
        answer.future().add_done_callback(lambda _: self.service.samples_ended(num_samples))
        return answer

    def compute_logprobs(self, prompt: tinker.ModelInput) -> AwaitableConcurrentFuture[list[float | None]]:
        self._note("compute_logprobs", prompt=prompt.length)
        return _answer(lambda: self._prompt_logprobs(prompt.to_ints()), 0.0)

    def _sequence(self, prompt: list[int], params: tinker.SamplingParams, index: int) -> tinker.SampledSequence:
        # Without a seed a service may do as it likes: this one never repeats itself.
        seed = params.seed if params.seed is not None else 1_000_003 * self.service_number() + 7
        tokens, logprobs, stopped = self.model.sample(
            prompt,
            self.adapter,
            max_tokens=params.max_tokens or self.service.context_length - len(prompt),
            temperature=params.temperature,
            draw=np.random.default_rng((seed, index)),
            ends=_stop(params.stop),
        )
        sequence_id = f"{self.name}:{self._seq}:{index}"
        logprobs = [float(np.float32(logprob)) for logprob in logprobs]
        self.service.remember(sequence_id, _Sampled(prompt, tokens, logprobs, self.recording))
        return tinker.SampledSequence(
            stop_reason="stop" if stopped else "length",
            sequence_id=sequence_id,
            tokens_np=np.array(tokens, dtype=np.int32),
            logprobs_np=np.array(logprobs, dtype=np.float32),
        )

    def service_number(self) -> int:
        return len(self.service.requests)

    def _check(self, prompt: list[int], num_samples: int, params: tinker.SamplingParams) -> None:
        limit = self.service.context_length
        if not prompt or any(not 0 <= token < self.service.vocabulary for token in prompt):
            raise Refused(f"this prompt of {len(prompt)} tokens is empty or not of this vocabulary")
        if num_samples < 1 or not (params.temperature >= 0 and math.isfinite(params.temperature)):
            raise Refused(f"{num_samples} samples at temperature {params.temperature}")
        if params.max_tokens is not None and params.max_tokens < 1:
            raise Refused(f"max_tokens is {params.max_tokens}")
        if len(prompt) + (params.max_tokens or 1) > limit:
            raise Refused(f"{len(prompt)} tokens of prompt and {params.max_tokens} more exceed the context of {limit}")
        if params.seed is not None and not 0 <= params.seed < 2**63:
            raise Refused(f"seed {params.seed}")
        if params.top_p != 1 or params.top_k != -1:
            raise Refused("this service draws from the whole distribution; leave top_p and top_k alone")

    def _prompt_logprobs(self, tokens: list[int]) -> list[float | None]:
        if not 0 < len(tokens) <= self.service.context_length:
            raise Refused(f"{len(tokens)} tokens to score, of {self.service.context_length} at most")
        rows_TV = self.model.logprobs_TV(tokens, self.adapter)
        scores = [float(np.float32(rows_TV[at, token])) for at, token in enumerate(tokens[1:])]
        return [None, *scores]

    def _topk(self, tokens: list[int], k: int) -> list[list[tuple[int, float]] | None]:
        rows_TV = self.model.logprobs_TV(tokens, self.adapter)[:-1]
        best = [[(int(token), float(row[token])) for token in np.argsort(-row)[:k]] for row in rows_TV]
        return [None, *best]

    def _note(self, kind: str, **facts: Any) -> None:
        self._seq += 1
        self.service.note(Request(kind, self.name, self._seq, facts))


def _loss_settings(loss_fn: str, config: Mapping[str, float | str] | None) -> tuple[Any, Mapping[str, float]]:
    if loss_fn not in LOSSES:
        raise Refused(f"loss_fn {loss_fn!r} is unknown; there are {sorted(LOSSES)}")
    loss = LOSSES[loss_fn]
    for key, value in (config or {}).items():
        if key not in loss.settings:
            raise Refused(f"{loss_fn!r} has no setting {key!r}; it has {sorted(loss.settings)}")
        if isinstance(value, str) or not math.isfinite(value):
            raise Refused(f"setting {key!r} is {value!r}")
    return loss, {**loss.settings, **(config or {})}  # type: ignore[dict-item]


def _with_zero_weights(datum: tinker.Datum) -> tinker.Datum:
    targets = datum.loss_fn_inputs["target_tokens"]
    zeros = tinker.TensorData.from_numpy(np.zeros(targets.to_numpy().shape, dtype=np.float32))
    return tinker.Datum(datum.model_input, {"target_tokens": targets, "weights": zeros})


def _stop(stop: str | Sequence[str] | Sequence[int] | None) -> Callable[[list[int]], bool]:
    """`None` ends at the end token, `[]` never; texts and token ids stay in the answer."""
    stops: Sequence[Any] = [END] if stop is None else [stop] if isinstance(stop, str) else list(stop)
    if len({type(end) for end in stops}) > 1:
        raise Refused(f"stops are texts or token ids, not both: {stops}")
    tokenizer = FakeTokenizer()

    def ends(tokens: list[int]) -> bool:
        if stops and isinstance(stops[0], str):
            text = tokenizer.decode(tokens)
            return tokens[-1] == END or any(text.endswith(end) for end in stops)
        return tokens[-1] in stops

    return ends


def _answer(compute: Callable[[], T], seconds: float) -> AwaitableConcurrentFuture[T]:
    """What `compute` gives now, handed over after `seconds`."""
    try:
        value = compute()
    except Refused as error:
        return _failed(error)
    if seconds <= 0:
        return _done(value)
    future: Future[T] = Future()
    asyncio.get_running_loop().call_later(seconds, lambda: future.done() or future.set_result(value))
    return AwaitableConcurrentFuture(future)


def _done(value: T) -> AwaitableConcurrentFuture[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return AwaitableConcurrentFuture(future)


def _failed(error: Exception) -> AwaitableConcurrentFuture[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return AwaitableConcurrentFuture(future)
