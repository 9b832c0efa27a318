"""A limit that is reached pauses work; nothing is refused, lost or done out of order."""

import asyncio
import json
from pathlib import Path

import pytest

from hone.identity import accounts
from tests.support.service import MODEL, forward_backward, serving
from tests.support.tenants import as_key, make_key

pytestmark = pytest.mark.usefixtures("any_database")

PRICES = json.dumps({"*": {"training": 1_000_000.0, "sample": 1_000_000.0}})
"""A dollar for each token."""


def test_training_waits_for_a_key_that_has_spent_its_limit_and_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, prices=PRICES, long_poll_seconds=0.3) as client:
            number, text = await make_key(client, "limited", spend_limit_usd=2.0)
            async with as_key(client, text) as limited:
                session = (await limited.post("/api/v1/create_session", json={})).json()["session_id"]
                model = await client.model(session)
                sent = [
                    await limited.post(
                        "/api/v1/forward_backward", content=forward_backward(model, 1).SerializeToString()
                    )
                ]
                first = await client.output(sent[0].json()["request_id"])
                assert first.metrics["loss:sum"] > 0
                for seq in (2, 3):
                    content = forward_backward(model, seq).SerializeToString()
                    sent.append(await limited.post("/api/v1/forward_backward", content=content))
                assert {answer.status_code for answer in sent} == {200}
                waiting = await limited.post("/api/v1/retrieve_future", json=sent[1].json())
                assert waiting.status_code == 408
                assert waiting.json()["queue_state"] == "paused_rate_limit"
                assert f"hone key limit {number}" in waiting.json()["queue_state_reason"]
                assert "$3.0000 of $2.0000" in waiting.json()["queue_state_reason"]
                # The owner's own key is not held up by another's limit.
                other = await client.model(await client.session())
                await client.output(await client.send(forward_backward(other, 1)))
                await client.service.database.run(lambda connection: accounts.set_spend_limit(connection, number, None))
                results = []
                for answer in sent[1:]:
                    while (got := await limited.post("/api/v1/retrieve_future", json=answer.json())).status_code == 408:
                        await asyncio.sleep(0.05)
                    results.append(got.status_code)
                assert results == [200, 200]
                again = await limited.post("/api/v1/retrieve_future", json=sent[2].json())
                assert again.status_code == 200

    asyncio.run(run())


def test_samples_wait_for_the_budget_of_their_project(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, prices=PRICES, long_poll_seconds=0.3) as client:
            session = await client.session()
            made = {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL}
            sampler = (await client.post("create_sampling_session", made))["sampling_session_id"]
            body = {
                "sampling_session_id": sampler,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
                "sampling_params": {"max_tokens": 5, "stop": []},
            }
            first = await client.post("asample", {**body, "seq_id": 0})
            await client.result(first["request_id"])
            await client.service.database.run(lambda connection: accounts.set_budget(connection, "default", 4.0))
            client.service.budgets._budgets.clear()
            second = await client.post("asample", {**body, "seq_id": 1})
            waiting = await client.http.post("/api/v1/retrieve_future", json={"request_id": second["request_id"]})
            assert waiting.status_code == 408
            assert "hone project budget default" in waiting.json()["queue_state_reason"]
            await client.service.database.run(lambda connection: accounts.set_budget(connection, "default", 100.0))
            for _ in range(40):
                got = await client.http.post("/api/v1/retrieve_future", json={"request_id": second["request_id"]})
                if got.status_code == 200:
                    break
            assert got.status_code == 200
            assert client.service.budgets.reason(sampler) is None

    asyncio.run(run())


def test_work_without_a_price_is_never_held_up(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            await client.service.database.run(lambda connection: accounts.set_budget(connection, "default", 0.01))
            model = await client.model(await client.session())
            await client.output(await client.send(forward_backward(model, 1)))

    asyncio.run(run())
