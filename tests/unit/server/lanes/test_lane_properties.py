"""A model and a sampling session against the plainest server there is, which runs everything once and in order.

Submissions come repeated, out of order and under numbers in use; engine and server are killed and the clock jumps at
any moment in between. What every client sees must be what the reference sees.
"""

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from hone.protocol.types import LoraConfig
from tests.support.effort import effort
from tests.support.service import MODEL, Client, crash, datum_message, forward_backward, make_service
from tests.support.uniform_engine import Adapter, UniformEngine

SETTINGS = {
    "snapshot_operations": 4,
    "gap_seconds": 3600,
    "result_grace_seconds": 0.0,
    "idle_seconds": 0.02,
    "result_retention_hours": 1e6,
}
REAL_TIME = time.time


@dataclass
class Reference:
    """What the operations of a model come to, one after another."""

    adapter: Adapter = field(default_factory=lambda: Adapter(LoraConfig(rank=4, seed=7), 7))
    seen: dict[int, Any] = field(default_factory=dict)

    def run(self, seq: int, value: int | None) -> None:
        """A gradient over the token `value`, or a step."""
        if value is not None:
            self.adapter.gathered += 1
            self.adapter.note(value + 1)
            self.seen[seq] = float(self.adapter.state)
        elif not self.adapter.gathered:
            self.seen[seq] = {"skipped": 1.0}
        else:
            self.adapter.note(1000)
            self.adapter.gathered, self.adapter.steps = 0, self.adapter.steps + 1
            self.seen[seq] = {"state": float(self.adapter.state), "steps": float(self.adapter.steps)}


class Lanes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.jump = 0.0
        self.clock = mock.patch("time.time", self.now)
        self.clock.start()
        self.submitted: dict[int, int | None] = {}
        self.requests: dict[int, str] = {}
        self.held: list[tuple[int, int | None]] = []
        """Numbers that were skipped; they are sent later, or at the end."""
        self.next_seq = 1
        self.samples: dict[int, str] = {}
        self.cursor = 0
        self.polled: list[str] = []
        self.runner.run(self.begin())

    def now(self) -> float:
        return REAL_TIME() + self.jump

    async def start(self) -> None:
        engine = UniformEngine()
        self.service = make_service(Path(self.folder.name), engine, **SETTINGS)
        await self.service.start()
        self.client = Client(self.service, engine)

    async def begin(self) -> None:
        await self.start()
        self.session = await self.client.session()
        self.model = await self.client.model(self.session)
        body = {"session_id": self.session, "sampling_session_seq_id": 0, "base_model": MODEL}
        self.sampler = (await self.client.post("create_sampling_session", body))["sampling_session_id"]

    async def send(self, seq: int, value: int | None) -> str:
        if value is None:
            return await self.client.step(self.model, seq)
        return await self.client.send(forward_backward(self.model, seq, datum_message([value], weights=[1])))

    def submit(self, seq: int, value: int | None) -> None:
        self.submitted[seq] = value
        self.requests[seq] = self.runner.run(self.send(seq, value))

    @rule(value=st.none() | st.integers(1, 49))
    def next_operation(self, value: int | None) -> None:
        self.submit(self.next_seq, value)
        self.next_seq += 1

    @rule(value=st.none() | st.integers(1, 49))
    def skip_a_number(self, value: int | None) -> None:
        self.held.append((self.next_seq, value))
        self.next_seq += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def late_operation(self, data: st.DataObject) -> None:
        self.submit(*self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def repeated_operation(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.submitted)))
        assert self.runner.run(self.send(seq, self.submitted[seq])) == self.requests[seq]

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def number_in_use(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.submitted)))
        value = (self.submitted[seq] or 0) % 49 + 1
        message = forward_backward(self.model, seq, datum_message([value], weights=[1])).SerializeToString()
        answer = self.runner.run(self.client.http.post("/api/v1/forward_backward", content=message))
        assert answer.status_code == 400, answer.text

    @rule(seq=st.integers(0, 20))
    def sample(self, seq: int) -> None:
        body = {
            "sampling_session_id": self.sampler,
            "seq_id": seq,
            "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]},
            "sampling_params": {"max_tokens": 3, "stop": []},
        }
        answer = self.runner.run(self.client.post("asample", body))
        assert self.samples.setdefault(seq, answer["request_id"]) == answer["request_id"]

    @rule(acknowledge=st.booleans(), lost=st.booleans())
    def poll(self, acknowledge: bool, lost: bool) -> None:
        """What came since the last poll; an answer that is lost comes again."""
        body: dict[str, Any] = {"target": {"type": "sampling_session", "sampling_session_id": self.sampler}}
        body |= {"prev_cursor": self.cursor, "timeout": 0.05}
        if acknowledge:
            body["retrieved_request_ids"] = self.polled
        found = self.runner.run(self.client.post("retrieve_futures", body))
        if not lost:
            self.cursor = found["cursor"]
            self.polled += [one["request_id"] for one in found["completions"]]

    @rule(seconds=st.sampled_from([0.0, 0.005, 0.05]))
    def time_passes(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule()
    def engine_dies(self) -> None:
        async def die() -> None:
            self.client.engine.die()

        self.runner.run(die())

    @rule(clean=st.booleans())
    def server_ends_and_comes_back(self, clean: bool) -> None:
        async def again() -> None:
            await self.client.http.aclose()
            await (self.service.stop() if clean and not self.held else crash(self.service))
            await self.start()

        self.runner.run(again())

    @rule(hours=st.sampled_from([-1000, -1, 1, 1000]))
    def clock_jumps(self, hours: int) -> None:
        self.jump += 3600 * hours

    def teardown(self) -> None:
        try:
            self.runner.run(asyncio.wait_for(self.compare(), 10))
        finally:
            self.runner.run(crash(self.service))
            self.runner.close()
            self.clock.stop()
            self.folder.cleanup()

    async def compare(self) -> None:
        for seq, value in self.held:
            self.submitted[seq] = value
            self.requests[seq] = await self.send(seq, value)
        reference = Reference()
        for seq in sorted(self.submitted):
            reference.run(seq, self.submitted[seq])
        for seq, request in self.requests.items():
            if self.submitted[seq] is not None:
                found: Any = (await self.client.output(request)).metrics["state:max"]
            else:
                found = (await self.client.result(request))["metrics"]
            assert found == reference.seen[seq], f"operation {seq}"
        while len(self.polled) < len(self.samples):
            body = {"target": {"type": "sampling_session", "sampling_session_id": self.sampler}}
            found = await self.client.post("retrieve_futures", body | {"prev_cursor": self.cursor})
            self.cursor = found["cursor"]
            self.polled += [one["request_id"] for one in found["completions"]]
        assert sorted(self.polled) == sorted(self.samples.values()), "each answer is announced once"


TestLanes = Lanes.TestCase
TestLanes.settings = effort(15, steps=25, shrink=False)
