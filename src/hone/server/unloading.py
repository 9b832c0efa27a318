"""Models let go before their session ends: clients before 0.38 can ask for it."""

import json
from dataclasses import dataclass
from typing import Any

from hone.protocol import requests
from hone.server.journal import Entry
from hone.server.worker import Worker

KIND = "unload_model"


@dataclass(frozen=True)
class Unloading:
    worker: Worker

    async def run(self, entry: Entry) -> dict[str, Any]:
        model_id = requests.parse(requests.UnloadModel, json.loads(entry.payload)).model_id
        await self.worker.unload(model_id)
        return {"model_id": model_id, "type": KIND}
