"""What is counted, to the token, and what it costs."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import tinker
from tinker import types

from hone.cli import main as cli
from hone.server.usage import Filter, used
from hone.storage.atomic import tree_size
from tests.support.databases import Databases
from tests.support.service import KEY, MODEL, Client, LiveServer, crash, forward_backward, make_service, serving, window
from tests.support.tenants import as_key, make_key
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")

PRICES = {"*": {"training": 2.0, "prefill": 1.0, "cached_prefill": 0.1, "sample": 4.0, "storage": 0.5}}


def datum(*tokens: int) -> types.Datum:
    return types.Datum(
        model_input=types.ModelInput.from_ints(list(tokens[:-1])),
        loss_fn_inputs={"target_tokens": list(tokens[1:]), "weights": [1.0] * (len(tokens) - 1)},
    )


def test_the_official_clients_bill_agrees_with_the_tokens_processed(
    any_database: Databases, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_DATABASE_URL", any_database.url(tmp_path))
    monkeypatch.setenv("HONE_PRICES", json.dumps(PRICES))
    with LiveServer(tmp_path, prices=json.dumps(PRICES)) as server:
        with tinker.ServiceClient(base_url=server.url, api_key=KEY, user_metadata={"team": "a"}) as client:
            model = client.create_lora_training_client(MODEL, rank=8, seed=3).result()
            model.forward_backward([datum(1, 2, 3), datum(4, 5, 6, 7)], "cross_entropy").result()
            model.forward([datum(1, 2)], "cross_entropy").result()
            model.optim_step(types.AdamParams()).result()
            with pytest.raises(tinker.RequestFailedError):
                model.forward_backward([datum(1, 99, 3)], "cross_entropy").result()
            model.save_state("kept").result()
            sampler = model.save_weights_and_get_sampling_client().result()
            drawn = sampler.sample(
                types.ModelInput.from_ints([1, 2, 3]),
                num_samples=4,
                sampling_params=types.SamplingParams(max_tokens=9, stop=[]),
            ).result()
            run_id = model.model_id
            bill = tinker.AdminClient(base_url=server.url, api_key=KEY).get_billing_usage(*window()).result()
            amounts: dict[str, int] = {}
            for event in bill.data:
                kind = event.event_info.type
                amounts[kind] = amounts.get(kind, 0) + getattr(event.event_info, "token_count", 1)
                assert event.project_id == "default"
            tokens = sum(len(sequence.tokens) for sequence in drawn.sequences)
            assert tokens == 36
            assert amounts == {
                "training": 2 + 3 + 1,
                "sampling_prefill": 3,
                "sampling_sample": tokens,
                "checkpoint": 1,
                "storage": amounts["storage"],
            }
            (session,) = bill.sessions.values()
            assert session.user_metadata == {"team": "a"}
            by_type = {event.event_info.type: event for event in bill.data}
            assert by_type["training"].estimated_cost_usd == pytest.approx(6 * 2.0 / 1e6)
            assert by_type["sampling_sample"].effective_rate_usd_per_million_tokens == 4.0

            rest = tinker.RestClient(base_url=server.url, api_key=KEY)
            shown = rest.get_training_run(run_id).result().user_metadata
            assert shown is not None
            assert float(shown["hone_cost_usd"]) == pytest.approx((6 * 2 + 3 + 36 * 4) / 1e6, abs=1e-6)
            current = tinker.AdminClient(base_url=server.url, api_key=KEY).get_current_checkpoint_storage_usage()
            (stored,) = current.result().data
            directory = next((tmp_path / "checkpoints").glob("*/weights/kept@*"))
            assert (stored.checkpoint_count, stored.size_bytes) == (1, tree_size(directory))

        assert cli.main(["usage", "--data-dir", str(tmp_path), "--json", "--by", "run"]) == 0
        rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
        assert {row["run"] for row in rows.values()} == {run_id}
        assert {kind: rows[kind]["quantity"] for kind in ("training", "prefill", "sample", "checkpoint")} == {
            "training": 6,
            "prefill": 3,
            "sample": 36,
            "checkpoint": 1,
        }
        assert rows["sample"]["cost_usd"] == pytest.approx(36 * 4 / 1e6)


async def quantities(client: Client, **chosen: Any) -> dict[str, int]:
    found = await client.service.database.run(lambda connection: used(connection, Filter(**chosen)))
    sums: dict[str, int] = {}
    for one in found:
        sums[one.kind] = sums.get(one.kind, 0) + one.quantity
    return sums


def test_what_a_crash_makes_the_server_repeat_is_counted_once(tmp_path: Path) -> None:
    async def run() -> None:
        engine = UniformEngine()
        service = make_service(tmp_path, engine)
        await service.start()
        before = Client(service, engine)
        async with before.http:
            session = await before.session()
            model = await before.model(session)
            await before.output(await before.send(forward_backward(model, 1)))
            await before.result(await before.step(model, 2))
            engine.slow = 60
            await before.send(forward_backward(model, 3))
            await asyncio.sleep(0.05)
            await crash(service)
        async with serving(tmp_path) as client:
            await client.output(f"{model}:3")
            assert (await quantities(client))["training"] == 6
            client.engine.die()
            await client.output(await client.send(forward_backward(model, 4)))
            assert client.engine.restarts == 1
            assert await quantities(client, run_id=model) == {"training": 9}
            repeated = await client.send(forward_backward(model, 4))
            await client.output(repeated)
            assert (await quantities(client))["training"] == 9

    asyncio.run(run())


def test_each_key_has_its_own_sums(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            number, text = await make_key(client, "second")
            session = await client.session()
            model = await client.model(session)
            await client.output(await client.send(forward_backward(model, 1)))
            async with as_key(client, text) as second:
                sent = forward_backward(model, 2).SerializeToString()
                answer = await second.post("/api/v1/forward_backward", content=sent)
                await client.output(answer.json()["request_id"])
            assert await quantities(client, key_id=1) == {"training": 3}
            assert await quantities(client, key_id=number) == {"training": 3}

    asyncio.run(run())


def test_storage_is_counted_up_to_the_moment_of_deletion(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            began = time.time()
            saved = await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "one"})
            path = (await client.result(saved["request_id"]))["path"]
            size = (await client.get("checkpoints"))["checkpoints"][0]["size_bytes"]
            await asyncio.sleep(0.2)
            await client.service.meter_storage()
            await client.service.meter_storage()
            await asyncio.sleep(0.2)
            deleted = await client.http.delete(f"/api/v1/training_runs/{model}/checkpoints/{path.split('/', 3)[3]}")
            assert deleted.status_code == 204
            at_most = time.time() - began
            await asyncio.sleep(0.2)
            await client.service.meter_storage()
            assert size * 0.4 - 2 <= (await quantities(client))["storage"] <= size * at_most + 2  # rounded twice

    asyncio.run(run())


def test_bad_windows_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            for query in (
                "",
                "starting_on=x&ending_before=2026-01-01T00:00:00Z",
                "starting_on=2026-01-01T00:00:01Z&ending_before=2026-01-02T00:00:00Z",
                "starting_on=2026-01-01T00:00:00&ending_before=2026-01-02T00:00:00Z",
                "starting_on=2026-01-02T00:00:00Z&ending_before=2026-01-01T00:00:00Z",
                "starting_on=2026-01-01T00:00:00Z&ending_before=2026-02-01T00:00:00Z",
            ):
                response = await client.http.get(f"/api/v1/billing/usage/events?{query}")
                assert response.status_code == 400, query

    asyncio.run(run())
