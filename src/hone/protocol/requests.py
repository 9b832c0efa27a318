"""The JSON bodies that clients send. Unknown fields are ignored, so that newer clients still work."""

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from hone.errors import UserError
from hone.protocol import types
from hone.protocol.lora import MAX_RANK

MIN_TTL_SECONDS, MAX_TTL_SECONDS = 3600, 10 * 365 * 24 * 3600
MAX_RECIPIENTS = 10


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _text_values(metadata: object) -> object:
    """Clients read metadata back as text, so numbers and the like become text on the way in."""
    if not isinstance(metadata, dict):
        return metadata
    return {str(key): value if isinstance(value, str) else str(value) for key, value in metadata.items()}


Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Finite = Annotated[float, AfterValidator(_finite)]
Ttl = Annotated[int, Field(ge=MIN_TTL_SECONDS, le=MAX_TTL_SECONDS)]
Metadata = dict[str, str]


class CreateSession(Body):
    tags: list[str] = []
    user_metadata: Metadata | None = None
    sdk_version: str = ""
    project_id: str | None = None
    display_name: str | None = None

    _text = field_validator("user_metadata", mode="before")(_text_values)


class SessionHeartbeat(Body):
    session_id: str


class FinishReason(Body):
    type: Literal["success", "errored", "interrupted"]


class FinishSession(Body):
    reason: FinishReason
    detail: str | None = None


class OptimizerConfig(Body):
    type: str = "adamw"


class LoraConfig(Body):
    rank: int = Field(default=32, ge=1, le=MAX_RANK)
    seed: int | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True


class ModelAddress(Body):
    """Where a model's first request goes: enough to accept it before anything else is looked at."""

    session_id: str
    model_seq_id: int = Field(ge=0)


class OperationAddress(Body):
    """Where every later request of a model goes."""

    model_id: str
    seq_id: int = Field(ge=1, lt=2**63)


class CreateModel(ModelAddress):
    base_model: str
    lora_config: LoraConfig = LoraConfig()
    optimizer_config: OptimizerConfig = OptimizerConfig()
    user_metadata: Metadata | None = None

    _text = field_validator("user_metadata", mode="before")(_text_values)


class LoadWeights(Body):
    """With `session_id` and `model_seq_id` it makes a model; with `model_id` and `seq_id` it loads into a new one."""

    path: str
    optimizer: bool
    base_model: str | None = None
    optimizer_config: OptimizerConfig | None = None
    user_metadata: Metadata | None = None

    _text = field_validator("user_metadata", mode="before")(_text_values)


class GetInfo(Body):
    model_id: str


class UnloadModel(Body):
    model_id: str


class AdamParams(Body):
    learning_rate: Annotated[Finite, Field(ge=0)] = 1e-4
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: Annotated[Finite, Field(ge=0)] = 1e-12
    weight_decay: Finite = 0.0
    grad_clip_norm: Finite = 0.0

    def to_types(self) -> types.AdamParams:
        return types.AdamParams(
            learning_rate=self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            grad_clip_norm=max(self.grad_clip_norm, 0.0),
        )


class OptimStep(OperationAddress):
    adam_params: AdamParams | None = None
    optimizer_params: OptimizerConfig | None = None
    """Parameters of an optimizer other than AdamW."""


class SaveWeights(OperationAddress):
    path: str
    ttl_seconds: Ttl | None = None
    overwrite: bool = False
    user_metadata: Metadata | None = None

    _text = field_validator("user_metadata", mode="before")(_text_values)


class SaveWeightsExternal(OperationAddress):
    path: str
    ttl_seconds: Ttl | None = None
    age_encryption_recipients: list[str] | None = Field(default=None, max_length=MAX_RECIPIENTS)


class SaveWeightsForSampler(OperationAddress):
    path: str | None = None
    """None makes an unnamed version together with a sampling session of number `sampling_session_seq_id`."""
    sampling_session_seq_id: int | None = Field(default=None, ge=0)
    kind: Literal["snapshot", "inflight"] = "snapshot"
    ttl_seconds: Ttl | None = None
    user_metadata: Metadata | None = None

    _text = field_validator("user_metadata", mode="before")(_text_values)


class CustomLossAddress(Body):
    session_id: str
    custom_loss_seq_id: int = Field(ge=0, lt=2**62)


class CustomLossInput(Body):
    name: str = Field(max_length=64)
    rank: Literal[0, 1, 2]


class CreateCustomLoss(CustomLossAddress):
    name: str = Field(max_length=256)
    inputs: list[CustomLossInput]
    graph: dict[str, Any]


class CreateSamplingSession(Body):
    session_id: str
    sampling_session_seq_id: int = Field(ge=0)
    base_model: str | None = None
    model_path: str | None = None


class SampleAddress(Body):
    sampling_session_id: str
    seq_id: int = Field(ge=0, lt=2**63)
    num_samples: int = Field(default=1, ge=1, le=65536)
    """Part of the address because the sequences get their names on acceptance."""


class Chunk(Body):
    type: str
    tokens: list[Annotated[int, Field(ge=-(2**31), lt=2**31)]] = []
    data: str = ""
    """An image's bytes, in base64."""
    format: str = ""
    expected_tokens: Annotated[int, Field(lt=2**31)] | None = None


class ModelInput(Body):
    chunks: list[Chunk]


class TensorData(Body):
    """A tensor of integers: all cells in a row, or in CSR form the listed ones and where they stand."""

    data: list[Int64]
    dtype: Literal["int64"]
    shape: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None
    sparse_crow_indices: list[Int64] | None = None
    sparse_col_indices: list[Int64] | None = None


class SamplingParams(Body):
    max_tokens: int | None = Field(default=None, ge=0)
    seed: int | None = None
    stop: str | list[int] | list[str] | None = None
    temperature: Annotated[Finite, Field(ge=0)] = 1.0
    top_k: int = Field(default=-1, ge=-1)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def to_types(self) -> types.SamplingParams:
        stop = (self.stop,) if isinstance(self.stop, str) else None if self.stop is None else tuple(self.stop)
        return types.SamplingParams(
            max_tokens=self.max_tokens,
            seed=self.seed,
            stop=stop,  # type: ignore[arg-type]  # the field is a list of one kind, which the tuple keeps
            temperature=self.temperature,
            top_k=self.top_k if self.top_k > 0 else -1,
            top_p=self.top_p,
        )


class Sample(SampleAddress):
    prompt: ModelInput
    sampling_params: SamplingParams
    prompt_logprobs: bool | None = None
    topk_prompt_logprobs: int = Field(default=0, ge=0, le=1024)
    topk_sample_logprobs: int = Field(default=0, ge=0, le=1024)
    prompt_logprobs_last_n: int | None = Field(default=None, ge=1)
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens_k: int = Field(default=0, ge=0, le=1024)


class RetrieveFuture(Body):
    request_id: str
    allow_metadata_only: bool = False


class FuturesTarget(Body):
    """One client of a sampling session; see `hone.server.ids.clone_range`."""

    type: Literal["sampling_session"]
    sampling_session_id: str
    cloned_sampler_id: int = Field(default=0, ge=0, le=10**9)


class RetrieveFutures(Body):
    target: FuturesTarget
    prev_cursor: int = Field(default=0, ge=0, lt=2**63)
    timeout: Annotated[Finite, Field(ge=0)] | None = None
    retrieved_request_ids: list[str] = []


class CancelFuture(Body):
    request_id: str


class JoinSamplingSession(Body):
    sampling_session_id: str


class SetTtl(Body):
    ttl_seconds: Ttl | None


class CopyWeights(Body):
    source_path: str
    session_id: str | None = None
    model_seq_id: int | None = Field(default=None, ge=0)
    destination_project_id: str | None = None
    ttl_seconds: Ttl | None = None


class AssignProject(Body):
    project_id: str = Field(min_length=1)


class SearchOwner(Body):
    type: Literal["own", "accessible", "user"] = "own"
    owner_urns: list[str] = Field(default=[], max_length=10)

    @property
    def user_ids(self) -> list[str]:
        return [urn.rpartition(":")[2] for urn in self.owner_urns]


class StatusQuery(Body):
    type: Literal["active", "cancelled", "failed", "client_finished"]
    reasons: list[str] | None = None


class SearchCursor(Body):
    last_created_at: AwareDatetime
    last_session_id: str


class SearchSessions(Body):
    session_id: str | None = None
    project_ids: list[str] | None = None
    user_metadata: Metadata = {}
    display_name: str | None = Field(default=None, min_length=1)
    owner: SearchOwner = SearchOwner()
    statuses: list[StatusQuery] | None = None
    limit: int = Field(default=50, ge=1, le=200)
    cursor: SearchCursor | None = None


class WeightsInfo(Body):
    tinker_path: str


BodyT = TypeVar("BodyT", bound=Body)


def parse(body_type: type[BodyT], fields: object) -> BodyT:
    """`fields` as a `body_type`, or a `UserError` that names every wrong field, what it holds and what is allowed."""
    try:
        return body_type.model_validate(fields)
    except ValidationError as error:
        raise UserError("; ".join(_sentence(detail) for detail in error.errors(include_url=False))) from None


def _sentence(detail: Any) -> str:
    field = ".".join(str(part) for part in detail["loc"]) or "body"
    if detail["type"] == "missing":
        return f"{field} is missing"
    if detail["type"] == "extra_forbidden":
        return f"{field} is not supported by this server; leave it out"
    found = repr(detail["input"])
    shown = found if len(found) <= 80 else f"{found[:77]}..."
    return f"{field}: {detail['msg'].removeprefix('Value error, ')}, found {shown}"
