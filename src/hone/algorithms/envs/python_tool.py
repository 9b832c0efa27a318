"""Python as a tool, in the sandbox."""

from __future__ import annotations

from typing import Any

from hone.algorithms.envs.tools import Tool, ToolError, tool_spec
from hone.algorithms.sandbox import Limits, run_python


class Python(Tool):
    spec = tool_spec("python", "Runs a program and returns what it prints.", code="a whole Python program")

    def __init__(self, limits: Limits | None = None, *, packages: bool = False, longest: int = 2000) -> None:
        self._limits, self._packages, self._longest = limits or Limits(), packages, longest

    async def call(self, arguments: dict[str, Any]) -> str:
        outcome = await run_python(str(arguments["code"]), packages=self._packages, limits=self._limits)
        if not outcome.ok:
            last = outcome.stderr.strip()[-self._longest :]
            raise ToolError(f"the program {outcome.describe()}" + (f":\n{last}" if last else ""))
        # Of a long output the end says more than the beginning.
        return outcome.stdout.strip()[-self._longest :] or "the program printed nothing"
