"""Programs that mean harm end as data, and leave nothing behind."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.sandbox import Limits, Outcome, run, run_python
from hone.algorithms.sandbox.child import _guard


def outcome(source: str, **options: Any) -> Outcome:
    return asyncio.run(run_python(source, **options))


@pytest.fixture(scope="module")
def isolated() -> Outcome:
    return outcome("print(6 * 7)")


def test_a_program_is_run(isolated: Outcome) -> None:
    assert isolated.ok
    assert isolated.stdout == "42\n"
    assert isolated.describe() == "exited with status 0"


def test_its_input_its_files_and_its_status() -> None:
    found = outcome(
        "import sys, helper\nprint(helper.twice(sys.stdin.read())); sys.exit(3)",
        stdin="ab" * 100_000,
        files={"helper.py": "def twice(text): return len(text * 2)"},
    )
    assert found.stdout == "400000\n"
    assert (found.ended, found.code) == ("exit", 3)


def test_a_traceback_begins_in_the_program() -> None:
    found = outcome("def f():\n    1 / 0\nf()")
    assert found.code == 1
    assert found.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "child.py" not in found.stderr
    assert outcome("def f(:").stderr.splitlines()[-1].startswith("SyntaxError")


@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(60)"])
def test_an_endless_program_is_ended(source: str) -> None:
    started = time.monotonic()
    found = outcome(source, limits=Limits(wall_seconds=1.0))
    assert found.ended == "timeout"
    assert time.monotonic() - started < 5


def test_processor_time_has_a_limit_of_its_own() -> None:
    found = outcome("while True: pass", limits=Limits(wall_seconds=20, cpu_seconds=1))
    assert (found.ended, found.code) == ("signal", 9)


def test_memory_has_a_limit() -> None:
    found = outcome("x = bytearray(10**9)", limits=Limits(memory_bytes=256 * 2**20))
    assert found.stderr.splitlines()[-1] == "MemoryError"


def test_a_fork_bomb_is_bounded() -> None:
    source = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    pass
print(made)
"""
    found = outcome(source, limits=Limits(processes=10))
    assert found.ok
    assert 1 <= int(found.stdout) < 10
    assert found.seconds < 8  # its children did not keep it


def test_children_end_with_the_program(isolated: Outcome) -> None:
    if not isolated.isolation.processes:
        pytest.skip("no process namespaces here")
    mark = f"left-over-{os.getpid()}"
    child = f"os.setsid(); os.execv('/bin/sleep', ['{mark}', '60'])"
    source = f"import os, time\nif os.fork() == 0:\n    {child}\ntime.sleep(0.3)"
    assert outcome(source).ok
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(mark.encode() in command for command in commands)


def test_there_is_no_network() -> None:
    found = outcome("import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)")
    assert found.code == 1
    last = found.stderr.splitlines()[-1]
    assert "unreachable" in last or "PermissionError" in last


def test_a_server_of_this_machine_is_not_reached(isolated: Outcome) -> None:
    """Loopback is its own: what listens here is not there."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert outcome(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1)").code == 1


def test_output_is_bounded() -> None:
    found = outcome("while True: print('x' * 1000)", limits=Limits(output_bytes=10_000))
    assert found.ended == "output"
    assert len(found.stdout) == 10_000
    found = outcome("import sys; sys.stderr.write('x' * 50_000)", limits=Limits(output_bytes=10_000))
    assert found.ended == "output"


def test_our_environment_is_not_its(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-secret")
    found = outcome("import os\nprint(dict(os.environ))")
    assert "PATH" in found.stdout
    assert "secret" not in found.stdout


def test_our_process_and_our_files_are_not_its(isolated: Outcome, tmp_path: Path) -> None:
    if not isolated.isolation.files:
        pytest.skip("no Landlock here")
    secret = tmp_path / "api_key"
    secret.write_text("tml-secret")
    for path in (secret, f"/proc/{os.getpid()}/environ", "/etc/passwd"):
        found = outcome(f"print(open({str(path)!r}).read())")
        assert "PermissionError" in found.stderr or "FileNotFoundError" in found.stderr
        assert found.stdout == ""
    assert outcome(f"open({str(tmp_path / 'new')!r}, 'w')").code == 1


def test_files_are_bounded_and_go_with_it() -> None:
    found = outcome("import os\nprint(os.getcwd()); open('a', 'w').write('x' * 10**6)", limits=Limits(file_bytes=10**5))
    assert "File too large" in found.stderr
    assert not Path(found.stdout.strip()).exists()


def test_limits_cannot_be_raised() -> None:
    found = outcome("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))")
    assert "not allowed to raise maximum limit" in found.stderr


@pytest.mark.parametrize(
    ("source", "code"), [("import os; os.abort()", 6), ("import os; os.kill(os.getpid(), 11)", 11)]
)
def test_death_by_a_signal_is_told(source: str, code: int) -> None:
    found = outcome(source)
    if found.isolation.processes:
        assert (found.ended, found.code) == ("signal", code)


def test_many_at_once() -> None:
    async def all_of_them() -> list[Outcome]:
        return await asyncio.gather(*(run_python(f"print({number})") for number in range(6)))

    assert [found.stdout for found in asyncio.run(all_of_them())] == [f"{number}\n" for number in range(6)]


def test_without_namespaces_pythons_own_doors_are_shut(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import os, subprocess\n"
        "for work in (lambda: __import__('socket').socket(), lambda: subprocess.run(['true']), os.fork,\n"
        "             lambda: os.kill(1, 0), lambda: os.system('true')):\n"
        "    try:\n        work(); print('open')\n    except PermissionError as error:\n        print('shut')\n"
    )
    limits = '{"memory_bytes": 536870912, "cpu_seconds": 5, "file_bytes": 1000, "processes": 10}'
    starter = (
        f"import runpy, sys; sys.path.insert(0, {str(run.CHILD.parent)!r}); import child\n"
        f"child._unshare = lambda libc: False\nsys.argv[1:] = ['2', {limits!r}, {str(tmp_path)!r}]\nchild.main()"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split() == ["shut"] * 5, done.stderr
    assert '"network": false' in done.stderr


def test_the_guard_lets_everything_else_pass() -> None:
    _guard("open", ("file",))
    with pytest.raises(PermissionError, match=r"does not allow socket\.connect"):
        _guard("socket.connect", ())
