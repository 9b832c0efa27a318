"""The tools. Each is a command of `hone` in a process of its own: what an experiment loads, its plugins among them,
stays in that process, and the shapes are those that `--json` prints.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from hone.cli.exit_codes import EXIT_BUDGET, EXIT_DONE, EXIT_PROBLEMS, MEANINGS
from hone.cli.mcp.guard import Limits, expected

HONE = (sys.executable, "-m", "hone.cli.main")
STARTED = ".started"
"""Below the results: what runs that were started here printed."""

INSTRUCTIONS = """Runs experiments that train language models, and says what their evidence shows.

The loop: `history`, what was tried; write an experiment file with one hypothesis; `check` until there are no problems;
`run`, which returns at once; `status` until it is not running; `conclude`. `explain` says what may be written.

Never open test sets to choose anything: arms are chosen by validation. Never raise a budget unless the user asks for
it. `inconclusive` is a result: report it as one."""


def make_server(root: Path, limits: Limits) -> MCPServer:
    # Standard error is what a client shows when something is wrong: refusals are answers, and nothing of that.
    server = MCPServer("hone", instructions=INSTRUCTIONS, log_level="ERROR")
    project = Project(root, limits)
    for tool in (
        project.check,
        project.run,
        project.status,
        project.stop,
        project.compare,
        project.conclude,
        project.history,
        project.explain,
    ):
        server.tool(description=inspect.cleandoc(tool.__doc__ or ""), structured_output=True)(tool)
    return server


class Project:
    """The experiments below one directory. Public methods are tools; their docstrings are what an agent reads."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits = root, limits
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        """By id: runs of this server, which are its children."""

    async def check(self, file: str, overrides: list[str] | None = None) -> dict[str, Any]:
        """Find everything that is wrong with an experiment file, and estimate what it will take. Trains nothing.

        Args:
            file: The experiment's YAML, relative to the project.
            overrides: `key=value` for keys of the file, such as `run.seed=1`.
        """
        return await self._hone((EXIT_PROBLEMS,), "check", str(self._inside(file)), *_set(overrides))

    async def run(self, file: str, overrides: list[str] | None = None, resume: bool = False) -> dict[str, Any]:
        """Start an experiment in the background, and return its `id` for `status`.

        It is refused if the estimate exceeds the file's budget or this server's limits, and keeps to both.

        Args:
            file: The experiment's YAML, relative to the project.
            overrides: `key=value` for keys of the file.
            resume: Go on with an experiment that was interrupted.
        """
        path = self._inside(file)
        if any(one.strip().startswith("budget") for one in overrides or ()):
            raise ToolError("not started: the budget stands in the file, and only the user changes it")
        if any(_opens_tests(one) for one in overrides or ()):
            raise ToolError(
                "not started: how often tests may be opened, and what may overlap with them, stands in the file, and "
                "only the user changes it"
            )
        plan = await self._hone((EXIT_PROBLEMS, EXIT_BUDGET), "run", str(path), *_set(overrides), "--dry-run")
        if problems := plan["check"]["problems"]:
            raise ToolError(f"not started: {len(problems)} problems, which `check` names, the first: {problems[0]}")
        budget, estimate = plan["budget"], expected(plan["check"]["estimate"])
        if refusal := self._limits.refusal(budget, estimate):
            raise ToolError(f"not started: {refusal}")
        directory = Path(plan["directory"])
        started = self._inside(directory.parent) / STARTED
        started.mkdir(parents=True, exist_ok=True)
        identity = str(directory.relative_to(self._root))
        if self._is_running(identity):
            raise ToolError(f"not started: {identity} is running already; ask for its status")
        words = [*_set(overrides), *_set(self._limits.overrides(budget)), *(["--resume"] if resume else [])]
        out, log = self._outputs(identity)
        with out.open("wb") as printed, log.open("wb") as said:
            # A session of its own: the experiment goes on when the agent's client, and this server with it, ends.
            self._started[identity] = subprocess.Popen(
                [*HONE, "run", str(path), *words, "--json", "--yes"],
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=said,
                start_new_session=True,
            )
        return {"id": identity, "directory": str(directory), "estimate": estimate, "log": str(log)}

    async def status(self, id: str) -> dict[str, Any]:
        """How far an experiment is: `state` is running, ended or interrupted; `experiment` has its arms.

        Args:
            id: What `run` returned.
        """
        directory = self._inside(id)
        running = self._is_running(id)
        found: dict[str, Any] = {"id": id, "state": "running" if running else "ended", "experiment": None}
        process = self._started.get(id)
        if process is not None and not running:
            found["exit_code"], found["exit_meaning"] = process.returncode, MEANINGS.get(process.returncode, "")
            if process.returncode != EXIT_DONE:
                found["message"] = self._outputs(id)[1].read_text(errors="replace")[-2000:]
        if (directory / "record.json").is_file():
            found["experiment"] = await self._hone((), "experiments", "show", str(directory))
            if not running and found["experiment"]["status"] in ("running", "waiting"):
                found["state"] = "interrupted"
        elif process is None and not running:
            raise ToolError(f"there is no experiment {id!r}; `history` lists those that there are")
        return found

    async def stop(self, id: str) -> dict[str, Any]:
        """Interrupt an experiment that this server started. `run` with `resume` goes on with it.

        Args:
            id: What `run` returned.
        """
        process = self._started.get(id)
        if process is None or process.poll() is not None:
            raise ToolError(f"{id!r} is not running, or was not started by this server")
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait)
        return await self.status(id)

    async def compare(self, first: str, second: str) -> dict[str, Any]:
        """What differs between two experiments, in settings and in results.

        Args:
            first: An id, or the name of an experiment.
            second: Another.
        """
        return await self._hone((), "experiments", "compare", self._named(first), self._named(second))

    async def conclude(self, id: str) -> dict[str, Any]:
        """The verdict on the hypothesis: supported, refuted or inconclusive, with effect, interval, failures and cost.

        Args:
            id: An id, or the name of an experiment.
        """
        return await self._hone((), "experiments", "conclude", self._named(id))

    async def history(self, directory: str = "runs") -> dict[str, Any]:
        """A digest of every past experiment: what was claimed, what came of it, what it took.

        Args:
            directory: Where results are, relative to the project.
        """
        return await self._hone((), "history", "--dir", str(self._inside(directory)))

    async def explain(
        self, registry: str | None = None, kind: str | None = None, plugins: list[str] | None = None
    ) -> dict[str, Any]:
        """What may be written in an experiment file. Without arguments, the registries and their kinds.

        Args:
            registry: source, transform, algorithm, backend, verifier, metric, store, inference; or `config`.
            kind: A plugin of the registry, or a part of the file, such as `run.data`.
            plugins: Modules or files whose plugins are known too.
        """
        words = [word for word in (registry, kind) if word is not None]
        return await self._hone((), "explain", *words, *(f"--plugins={name}" for name in plugins or ()))

    async def _hone(self, also: Collection[int], *words: str) -> dict[str, Any]:
        """What a command prints with `--json`, and its exit code.

        Raises:
            ToolError: the exit code is neither 0 nor one of `also`.
        """
        process = await asyncio.create_subprocess_exec(
            *HONE,
            *words,
            "--json",
            cwd=self._root,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, said = await process.communicate()
        if process.returncode != EXIT_DONE and process.returncode not in also:
            raise ToolError((said or printed).decode(errors="replace").strip()[-4000:])
        found: dict[str, Any] = json.loads(printed)
        return {**found, "exit_code": process.returncode}

    def _inside(self, name: str | Path) -> Path:
        """A path below the project.

        Raises:
            ToolError: it lies outside.
        """
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise ToolError(f"{name} is outside of the project {self._root}")
        return path

    def _named(self, name: str) -> str:
        """As the command line takes it: a directory if it is one, else a name."""
        path = self._inside(name)
        return str(path) if path.is_dir() else name

    def _outputs(self, identity: str) -> tuple[Path, Path]:
        directory = self._inside(identity)
        started = directory.parent / STARTED
        return started / f"{directory.name}.json", started / f"{directory.name}.log"

    def _is_running(self, identity: str) -> bool:
        """By whoever started it."""
        from hone.experiments.runner.directory import is_running

        process = self._started.get(identity)
        return (process is not None and process.poll() is None) or is_running(self._inside(identity))


def _opens_tests(override: str) -> bool:
    """Whether it could allow another look at a test set, or excuse a leak into one."""
    key, _, value = (part.strip() for part in override.partition("="))
    if not key.startswith("benchmarks"):
        return False
    is_whole = "." not in key
    return "openings" in key or "overlap" in key or (is_whole and value != "[]")


def _set(values: Iterable[str] | None) -> list[str]:
    return [f"--set={value}" for value in values or ()]
