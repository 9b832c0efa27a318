"""Which adapters can be made: the facts that server and engine share."""

from hone.errors import ServerError, UserError
from hone.protocol.types import LoraConfig

MAX_RANK = 1024


def check_lora(lora: LoraConfig) -> None:
    """`UserError` unless there is something to train; `seed` must have been drawn by now."""
    if not 1 <= lora.rank <= MAX_RANK:
        raise UserError(f"lora_config.rank must be between 1 and {MAX_RANK}, found {lora.rank}")
    if not (lora.train_attn or lora.train_mlp or lora.train_unembed):
        raise UserError("lora_config trains nothing: set train_unembed, train_mlp or train_attn")
    if lora.seed is None:
        raise ServerError("an adapter needs a seed; the server draws one where the client gave none")
