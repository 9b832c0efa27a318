import asyncio
from pathlib import Path
from typing import Any

import pytest

from hone.engine import contract
from hone.errors import UserError
from hone.protocol.proto import tinker_public_pb2 as wire
from tests.support.service import Client, crash, datum_message, forward_backward, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")

GRAPH: dict[str, Any] = {"format": 1, "nodes": []}


def body(session: str, seq: int = 0, **fields: Any) -> dict[str, Any]:
    inputs = [{"name": "logprobs", "rank": 1}, {"name": "advantages", "rank": 1}]
    return {"session_id": session, "custom_loss_seq_id": seq, "name": "mine", "inputs": inputs, "graph": GRAPH} | fields


async def create(client: Client, session: str, seq: int = 0, **fields: Any) -> Any:
    submitted = await client.post("create_custom_loss", body(session, seq, **fields))
    return await client.result(submitted["request_id"])


def training(model: str, seq: int, loss_id: str) -> wire.ForwardBackwardRequest:
    message = forward_backward(model, seq, datum_message([1, 2, 3], advantages=[1, 1, 1]), loss_fn="custom")
    message.loss_fn_config_v2["loss_id"].text = loss_id
    return message


def test_a_loss_is_made_once_and_used_by_its_id(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            made = await create(client, session)
            assert made["type"] == "create_custom_loss"
            assert await create(client, session) == made
            assert sum(isinstance(op, contract.CheckLoss) for op in client.engine.submitted) == 1
            other = await create(client, session, 1)
            assert other["loss_id"] != made["loss_id"]
            model = await client.model(session)
            await client.output(await client.send(training(model, 1, made["loss_id"])))
            (asked,) = [op for op in client.engine.submitted if isinstance(op, contract.ForwardBackward)]
            assert asked.custom is not None
            assert asked.custom.inputs == (("logprobs", 1), ("advantages", 1))

    asyncio.run(run())


def test_a_loss_outlives_the_server_also_when_it_was_not_checked_yet(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=5.0)) as client:
            session = await client.session()
            request = (await client.post("create_custom_loss", body(session)))["request_id"]
            await crash(client.service)
        async with serving(tmp_path) as client:
            made = await client.result(request)
            model = await client.model(session)
            await client.output(await client.send(training(model, 1, made["loss_id"])))

    asyncio.run(run())


def test_a_lost_engine_is_asked_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            client.engine.lose_on = lambda op: isinstance(op, contract.CheckLoss)
            assert "loss_id" in await create(client, await client.session())
            assert client.engine.restarts == 1

    asyncio.run(run())


@pytest.mark.parametrize("fields", [{"inputs": [{"name": "logprobs", "rank": 3}]}, {"graph": "text"}, {"name": None}])
def test_what_is_no_loss_fails_through_its_future(tmp_path: Path, fields: dict[str, Any]) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            assert (await create(client, await client.session(), **fields))["category"] == "user"

    asyncio.run(run())


def test_only_losses_of_the_session_that_were_made_can_be_used(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session, other = await client.session(), await client.session()
            foreign = (await create(client, other))["loss_id"]
            client.engine.fail_next.append(UserError("not allowed"))
            refused = await client.post("create_custom_loss", body(session))
            assert (await client.result(refused["request_id"]))["error"] == "not allowed"
            model = await client.model(session)
            named = [foreign, refused["request_id"], f"{session}:custom:loss:99", "nonsense", ""]
            for seq, loss_id in enumerate(named, 1):
                answer = await client.result(await client.send(training(model, seq, loss_id)))
                assert "no custom loss of this session" in answer["error"]

    asyncio.run(run())
