"""A sandbox without a single program: what a model writes is never executed, it is told that nothing was found."""

from pathlib import Path

from tinker_cookbook.sandbox.sandbox_interface import SandboxResult

NOT_FOUND = SandboxResult(stdout="", stderr="command not found", exit_code=127)
DONE = SandboxResult(stdout="", stderr="", exit_code=0)


class EmptySandbox:
    sandbox_id = "empty"

    async def send_heartbeat(self, timeout: int = 30) -> None: ...

    async def run_command(
        self, command: str, workdir: str | None = None, timeout: int = 60, max_output_bytes: int | None = None
    ) -> SandboxResult:
        return NOT_FOUND

    async def read_file(self, path: str, max_bytes: int | None = None, timeout: int = 60) -> SandboxResult:
        return NOT_FOUND

    async def write_file(
        self, path: str, content: str | bytes, executable: bool = False, timeout: int = 60
    ) -> SandboxResult:
        return DONE

    async def cleanup(self) -> None: ...


async def make(directory: Path, timeout: int) -> EmptySandbox:
    return EmptySandbox()
