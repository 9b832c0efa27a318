"""Starting and stopping, with a small honest stand-in for `hone serve`."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from hone.client import embedded
from hone.errors import ServerError, UserError

READY = {"url": "http://127.0.0.1:1", "api_key": "tml-x", "data_dir": "/d", "models": ["hone/tiny"]}


def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    script = tmp_path / "serve.py"
    script.write_text("import json, os, signal, sys, time\n" + textwrap.dedent(program))
    monkeypatch.setattr(embedded, "_command", lambda data_dir, models: [sys.executable, str(script), str(data_dir)])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ready_line_is_read_and_the_process_ends_with_the_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(
        monkeypatch, tmp_path, f"print(json.dumps({READY!r} | {{'pid': os.getpid()}}), flush=True); time.sleep(60)"
    )
    with embedded.embedded_server(tmp_path / "data") as server:
        assert server.url == READY["url"]
        assert server.models == ("hone/tiny",)
        assert alive(server.pid)
    assert not alive(server.pid)


def test_a_server_that_ignores_the_signal_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.2)
    program = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    program += f"print(json.dumps({READY!r} | {{'pid': os.getpid()}}), flush=True)\ntime.sleep(60)"
    stand_in(monkeypatch, tmp_path, program)
    with embedded.embedded_server() as server:
        pass
    assert not alive(server.pid)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, tmp_path, "print('port is in use', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ServerError, match=r"exit code 3(.|\n)*port is in use"), embedded.embedded_server():
        pass


def test_what_the_user_can_mend_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, tmp_path, "print('starting\\nthe folder is in use', file=sys.stderr); sys.exit(2)")
    with pytest.raises(UserError, match="the folder is in use"), embedded.embedded_server():
        pass


def test_a_server_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "READY_SECONDS", 0.3)
    stand_in(monkeypatch, tmp_path, "time.sleep(60)")
    with pytest.raises(ServerError, match="not ready"), embedded.embedded_server():
        pass


def test_what_another_server_keeps_is_not_its_own_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HONE_DATABASE_URL", "postgresql://elsewhere")
    monkeypatch.setenv("HONE_BLOBS_URL", "s3://elsewhere")
    monkeypatch.setenv("HONE_THREADS", "1")
    stand_in(
        monkeypatch,
        tmp_path,
        "names = sorted(name for name in os.environ if name.startswith('HONE_'))\n"
        f"ready = {READY!r} | {{'pid': os.getpid(), 'models': names}}\n"
        "print(json.dumps(ready), flush=True)\ntime.sleep(60)",
    )
    with embedded.embedded_server() as server:
        assert server.models == ("HONE_THREADS",)
    with embedded.embedded_server(settings={"HONE_BLOBS_URL": "s3://mine"}) as server:
        assert server.models == ("HONE_BLOBS_URL", "HONE_THREADS")


def test_the_command_serves_on_a_free_port(tmp_path: Path) -> None:
    command = embedded._command(tmp_path, ["a=b"])
    assert command[1:5] == ["-m", "hone.cli.main", "serve", "--json"]
    assert command[-2:] == ["--model", "a=b"]
    assert json.dumps(command)


def test_the_server_ends_with_a_program_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from hone.client.embedded import embedded_server\n"
        "with embedded_server(Path(sys.argv[1])) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "data")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        assert alive(server)
        parent.kill()
    for _ in range(200):
        if not alive(server):
            return
        time.sleep(0.1)
    os.kill(server, signal.SIGKILL)
    raise AssertionError("the server outlived the program that it belonged to")
