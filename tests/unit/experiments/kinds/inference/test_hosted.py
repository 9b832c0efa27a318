"""Hosted models, asked over real HTTP on the loopback."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hone.errors import UserError
from hone.experiments.kinds import plugins
from hone.experiments.kinds.inference import http

MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What is 3 + 4?"}]


class Stub:
    """Gives its answers in order, and keeps what was asked."""

    def __init__(self):
        self.answers = []
        self.asked = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stub.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, answer, headers = stub.answers.pop(0)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def will_answer(self, status, answer, **headers):
        self.answers.append((status, answer, {name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.fixture(scope="module")
def server():
    stub = Stub()
    thread = threading.Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()
    thread.join()


@pytest.fixture
def stub(server, monkeypatch):
    server.answers.clear()
    server.asked.clear()
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("THE_KEY", "secret")
    return server


def model(kind, stub, **params):
    base = stub.url + ("/v1" if kind == "openai" else "")
    return plugins.inference.make(kind, {"model": "m", "base_url": base, "api_key_env": "THE_KEY"} | params)


def ask(model, messages=MESSAGES, **sampling):
    asked = {"max_tokens": 9, "temperature": 1.5, "seed": 7} | sampling
    return asyncio.run(model.generate(messages, **asked))


OPENAI = {"choices": [{"message": {"role": "assistant", "content": "7"}}]}
ANTHROPIC = {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "7"}]}


def test_openai(stub):
    stub.will_answer(200, OPENAI)
    assert ask(model("openai", stub)) == "7"
    path, headers, body = stub.asked[0]
    assert (path, headers["authorization"]) == ("/v1/chat/completions", "Bearer secret")
    assert body == {"model": "m", "messages": MESSAGES, "max_tokens": 9, "temperature": 1.5, "seed": 7}


def test_openai_for_endpoints_with_other_habits(stub):
    stub.will_answer(200, {"choices": [{"message": {"content": None}}]})
    how = {
        "limit_name": "max_completion_tokens",
        "send": [],
        "options": {"reasoning_effort": "low"},
        "api_key_env": None,
    }
    assert ask(model("openai", stub, **how)) == ""
    _, headers, body = stub.asked[0]
    assert "authorization" not in headers
    assert body == {"model": "m", "messages": MESSAGES, "max_completion_tokens": 9, "reasoning_effort": "low"}


def test_anthropic(stub):
    stub.will_answer(200, ANTHROPIC)
    assert ask(model("anthropic", stub)) == "7"
    path, headers, body = stub.asked[0]
    assert (path, headers["x-api-key"], headers["anthropic-version"]) == ("/v1/messages", "secret", "2023-06-01")
    assert body == {
        "model": "m",
        "system": "Be short.",
        "messages": MESSAGES[1:],
        "max_tokens": 9,
        "temperature": 1.0,
    }


@pytest.mark.parametrize(("kind", "answer"), [("openai", OPENAI), ("anthropic", ANTHROPIC)])
def test_what_may_pass_is_asked_again(stub, kind, answer):
    for status in (429, 503, 500):
        stub.will_answer(status, {"error": "busy"}, retry_after="0")
    stub.will_answer(200, answer)
    assert ask(model(kind, stub)) == "7"
    assert len(stub.asked) == 4


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_failures_say_what_the_service_said(stub, kind):
    stub.will_answer(401, {"error": "no such key"})
    with pytest.raises(UserError, match=r"the model m at http://.* does not answer: status 401: .*no such key"):
        ask(model(kind, stub))
    assert len(stub.asked) == 1
    for _ in range(2):
        stub.will_answer(500, b"oops")
    with pytest.raises(UserError, match="status 500: oops"):
        ask(model(kind, stub, attempts=2))
    for answer, problem in (({"other": 1}, "in an unknown form"), (b"<html>", "not in JSON")):
        stub.will_answer(200, answer)
        with pytest.raises(UserError, match=problem):
            ask(model(kind, stub))


def test_a_service_that_is_not_there(stub):
    with pytest.raises(UserError, match="does not answer: ConnectError"):
        ask(model("openai", stub, base_url="http://127.0.0.1:9/v1", attempts=1))


def test_a_key_that_is_not_set_is_named(stub):
    with pytest.raises(UserError, match="environment variable NO_KEY, which is not set"):
        ask(model("openai", stub, api_key_env="NO_KEY"))
    assert not stub.asked


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x", "tool_call_id": "1"},
        {"role": "user", "content": [{"type": "image", "image": "data:"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": ""}}],
        },
    ],
)
def test_what_is_no_text_is_refused(stub, message):
    with pytest.raises(UserError, match="asked in text here"):
        ask(model("openai", stub), [message])
    assert not stub.asked


def test_params_are_checked():
    with pytest.raises(UserError, match="a checkpoint is named tinker://"):
        plugins.inference.make("tinker", {"checkpoint": "here"})
    with pytest.raises(UserError, match="model: Field required"):
        plugins.inference.make("openai", {})
