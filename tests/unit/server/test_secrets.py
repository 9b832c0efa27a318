"""Keys, tokens and signed links stay with whoever has them: no log and no database holds one."""

import asyncio
import logging
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from hone.errors import ServerError
from hone.server.store import Store
from hone.storage.tables import operations
from tests.support.service import KEY, serving
from tests.support.tenants import as_key, make_key
from tests.unit.server.test_access import everything

pytestmark = pytest.mark.usefixtures("any_database")


def test_no_secret_is_logged_or_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> tuple[list[str], str]:
        async with serving(tmp_path, jwt_auth=True) as client:
            model = await client.model(await client.session())
            saved = await client.post("save_weights_external", {"model_id": model, "seq_id": 1, "path": "out"})
            await client.result(saved["request_id"])
            kept = await client.post("save_weights", {"model_id": model, "seq_id": 2, "path": "state"})
            path = (await client.result(kept["request_id"]))["path"]
            _, other = await make_key(client, "other", "elsewhere")
            token = (await client.post("auth/token", {}))["jwt"]
            links = await client.get(f"training_runs/{model}/checkpoints/external_weights/out/external_weights_urls")
            link = next(iter(links["urls"].values()))
            async with as_key(client, other) as stranger, as_key(client, "tml-wrong-guess") as nobody:
                session = (await stranger.post("/api/v1/create_session", json={})).json()["session_id"]
                body = {"session_id": session, "model_seq_id": 0, "path": path, "optimizer": False}
                body["weights_access_token"] = KEY
                loaded = await stranger.post("/api/v1/load_weights", json=body)
                assert loaded.status_code == 200
                assert (await nobody.get("/api/v1/sessions")).status_code == 401
            async with as_key(client, token) as by_token:
                assert (await by_token.get("/api/v1/sessions")).status_code == 200

            async def fail(*_: object) -> None:
                raise ServerError("the disk is gone")

            with monkeypatch.context() as patched:
                patched.setattr(Store, "checkpoint", fail)
                assert (await client.http.get(link)).status_code == 500
            secrets = [KEY, other, token, link.split("/")[-2], client.service.data.token_secret.read_text().strip()]
            return secrets, repr(await client.service.database.run(everything))

    with caplog.at_level(logging.DEBUG):
        secrets, rows = asyncio.run(run())
    # The client of this test logs what it asks; that is its own affair.
    logged = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert "downloads/{token}/" in logged, "the failure itself is logged"
    assert "save_weights_external" in rows
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("hone.sqlite*"))
    for secret in [*secrets, "tml-wrong-guess"]:
        assert secret not in logged
        assert secret not in rows
        assert secret.encode() not in stored


def test_an_error_of_the_database_does_not_quote_what_users_sent(tmp_path: Path) -> None:
    async def run() -> str:
        async with serving(tmp_path) as client:
            broken = operations.insert().values(request_id="x", kind="sample", payload=b"my private prompt")
            with pytest.raises(SQLAlchemyError) as caught:
                await client.service.database.run(lambda connection: connection.execute(broken))
            return str(caught.value)

    message = asyncio.run(run())
    assert "operations" in message
    assert "private" not in message
