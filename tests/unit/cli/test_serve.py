import argparse
import json
import resource
import subprocess
import threading
from pathlib import Path

import pytest

from hone.cli import serve
from hone.errors import UserError
from hone.paths import DataDirectory


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(list(arguments))


def test_models_have_their_own_name_or_a_given_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    named, plain = serve.model_sources([f"Qwen/Qwen3-8B={tmp_path}", str(tmp_path)])
    assert (named.name, named.directory) == ("Qwen/Qwen3-8B", tmp_path.resolve())
    assert plain.name == tmp_path.name
    (embedded,) = serve.model_sources([])
    assert embedded.name == "hone/tiny"
    assert embedded.directory.name == "tiny"
    with pytest.raises(UserError, match="two models have the same name"):
        serve.model_sources([f"a={tmp_path}", f"a={tmp_path}"])
    with pytest.raises(UserError, match=r"--model a=/nowhere.*no config.json"):
        serve.model_sources(["a=/nowhere"])


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        serve.allow_many_connections()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1]
        assert soft == (serve.OPEN_FILES if hard == resource.RLIM_INFINITY else min(serve.OPEN_FILES, hard))
        serve.allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_one_server_for_one_data_directory(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with (
        serve.only_server(data),
        pytest.raises(UserError, match=r"in use by another server \(pid \d+\).*--data-dir"),
        serve.only_server(data),
    ):
        pass
    with serve.only_server(data):
        pass


def test_a_server_waits_for_the_engine_of_a_killed_one(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with serve.no_earlier_engine(data) as held:
        engine = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[held])
    threading.Timer(0.3, engine.communicate).start()  # its writes are done
    with serve.no_earlier_engine(data):
        assert engine.poll() == 0


def test_an_engine_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "EARLIER_ENGINE_SECONDS", 0.1)
    data = DataDirectory(tmp_path)
    with (
        serve.no_earlier_engine(data),
        pytest.raises(UserError, match=r"engine of an earlier server.*hone\.engine\.process"),
        serve.no_earlier_engine(data),
    ):
        pass


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with serve._listening("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}: .*--port 0"), serve._listening("127.0.0.1", port):
            pass


def test_announcements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.support.service import KEY, MODEL, make_service
    from tests.support.uniform_engine import UniformEngine

    service = make_service(tmp_path, UniformEngine())
    with serve._listening("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serve._announce(service, listener, as_json=True)
        ready = json.loads(capsys.readouterr().out)
        assert (ready["url"], ready["api_key"], ready["models"]) == (url, KEY, [MODEL])
        assert set(ready) == {"url", "api_key", "pid", "data_dir", "models"}
        serve._announce(service, listener, as_json=False)
        text = capsys.readouterr().out
        assert f"export TINKER_BASE_URL={url}\n" in text
        assert f"export TINKER_API_KEY={KEY}\n" in text
    service.database.close()
