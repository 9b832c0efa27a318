"""`hone mcp` as a coding agent uses it: through the official client, from a check to a verdict."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hone.cli.init import project_files

mcp = pytest.importorskip("mcp")

TRIAL = [
    "name=trial",
    "repeats.n=1",
    "matrix.base_run.data.limit=64",
    "matrix.base_run.validation.limit=10",
    "benchmarks[0].limit=10",
    "report.samples=2",
]
"""Two arms of two steps each."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in project_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


class Agent:
    """Calls tools, and reads what they say."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self._client.call_tool(tool, arguments)
        assert not result.is_error, result.content[0].text
        assert result.structured_content == json.loads(result.content[0].text)
        return dict(result.structured_content)

    async def refused(self, tool: str, **arguments: Any) -> str:
        result = await self._client.call_tool(tool, arguments)
        assert result.is_error
        return str(result.content[0].text)


def server(project: Path, *options: str) -> Any:
    words = ["-m", "hone.cli.main", "mcp", "--root", str(project), *options]
    return mcp.Client(mcp.StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ)))


@pytest.mark.slow
@pytest.mark.timeout(300)  # some twenty seconds where nothing else runs
def test_the_whole_loop(project: Path) -> None:
    async def loop() -> None:
        async with server(project) as client:
            agent = Agent(client)
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"check", "run", "status", "compare", "conclude", "explain", "history"} <= set(tools)
            assert all(tool.description for tool in tools.values())

            assert (await agent("history"))["experiments"] == []
            assert "date" in (await agent("explain", registry="verifier", plugins=["plugins.py"]))["kinds"]
            report = await agent("check", file="experiment.yaml", overrides=TRIAL)
            assert report["problems"] == []
            assert report["exit_code"] == 0

            started = await agent("run", file="experiment.yaml", overrides=TRIAL)
            assert started["id"] == "runs/trial"
            deadline = time.monotonic() + 200
            while (status := await agent("status", id=started["id"]))["state"] == "running":
                assert time.monotonic() < deadline, status
                await asyncio.sleep(0.5)
            assert status["exit_code"] == 0, status
            assert [arm["training"] for arm in status["experiment"]["arms"]] == ["done", "done"]

            conclusion = await agent("conclude", id=started["id"])
            assert conclusion["verdict"] in ("supported", "refuted", "inconclusive")
            assert [one["name"] for one in (await agent("history"))["experiments"]] == ["trial"]

    asyncio.run(loop())


def test_what_is_refused(project: Path) -> None:
    async def attempts() -> None:
        async with server(project, "--max-tokens", "100") as client:
            agent = Agent(client)
            assert "100 allowed" in await agent.refused("run", file="experiment.yaml", overrides=TRIAL)
            assert "only the user" in await agent.refused("run", file="experiment.yaml", overrides=["budget.tokens=1"])
            assert "outside" in await agent.refused("check", file="../elsewhere.yaml")
            assert "no experiment" in await agent.refused("status", id="runs/trial")
            found = await agent("check", file="experiment.yaml", overrides=["repeats.m=1"])
            assert found["exit_code"] == 3
            assert found["problems"][0]["key"] == "repeats.m"
        assert not (project / "runs").exists()

    asyncio.run(attempts())
