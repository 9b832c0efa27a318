import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hone.protocol.futures import success
from tests.support.service import Client, crash, forward_backward, serving
from tests.support.uniform_engine import UniformEngine
from tests.unit.server.test_samples import body, open_sampler

pytestmark = pytest.mark.usefixtures("any_database")


def test_a_poll_is_answered_the_moment_the_result_is_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.2)) as client:
            model = await client.model(await client.session())
            request = await client.send(forward_backward(model, 1))
            start = time.monotonic()
            await asyncio.gather(client.output(request), client.output(request))
            assert 0.1 < time.monotonic() - start < 0.5

    asyncio.run(run())


def test_a_poll_that_waits_too_long_is_told_to_come_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.5), long_poll_seconds=0.1) as client:
            session = await client.session()
            body = {"session_id": session, "model_seq_id": 0, "base_model": "hone/uniform"}
            request = await client.post("create_model", body)
            again = await client.post("retrieve_future", {"request_id": request["request_id"]}, status=408)
            assert again == {"queue_state": "active"}
            await asyncio.sleep(0.5)
            assert (await client.result(request["request_id"]))["model_id"] == f"{session}:train:0"

    asyncio.run(run())


def test_results_leave_memory_after_the_grace_time_and_can_still_be_retrieved(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, result_grace_seconds=0.05) as client:
            model = await client.model(await client.session())
            request = await client.send(forward_backward(model, 1))
            first = await client.result(request)
            await asyncio.sleep(0.2)
            assert not client.service.futures._waiting
            assert await client.result(request) == first

    asyncio.run(run())


def test_a_big_result_is_announced_to_those_who_ask(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, metadata_only_bytes=10) as client:
            model = await client.model(await client.session())
            request = await client.send(forward_backward(model, 1))
            content = await client.result(request)
            announced = await client.post("retrieve_future", {"request_id": request, "allow_metadata_only": True})
            assert announced == {"status": "complete_metadata", "response_payload_size": len(content)}

    asyncio.run(run())


def test_an_answer_that_could_not_be_kept_stays_in_memory(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, result_grace_seconds=0) as client:
            stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            client.service.futures.resolve("r", success({}), stored)
            stored.set_exception(OSError("disk full"))
            await asyncio.sleep(0.05)
            assert await client.service.futures.retrieve("r", 0.1) == success({})

    asyncio.run(run())


def test_stopping_releases_polls(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=30)) as client:
            session = await client.session()
            body = {"session_id": session, "model_seq_id": 0, "base_model": "hone/uniform"}
            request = await client.post("create_model", body)
            poll = asyncio.create_task(client.service.futures.retrieve(request["request_id"], 30))
            await asyncio.sleep(0.05)
            client.service.futures.release()
            assert await asyncio.wait_for(poll, 1) is None
            await client.service.worker._lanes.pop(f"{session}:train:0").stop()

    asyncio.run(run())


async def poll(client: Client, sampler: str, after: int = 0, **fields: Any) -> dict[str, Any]:
    target = {"type": "sampling_session", "sampling_session_id": sampler, "cloned_sampler_id": fields.pop("clone", 0)}
    return await client.post("retrieve_futures", {"target": target, "prev_cursor": after} | fields)


def named(polled: dict[str, Any]) -> list[str]:
    return [completion["request_id"] for completion in polled["completions"]]


async def sampled(client: Client, sampler: str, *seqs: int) -> list[str]:
    """Samples that are answered, in this order."""
    requests = []
    for seq in seqs:
        requests.append((await client.post("asample", body(sampler, seq)))["request_id"])
        await client.result(requests[-1])
    return requests


def test_a_poller_sees_every_answer_once_and_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            first = await sampled(client, sampler, 4, 2, 3)
            polled = await poll(client, sampler)
            assert named(polled) == first
            size = len(await client.result(first[0]))
            expected = {"state": "finished", "request_id": first[0], "response_payload_uncompressed_size": size}
            assert polled["completions"][0] == expected
            assert await poll(client, sampler, polled["cursor"], timeout=0) == {
                "completions": [],
                "cursor": polled["cursor"],
            }
            later = await sampled(client, sampler, 1)
            assert named(await poll(client, sampler, polled["cursor"])) == later
            assert named(await poll(client, sampler)) == first + later, "an answer that was lost is asked for again"

    asyncio.run(run())


def test_a_poller_is_answered_the_moment_something_is_there_and_sees_failures(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.2)) as client:
            sampler = await open_sampler(client, await client.session())
            polling = asyncio.create_task(poll(client, sampler))
            await asyncio.sleep(0.05)
            too_long = {"max_tokens": 10**6}
            request = await client.post("asample", body(sampler, 0, sampling_params=too_long))
            start = time.monotonic()
            polled = await polling
            assert 0.1 < time.monotonic() - start < 1
            assert polled["completions"] == [{"state": "failed", "request_id": request["request_id"]}]

    asyncio.run(run())


def test_clients_of_one_sampling_session_see_their_own_answers(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            (mine,) = await sampled(client, sampler, 0)
            (theirs,) = await sampled(client, sampler, 7 * 10**9 + 3)
            assert named(await poll(client, sampler)) == [mine]
            assert named(await poll(client, sampler, clone=7)) == [theirs]
            assert named(await poll(client, sampler, clone=8, timeout=0)) == []
            await client.post("retrieve_futures", {"target": {"type": "sampling_session"}}, status=400)
            with pytest.raises(AssertionError, match="unknown on this server"):
                await poll(client, "nobody:sample:0")

    asyncio.run(run())


def test_results_that_the_client_has_are_dropped_and_no_others(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, result_grace_seconds=0.0) as client:
            session = await client.session()
            sampler, other = await open_sampler(client, session), await open_sampler(client, session, 1)
            first, second = await sampled(client, sampler, 0, 1)
            (foreign,) = await sampled(client, other, 0)
            await poll(client, sampler, retrieved_request_ids=[first, foreign, "unknown"])
            await asyncio.sleep(0.05)
            assert named(await poll(client, sampler)) == [second]
            gone = await client.post("retrieve_future", {"request_id": first}, status=404)
            assert "no longer kept" in gone["detail"]
            assert await client.result(foreign)

    asyncio.run(run())


def test_a_poller_goes_on_where_it_was_after_a_restart_though_the_clock_was_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            first = await sampled(client, sampler, 0, 1)
            polled = await poll(client, sampler)
            assert named(polled) == first
            await crash(client.service)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 10**6)
        async with serving(tmp_path) as client:
            later = await sampled(client, sampler, 2, 3)
            assert named(await poll(client, sampler, polled["cursor"])) == later

    asyncio.run(run())


def test_a_stopping_server_lets_pollers_go(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            polling = asyncio.create_task(poll(client, sampler, 5))
            await asyncio.sleep(0.05)
            client.service.futures.release()
            assert await polling == {"completions": [], "cursor": 5}

    asyncio.run(run())


def test_a_pause_is_said_while_the_engine_is_being_started(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, long_poll_seconds=0.05) as client:
            sampler = await open_sampler(client, await client.session())
            client.engine.restart = lambda: asyncio.sleep(0.4)  # type: ignore[method-assign]
            client.engine.die()
            request = await client.post("asample", body(sampler, 0))
            paused = await client.post("retrieve_future", {"request_id": request["request_id"]}, status=408)
            assert paused["queue_state"] == "paused_capacity"
            assert "being started again" in paused["queue_state_reason"]

    asyncio.run(run())
