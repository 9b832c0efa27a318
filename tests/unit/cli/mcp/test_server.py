"""The tools of the MCP server, without experiments; `tests/e2e/test_mcp.py` runs some."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from mcp.server.mcpserver.exceptions import ToolError

from hone.cli.mcp.guard import Limits
from hone.cli.mcp.server import STARTED, Project, make_server
from hone.experiments.runner.directory import ExperimentDirectory


def test_every_tool_says_what_it_does_and_what_it_takes(tmp_path: Path) -> None:
    tools = asyncio.run(make_server(tmp_path, Limits()).list_tools())
    assert {tool.name for tool in tools} == set("check run status stop compare conclude history explain".split())
    for tool in tools:
        assert tool.description
        assert all(name in tool.description for name in tool.input_schema["properties"])


def test_what_runs_can_be_stopped(tmp_path: Path) -> None:
    project = Project(tmp_path, Limits())
    program = "import time; print('up', flush=True); time.sleep(60)"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # this may be a background job
    sleeper = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        project._started["runs/slow"] = sleeper
        (tmp_path / "runs" / STARTED).mkdir(parents=True)
        (tmp_path / "runs" / STARTED / "slow.log").write_text("said before it ended")
        assert asyncio.run(project.status("runs/slow"))["state"] == "running"
        stopped = asyncio.run(project.stop("runs/slow"))
        assert (stopped["state"], stopped["exit_code"]) == ("ended", sleeper.returncode)
        assert "said before it ended" in stopped["message"]
        with pytest.raises(ToolError, match="is not running"):
            asyncio.run(project.stop("runs/slow"))
    finally:
        signal.signal(signal.SIGINT, before)
        sleeper.kill()
        sleeper.communicate()


def test_an_experiment_that_somebody_else_runs_is_running(tmp_path: Path) -> None:
    project = Project(tmp_path, Limits())
    with ExperimentDirectory(tmp_path / "runs" / "other").locked():
        assert asyncio.run(project.status("runs/other"))["state"] == "running"
    with pytest.raises(ToolError, match="there is no experiment"):
        asyncio.run(project.status("runs/other"))


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "runs/../../elsewhere"])
def test_nothing_outside_of_the_project_is_touched(name: str, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", Limits())
    for call in (project.check(name), project.run(name), project.status(name), project.conclude(name)):
        with pytest.raises(ToolError, match="outside of the project"):
            asyncio.run(call)


@pytest.mark.parametrize(
    "override",
    ["benchmarks[0].openings=9", " benchmarks[0].overlap.waiver=fine", "benchmarks[0]={name: x}", "benchmarks=[{}]"],
)
def test_an_agent_opens_no_test_more_often(override: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="how often tests may be opened"):
        asyncio.run(Project(tmp_path, Limits()).run("experiment.yaml", overrides=[override]))


@pytest.mark.parametrize("override", ["budget.tokens=1", " budget.tokens=1", "budget={}"])
def test_an_agent_does_not_change_the_budget(override: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="only the user changes it"):
        asyncio.run(Project(tmp_path, Limits()).run("experiment.yaml", overrides=[override]))
