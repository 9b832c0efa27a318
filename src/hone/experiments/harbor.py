"""Tasks in the directory layout of Harbor, and their tests in the sandbox.

    task.toml            metadata, time limits
    instruction.md       what is asked
    environment/         a Dockerfile: what the container has
    tests/test.sh        run in /app after the work is done; writes a reward to /logs/verifier/reward.txt (or .json)
    solution/solve.sh    a right answer (may be missing)

There is no container here. What a model answers is a script, run in an empty /app of the sandbox, or the text of a
file in it; then `tests/test.sh` runs in a second sandbox that has what the first left in /app. `/app`, `/tests` and
`/logs` stand for directories of the sandbox in the texts of scripts and tests. A task that needs more than that
(packages, files of its image, the network) is refused with the reason.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hone.errors import UserError

ANSWER = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
PLAIN_IMAGE = {"FROM", "WORKDIR", "LABEL", "CMD", "USER", "ENV", "EXPOSE", "SHELL"}
"""Instructions of a Dockerfile that put nothing into the image which a plain Linux with Python lacks."""
NETWORK = re.compile(r"(?m)(?:^|[\s;&|(])(apt-get|apt|apk|curl|wget|pip3?|uv|npm|git\s+clone|conda|docker)\s")
UVX = "uvx"
OUTPUT_BYTES = 8 * 2**20
"""What may be left in /app, in base64."""
DEFAULT_SECONDS = 120.0


@dataclass(frozen=True)
class HarborTask:
    directory: Path
    instruction: str
    settings: Mapping[str, Any]
    """What `task.toml` says."""
    digest: str
    """Of all its files."""

    @property
    def name(self) -> str:
        task = self.settings.get("task")
        named = task.get("name") if isinstance(task, Mapping) else None
        return str(named or self.directory.name)

    @property
    def solution(self) -> str | None:
        path = self.directory / "solution/solve.sh"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    @property
    def test_seconds(self) -> float:
        verifier = self.settings.get("verifier")
        given = verifier.get("timeout_sec") if isinstance(verifier, Mapping) else None
        return float(given) if isinstance(given, int | float) and given > 0 else DEFAULT_SECONDS

    def tests(self) -> dict[str, bytes]:
        """The files of `tests/`, by path in it."""
        return _files(self.directory / "tests")

    def obstacle(self) -> str | None:
        """Why its tests cannot run here, if they cannot."""
        if not (self.directory / "tests/test.sh").is_file():
            return "it has no tests/test.sh"
        if (self.directory / "environment/docker-compose.yaml").exists():
            return "its environment is several containers (docker-compose.yaml)"
        dockerfile = self.directory / "environment/Dockerfile"
        if dockerfile.is_file():
            lines = re.sub(r"\\\n", " ", dockerfile.read_text(encoding="utf-8")).splitlines()
            for line in lines:
                if line.strip() and not line.lstrip().startswith("#") and line.split()[0].upper() not in PLAIN_IMAGE:
                    return f"its image is more than a plain one (Dockerfile: {line.strip()[:80]})"
        script = (self.directory / "tests/test.sh").read_text(encoding="utf-8")
        found = NETWORK.search(_without_template(script))
        return f"tests/test.sh uses {found.group(1)}, which needs the network or a container" if found else None


def is_task(directory: Path) -> bool:
    return (directory / "task.toml").is_file() and (directory / "instruction.md").is_file()


def read_tasks(directory: Path) -> Iterator[HarborTask]:
    """The task that the directory is, or all that lie in it, in the order of their names.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    found = [directory] if is_task(directory) else sorted(one for one in _directories(directory) if is_task(one))
    if not found:
        raise UserError(f"{directory} has no tasks: a task is a directory with task.toml and instruction.md")
    for one in found:
        yield _read(one)


def _directories(directory: Path) -> list[Path]:
    try:
        return [one for one in directory.iterdir() if one.is_dir()]
    except OSError as error:
        raise UserError(f"the directory of tasks {directory} cannot be read: {error.strerror}") from error


def _read(directory: Path) -> HarborTask:
    try:
        settings = tomllib.loads((directory / "task.toml").read_text(encoding="utf-8"))
        instruction = (directory / "instruction.md").read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(f"the task {directory} cannot be read: {error}") from error
    if not instruction:
        raise UserError(f"the task {directory} asks nothing: instruction.md is empty")
    digest = hashlib.sha256()
    for name, data in _files(directory).items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return HarborTask(directory, instruction, settings, digest.hexdigest())


def _files(directory: Path) -> dict[str, bytes]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def _without_template(script: str) -> str:
    """The script without the lines with which Harbor's template installs uv: pytest is run without it here."""
    kept = []
    for line in script.splitlines():
        words = line.split()
        installs = words[:1] == ["apt-get"] and set(words[1:]) <= {"update", "install", "-y", "-qq", "curl"}
        if not line.lstrip().startswith("#") and not installs and "astral.sh/uv" not in line:
            kept.append(line)
    return "\n".join(kept)


@dataclass(frozen=True)
class Reward:
    """What the tests said, and what they printed."""

    value: float
    output: str


async def judge(task: HarborTask, answer: str, *, form: Literal["script", "file"] = "script", file: str = "") -> Reward:
    """Do what the answer says, then run the tests.

    Args:
        form: `script`: the last fenced block is run, by Python if it says so and else by bash. `file`: the answer is
            the text of `file` in /app.

    Raises:
        UserError: the task cannot be run here.
        ServerError: the sandbox cannot be started.
    """
    if obstacle := task.obstacle():
        raise UserError(f"the tests of the task {task.name} cannot run in the sandbox: {obstacle}")
    left = {file: answer.encode()} if form == "file" else await _work(answer, task)
    said = await _run(_TEST, {"app": _packed(left), "tests": _packed(task.tests())}, task.test_seconds)
    return Reward(min(1.0, max(0.0, float(said.get("reward", 0.0)))), str(said.get("output", "")))


async def _work(answer: str, task: HarborTask) -> dict[str, bytes]:
    """What is in /app after the answer's script."""
    blocks = ANSWER.findall(answer)
    if not blocks:
        return {}
    language, script = blocks[-1]
    said = await _run(_WORK, {"script": script, "python": language.startswith("py")}, task.test_seconds)
    return {name: base64.b64decode(data) for name, data in said.get("app", {}).items()}


def _packed(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(data).decode() for name, data in files.items()}


async def _run(program: str, given: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    from hone.algorithms.sandbox import Limits, run_python

    mark = secrets.token_hex(16)
    told = {**given, "mark": mark, "python_path": sys.executable, "seconds": seconds}
    limits = Limits(
        wall_seconds=seconds + 10,
        cpu_seconds=int(seconds) + 10,
        memory_bytes=2**31,
        processes=64,
        output_bytes=OUTPUT_BYTES,
    )
    # With packages: Python, started again by a script, finds its own and pytest.
    outcome = await run_python(_COMMON + program, stdin=json.dumps(told) + "\n", packages=True, limits=limits)
    if not (outcome.isolation.processes and outcome.isolation.files):
        raise UserError(
            "tests of Harbor tasks run programs, which needs a kernel with user namespaces and Landlock; "
            "this one lacks them, so run where they are"
        )
    _, found, last = outcome.stdout.rpartition(mark)
    # What ran out of time or was ended has said nothing: it left nothing, or did not pass.
    said: dict[str, Any] = json.loads(last) if found and outcome.ok else {"output": outcome.describe()}
    return said


_COMMON = """\
import base64, json, os, re, subprocess, sys
given = json.loads(sys.stdin.readline())
root = os.getcwd()
for name in ("app", "tests", "logs/verifier", "tools", ".local/bin"):
    os.makedirs(name)
open(".local/bin/env", "w").close()

def here(text):
    return re.sub(r"(?<![\\w.$}/-])/(app|tests|logs)(?![\\w.-])", lambda m: f"{root}/{m.group(1)}", text)

def unpack(folder, files):
    for name, data in files.items():
        path = os.path.join(root, folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = base64.b64decode(data)
        if folder == "tests":
            try:
                data = here(data.decode()).encode()
            except UnicodeDecodeError:
                pass
        with open(path, "wb") as file:
            file.write(data)

def tool(name, text):
    path = os.path.join(root, "tools", name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)

def run(command):
    env = {"PATH": f"{root}/tools:{os.path.dirname(given['python_path'])}:/usr/local/bin:/usr/bin:/bin",
           "HOME": root, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    # To a file: what goes on in the background would keep a pipe open.
    with open(f"{root}/output", "w+b") as output:
        late = b""
        try:
            subprocess.run(command, cwd=f"{root}/app", env=env, stdin=subprocess.DEVNULL, stdout=output,
                           stderr=subprocess.STDOUT, timeout=given["seconds"])
        except subprocess.TimeoutExpired:
            late = b"\\nran out of time"
        output.seek(0)
        return output.read() + late

def say(**values):
    sys.stdout.write(given["mark"] + json.dumps(values))
    sys.stdout.flush()

"""

_WORK = """\
with open("script", "w") as file:
    file.write(here(given["script"]))
run([given["python_path"] if given["python"] else "/bin/bash", f"{root}/script"])
app = {}
for folder, _, names in os.walk("app"):
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb") as file:
                app[os.path.relpath(path, "app")] = base64.b64encode(file.read()).decode()
say(app=app)
"""

_TEST = '''\
unpack("app", given["app"])
unpack("tests", given["tests"])
for name in ("apt-get", "curl"):
    tool(name, "#!/bin/sh\\nexit 0\\n")
# Runs pytest as installed here; versions and the report's form are left out.
tool("uvx", f"""#!{given['python_path']}
import os, sys
words, kept = sys.argv[1:], []
while words:
    word = words.pop(0)
    if word in ("-p", "-w", "--with", "--python", "--ctrf"):
        words.pop(0)
    else:
        kept.append(word)
os.execv({given['python_path']!r}, [{given['python_path']!r}, "-m", *kept])
""")
output = run(["/bin/bash", f"{root}/tests/test.sh"])
reward = 0.0
try:
    with open("logs/verifier/reward.txt") as file:
        reward = float(file.read())
except (OSError, ValueError):
    try:
        with open("logs/verifier/reward.json") as file:
            rewards = json.load(file)
        reward = float(rewards.get("reward", sum(rewards.values()) / len(rewards)))
    except (OSError, ValueError, AttributeError, TypeError, ZeroDivisionError):
        output += b"\\nthe tests wrote no reward"
say(reward=reward if reward == reward else 0.0, output=output.decode(errors="replace")[-2000:])
'''
