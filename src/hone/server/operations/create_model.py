"""A new model: fresh LoRA weights on a base model."""

import json
import time

from sqlalchemy import Connection

from hone.engine import contract
from hone.errors import UserError
from hone.protocol import requests
from hone.protocol.futures import success
from hone.protocol.types import LoraConfig
from hone.server.journal import Entry
from hone.server.operations.handler import Concluded, Context
from hone.server.store import Run, insert_run

OPTIMIZERS = ("adamw",)


class CreateModel:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return True

    async def prepare(self, entry: Entry, context: Context) -> contract.CreateAdapter:
        body = requests.parse(requests.CreateModel, json.loads(entry.payload))
        context.base_model(body.base_model)
        check_optimizer(body.optimizer_config)
        base_model, lora = new_model(entry)
        return contract.CreateAdapter(entry.lane, base_model, lora, await context.shares.of_session(body.session_id))

    async def conclude(
        self, entry: Entry, operation: contract.CreateAdapter, result: None, context: Context
    ) -> Concluded:
        body = requests.parse(requests.CreateModel, json.loads(entry.payload))
        run = Run(
            entry.lane, body.session_id, operation.base_model, operation.lora, body.user_metadata, time.time(), -1, None
        )

        def write(connection: Connection) -> list[str]:
            insert_run(connection, run)
            return []

        return Concluded(success({"model_id": entry.lane, "type": "create_model"}), write)


def new_model(entry: Entry) -> tuple[str, LoraConfig]:
    """The base model and the kind of adapter that an entry asks for."""
    body = requests.parse(requests.CreateModel, json.loads(entry.payload))
    return body.base_model, LoraConfig(**body.lora_config.model_dump() | {"seed": entry.seed})


def check_optimizer(config: requests.OptimizerConfig | None) -> None:
    if config is not None and config.type not in OPTIMIZERS:
        raise UserError(
            f"optimizer_config.type {config.type!r} is not supported; this server has {', '.join(OPTIMIZERS)}"
        )
