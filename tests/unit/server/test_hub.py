"""Exports as private repositories of a hub."""

import asyncio
from pathlib import Path

import pytest

from tests.support.service import KEY, Client, serving
from tests.support.tenants import as_key, make_key

pytestmark = pytest.mark.usefixtures("any_database")

FILE = "adapter_model.safetensors"


async def exported(client: Client) -> str:
    """The repository's name of an export."""
    model = await client.model(await client.session())
    saved = await client.post("save_weights_external", {"model_id": model, "seq_id": 1, "path": "out"})
    await client.result(saved["request_id"])
    return f"exports/{model.replace(':', '.')}.out"


def test_whoever_may_read_an_export_finds_it_on_the_hub(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            name = await exported(client)
            _, stranger = await make_key(client, "stranger", "elsewhere")
            _, colleague = await make_key(client, "colleague", scopes=["read"])
            _, sampler = await make_key(client, "sampler", scopes=["sample"])
            for path in (
                f"/hf/api/models/{name}",
                f"/hf/api/models/{name}/revision/main",
                f"/hf/api/models/{name}/tree/main",
                f"/hf/{name}/resolve/main/{FILE}",
            ):
                for key, status, code in (
                    (KEY, 200, None),
                    (colleague, 200, None),
                    (stranger, 404, "RepoNotFound"),
                    (sampler, 403, "GatedRepo"),
                    ("tml-wrong", 401, "RepoNotFound"),
                    ("", 401, "RepoNotFound"),
                ):
                    async with as_key(client, "") as http:
                        headers = {"Authorization": f"Bearer {key}"} if key else {}
                        answer = await http.get(path, headers=headers)
                        assert (answer.status_code, answer.headers.get("x-error-code")) == (status, code), path
            info = (await client.http.get(f"/hf/api/models/{name}")).json()
            assert (info["private"], info["siblings"]) == (True, [{"rfilename": FILE}])
            head = await client.http.head(f"/hf/{name}/resolve/{info['sha']}/{FILE}")
            body = await client.http.get(f"/hf/{name}/resolve/main/{FILE}")
            assert head.headers["x-repo-commit"] == info["sha"]
            assert int(head.headers["content-length"]) == len(body.content) > 0

    asyncio.run(run())


def test_nothing_else_of_a_run_is_on_the_hub(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            name = await exported(client)
            run_id = name.removeprefix("exports/").removesuffix(".out")
            state = await client.post("save_weights", {"model_id": run_id.replace(".", ":"), "seq_id": 2, "path": "s"})
            await client.result(state["request_id"])
            (directory,) = (tmp_path / "checkpoints").glob("*/external_weights/*")
            (directory / "optimizer.safetensors").write_text("ours")
            for path in (
                f"/hf/{name}/resolve/main/optimizer.safetensors",
                f"/hf/{name}/resolve/main/..%2f..%2f..%2f..%2fapi_key",
                f"/hf/{name}/resolve/main/../../../../hone.sqlite",
                f"/hf/{name}/resolve/v2/{FILE}",
                f"/hf/exports/{run_id}.s/resolve/main/{FILE}",
                f"/hf/exports/{run_id}.%2e%2e/resolve/main/{FILE}",
                f"/hf/exports/{run_id}/resolve/main/{FILE}",
                f"/hf/exports/{run_id}.é/resolve/main/{FILE}",
                f"/hf/na%0d%0ame/%0d%0aX-Evil: 1/resolve/main/{FILE}",
                f"/hf/exports/x.train.0.out/resolve/main/{FILE}",
                f"/hf/exports/{run_id}1.out/resolve/main/{FILE}",
            ):
                assert (await client.http.get(path)).status_code == 404, path
            run_path = f"/api/v1/training_runs/{run_id.replace('.', ':')}/checkpoints/external_weights/out"
            assert (await client.http.delete(run_path)).status_code == 204
            assert (await client.http.get(f"/hf/{name}/resolve/main/{FILE}")).status_code == 404

    asyncio.run(run())
