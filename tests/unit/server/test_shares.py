"""Whatever reaches the engine says whose it is."""

import asyncio
from pathlib import Path

import pytest

from hone.engine.contract import CreateAdapter, Sample, Share
from tests.support.service import MODEL, serving
from tests.support.tenants import make_key

pytestmark = pytest.mark.usefixtures("any_database")


def test_training_and_sampling_carry_the_projects_share(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, project_weights="default=3") as client:
            session = await client.session()
            await client.model(session)
            fields = {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL}
            sampler = (await client.post("create_sampling_session", fields))["sampling_session_id"]
            body = {"sampling_session_id": sampler, "seq_id": 0, "sampling_params": {"max_tokens": 2}}
            prompt = {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]}
            submitted = await client.post("asample", body | {"prompt": prompt})
            await client.result(submitted["request_id"])
            kinds = [one for one in client.engine.submitted if isinstance(one, CreateAdapter | Sample)]
            assert [one.share for one in kinds] == [Share("default", 3.0)] * 2

    asyncio.run(run())


def test_a_key_stands_for_its_project(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, project_weights="research=0.5", project_priorities="research=-1") as client:
            number, _ = await make_key(client, "mine", "research")
            shares = client.service.shares
            assert await shares.of_key(number) == Share("research", 0.5, -1)
            assert await shares.of_key(number + 1) == Share()
            assert await shares.of_session("no-such-session") == Share()

    asyncio.run(run())
