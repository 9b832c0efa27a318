"""A second tenant beside the server's own key."""

from typing import Any

import httpx

from hone.identity import accounts
from hone.server.app import create_app
from tests.support.service import Client


async def make_key(client: Client, name: str, project: str = "default", **fields: Any) -> tuple[int, str]:
    """A key's number and text; its project is made if there is none."""

    def work(connection: Any) -> tuple[int, str]:
        if project not in {one.id for one in accounts.list_projects(connection)}:
            accounts.create_project(connection, project)
        key, text = accounts.create_key(connection, name, project, **fields)
        return key.id, text

    made = await client.service.database.run(work)
    client.service.keys.forget()
    return made


def as_key(client: Client, text: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(client.service), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://server", headers={"X-API-Key": text})
