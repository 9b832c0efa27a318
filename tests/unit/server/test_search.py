import asyncio
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest
import tinker
from tinker import types

from tests.support.service import KEY, LiveServer, serving
from tests.support.tenants import as_key, make_key

pytestmark = pytest.mark.usefixtures("any_database")


def test_filters(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:

            async def search(**body: Any) -> list[str]:
                return [one["display_name"] for one in (await client.post("sessions/search", body))["sessions"]]

            made = {}
            for name, metadata in (("nightly run one", {"k": "1"}), ("Nightly TWO run", {"k": "2"}), ("other", {})):
                body = {"display_name": name, "user_metadata": metadata}
                made[name] = (await client.post("create_session", body))["session_id"]
            finish = {"reason": {"type": "errored"}, "detail": "x"}
            await client.http.post(f"/api/v1/sessions/{made['other']}/finish", json=finish)
            assert await search() == ["other", "Nightly TWO run", "nightly run one"]
            assert await search(display_name="RUN nightly") == ["Nightly TWO run", "nightly run one"]
            assert await search(display_name="one", session_id=made["other"]) == ["other", "nightly run one"]
            assert await search(user_metadata={"k": "2"}) == ["Nightly TWO run"]
            assert await search(statuses=[{"type": "active"}]) == ["Nightly TWO run", "nightly run one"]
            errored = {"type": "client_finished", "reasons": ["errored"]}
            assert await search(statuses=[errored]) == ["other"]
            assert await search(statuses=[{**errored, "reasons": ["success"]}]) == []
            assert await search(owner={"type": "user", "owner_urns": ["tml:organization_user:ann"]}) == []
            assert await search(owner={"type": "user", "owner_urns": ["tml:organization_user:local"]}, limit=1) == [
                "other"
            ]
            await client.post("sessions/search", {"project_ids": ["nowhere"]}, status=404)
            await client.post("sessions/search", {"limit": 201}, status=400)
            _, text = await make_key(client, "ann", user_id="ann")
            async with as_key(client, text) as ann:
                own = await ann.post("/api/v1/sessions/search", json={})
                everybodys = await ann.post("/api/v1/sessions/search", json={"owner": {"type": "accessible"}})
            assert (len(own.json()["sessions"]), len(everybodys.json()["sessions"])) == (0, 3)

    asyncio.run(run())


def test_the_official_client_pages_through_all(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        names = [f"session {i}" for i in range(7)]
        for name in names:
            body = {"display_name": name}
            made = httpx.post(f"{server.url}/api/v1/create_session", json=body, headers={"X-API-Key": KEY})
            assert made.status_code == 200
        rest = tinker.RestClient(base_url=server.url, api_key=KEY)
        found: list[str | None] = []
        request = types.SessionSearchRequest(limit=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the client calls it experimental
            while True:
                page = rest.search_sessions(request).result()
                found += [one.display_name for one in page.sessions]
                if page.next_cursor is None:
                    break
                request = request.model_copy(update={"cursor": page.next_cursor})
        assert found == names[::-1]
        status = page.sessions[-1].status
        assert status is not None
        assert status.type == "active"
