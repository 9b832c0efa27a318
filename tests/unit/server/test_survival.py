"""Cut journals, half-written snapshots and clocks that jump: what follows is as if nothing had been."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from hone.server import service as service_module
from tests.support.service import Client, crash, forward_backward, make_service, serving
from tests.support.uniform_engine import UniformEngine
from tests.unit.server.test_checkpoints import save
from tests.unit.server.test_recovery import results, submit_run, undisturbed


@pytest.mark.parametrize("lost", [1, 100, 5000, 30_000])
def test_a_truncated_journal_goes_on_from_its_last_whole_record(tmp_path: Path, lost: int) -> None:
    """As after a power cut in the middle of a write: what the end held is sent again by its client."""

    async def run() -> None:
        expected = await undisturbed(tmp_path / "a")
        async with serving(tmp_path / "b") as client:
            model = await client.model(await client.session())
            requests = await submit_run(client, model)
            await results(client, requests)
            shutil.copytree(tmp_path / "b", tmp_path / "cut")
        journal = tmp_path / "cut" / "hone.sqlite-wal"
        with journal.open("rb+") as file:
            file.truncate(max(0, journal.stat().st_size - lost))
        async with serving(tmp_path / "cut") as client:
            assert (
                await client.service.database.run(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar())
                == "ok"
            )
            assert await submit_run(client, model) == requests
            assert await results(client, requests) == expected

    asyncio.run(run())


@pytest.mark.usefixtures("any_database")
def test_half_written_snapshots_and_checkpoints_are_swept_and_not_used(tmp_path: Path) -> None:
    async def run() -> None:
        expected = await undisturbed(tmp_path / "a")
        engine = UniformEngine()
        service = make_service(tmp_path / "b", engine, snapshot_operations=4)
        await service.start()
        before = Client(service, engine)
        async with before.http:
            model = await before.model(await before.session())
            first = await submit_run(before, model, last=3)
            await results(before, first)
            await service.worker._lanes[model].covered()
            await crash(service)
        named = listed(service.data.snapshots)
        half = service.data.snapshots / f"{model}@99-abcdef00"
        draft = service.data.snapshots / f".{model}@99-abcdef00.12345678"
        checkpoint = service.data.checkpoints / model / "weights" / ".a@7.12345678"
        unnamed = service.data.checkpoints / model / "sampler_weights" / ".unnamed@3"
        for directory in (half, draft, checkpoint, unnamed):
            directory.mkdir(parents=True)
            (directory / "state.json").write_text('{"lora": {"ra')
        async with serving(tmp_path / "b") as client:
            assert listed(client.service.data.snapshots) == named
            assert not checkpoint.exists()
            assert unnamed.exists()
            second = await submit_run(client, model, first=3)
            assert await results(client, first + second) == expected

    asyncio.run(run())


def listed(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


class Clock:
    """The time of day, which the test may set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


DAY = 86400.0


@pytest.mark.usefixtures("any_database")
def test_a_clock_put_forward_takes_nothing_away_for_good(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "PRUNE_SECONDS", 0.02)
    monkeypatch.setattr("hone.server.expiry.SWEEP_SECONDS", 0.02)

    async def run() -> None:
        async with serving(tmp_path, result_grace_seconds=0.0) as client:
            session = await client.session()
            model = await client.model(session)
            request = await client.send(forward_backward(model, 1))
            answer = await client.result(request)
            path = (await save(client, model, 2, "kept", ttl_seconds=3600))["path"]
            exported = await save(client, model, 3, "out", "save_weights_external")
            links = await client.get(f"training_runs/{model}/checkpoints/external_weights/out/external_weights_urls")
            link = next(iter(links["urls"].values()))
            before = await client.get("billing/usage/checkpoints/current")
            assert "path" in exported

            clock.ahead = 30 * DAY
            await asyncio.sleep(0.2)  # housekeeping runs several times
            assert (await client.http.get(link)).status_code == 403
            await client.post("weights_info", {"tinker_path": path}, status=404)
            await client.post("session_heartbeat", {"session_id": session})
            assert (await client.output(await client.send(forward_backward(model, 4)))).metrics["loss:sum"] > 0

            clock.ahead = 0.0
            assert await client.result(request) == answer
            assert (await client.post("weights_info", {"tinker_path": path}))["lora_rank"] == 4
            assert (await client.http.get(link)).status_code == 200
            assert await client.get("billing/usage/checkpoints/current") == before
            assert (await client.output(await client.send(forward_backward(model, 5)))).metrics["loss:sum"] > 0

    asyncio.run(run())


@pytest.mark.usefixtures("any_database")
@pytest.mark.parametrize("jump", [-30 * DAY, 30 * DAY])
def test_polls_wait_their_time_whatever_the_clock_does(tmp_path: Path, clock: Clock, jump: float) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=30), long_poll_seconds=0.4) as client:
            session = await client.session()
            body = {"session_id": session, "model_seq_id": 0, "base_model": "hone/uniform"}
            request = await client.post("create_model", body)

            async def poll() -> float:
                started = time.monotonic()
                await client.post("retrieve_future", {"request_id": request["request_id"]}, status=408)
                return time.monotonic() - started

            polling = asyncio.create_task(poll())
            await asyncio.sleep(0.1)
            clock.ahead = jump
            assert 0.35 < await polling < 2
            await client.service.worker._lanes.pop(f"{session}:train:0").stop()

    asyncio.run(run())


@pytest.mark.usefixtures("any_database")
def test_tokens_made_before_a_jump_are_good_again_after_it(tmp_path: Path, clock: Clock) -> None:
    async def run() -> None:
        async with serving(tmp_path, jwt_auth=True) as client:
            token = (await client.post("auth/token", {}))["jwt"]

            async def status() -> int:
                answer = await client.http.get("/api/v1/get_server_capabilities", headers={"X-API-Key": token})
                return answer.status_code

            seen: list[Any] = []
            for clock.ahead in (0.0, DAY, 0.0, -DAY, 0.0):
                seen.append(await status())
            assert seen == [200, 401, 200, 200, 200]
            clock.ahead = DAY
            token = (await client.post("auth/token", {}))["jwt"]
            assert await status() == 200, "a client that is refused gets itself a new one"

    asyncio.run(run())
