import asyncio
import time
from pathlib import Path

from hone.protocol.futures import success
from tests.support.service import forward_backward, serving
from tests.support.uniform_engine import UniformEngine


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
