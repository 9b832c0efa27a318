"""The JSON objects that clients read; what each must hold is decided by the client's strict validation."""

from datetime import UTC, datetime
from typing import Any, Literal, TypedDict


class Submitted(TypedDict, total=False):
    """The answer to a submission that was accepted."""

    request_id: str
    sample_sequence_ids: list[str]


class Completion(TypedDict, total=False):
    """One answered request, as the poller of a sampling session is told of it."""

    state: Literal["finished", "failed"]
    request_id: str
    response_payload_uncompressed_size: int


class Checkpoint(TypedDict):
    checkpoint_id: str
    checkpoint_type: str
    time: str
    tinker_path: str
    size_bytes: int | None
    public: bool
    user_metadata: dict[str, str] | None
    expires_at: str | None


class TrainingRun(TypedDict):
    training_run_id: str
    base_model: str
    model_owner: str
    is_lora: bool
    corrupted: bool
    lora_rank: int
    last_request_time: str
    last_checkpoint: Checkpoint | None
    last_sampler_checkpoint: Checkpoint | None
    user_metadata: dict[str, str] | None


class Cursor(TypedDict):
    offset: int
    limit: int
    total_count: int


class WeightsInfo(TypedDict):
    base_model: str
    is_lora: bool
    lora_rank: int
    train_unembed: bool
    train_mlp: bool
    train_attn: bool


def get_info(model_id: str, model_name: str, arch: str, lora_rank: int, tokenizer_id: str) -> dict[str, Any]:
    """`tokenizer_id`: what the client loads the tokenizer by, so it must be something that this client can find."""
    return {
        "type": "get_info",
        "model_id": model_id,
        "model_data": {"arch": arch, "model_name": model_name, "tokenizer_id": tokenizer_id},
        "is_lora": True,
        "lora_rank": lora_rank,
        "model_name": model_name,
    }


def supported_model(name: str, max_context: int) -> dict[str, Any]:
    return {"model_name": name, "max_context_length": max_context, "trainable": True, "sampleable": True}


def timestamp(seconds: float) -> str:
    """Unix seconds as ISO 8601 with a zone."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
