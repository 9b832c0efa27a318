import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import serving

pytestmark = pytest.mark.usefixtures("any_database")


def test_the_server_process_loads_no_tensor_library() -> None:
    """It has to be small and quick to start; the engine's process is the one that computes."""
    code = (
        "import sys, hone.cli.serve, hone.server.app, hone.server.web, hone.server.tokenizers, hone.engine.build\n"
        "print(sorted({'torch', 'transformers', 'tinker'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_bug_of_ours_is_a_clean_500(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            client.service.models = None  # type: ignore[assignment]
            response = await client.http.get("/api/v1/get_server_capabilities")
            assert response.status_code == 500
            assert response.json() == {"detail": "internal error: AttributeError", "category": "server"}
            assert (await client.http.get("/healthz")).json() == {"status": "ok"}

    asyncio.run(run())


def test_a_wrong_method_is_told_so_in_json(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            response = await client.http.get("/api/v1/create_session")
            assert response.status_code == 405
            assert response.json() == {"detail": "Method Not Allowed", "category": "user"}

    asyncio.run(run())
