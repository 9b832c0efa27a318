"""A step that fails: only the request at fault does, and the others get what they would have got."""

from typing import Any

import pytest
from torch import Tensor

from hone.engine.models.load import LoadedModel
from hone.engine.sampling import sampler as sampling
from hone.engine.sampling.draw import Draws, DrawSettings, draw
from hone.engine.sampling.samplers import Samplers
from hone.protocol.types import SampleResult
from tests.unit.engine.sampling.material import assert_equal, one, prompt, request, sampler_of

POISON = 0.123456
"""A temperature that no other request has."""


@pytest.fixture
def poisonous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing fails for a batch in which a row has the poisonous temperature."""

    def failing(logits_BV: Tensor, settings: DrawSettings, uniforms_B: Tensor) -> Draws:
        if any(abs(t - POISON) < 1e-6 for t in settings.temperature_B1.flatten().tolist()):
            raise RuntimeError("a row that cannot be drawn")
        return draw(logits_BV, settings, uniforms_B)

    monkeypatch.setattr(sampling, "draw", failing)


class Replies:
    def __init__(self, models: dict[str, LoadedModel]) -> None:
        self.results: dict[int, Any] = {}
        self.failed: dict[int, Exception] = {}
        self.samplers = Samplers(lambda _: sampler_of(models["qwen3"]), self._reply, self._fail)

    def _reply(self, ticket: int, found: Any) -> None:
        assert ticket not in self.results or not isinstance(self.results[ticket], SampleResult), "answered twice"
        self.results[ticket] = found

    def _fail(self, ticket: int, error: Exception) -> None:
        self.failed[ticket] = error

    def finish(self) -> None:
        while self.samplers:
            self.samplers.step()


def test_only_the_request_at_fault_fails(models: dict[str, LoadedModel], poisonous: None) -> None:
    replies = Replies(models)
    good = {ticket: request(prompt(ticket, 9 + ticket), seed=ticket, samples=2) for ticket in range(4)}
    for ticket, operation in good.items():
        replies.samplers.add(ticket, operation, None)
    replies.samplers.step()  # some tokens are drawn before the bad one comes
    replies.samplers.add(9, request(prompt(9, 9), temperature=POISON), None)
    replies.finish()
    assert list(replies.failed) == [9]
    assert "cannot be drawn" in str(replies.failed[9])
    for ticket, operation in good.items():
        assert_equal(replies.results[ticket], one(sampler_of(models["qwen3"]), operation))


def test_sampling_goes_on_after_a_failure(models: dict[str, LoadedModel], poisonous: None) -> None:
    replies = Replies(models)
    replies.samplers.add(0, request(prompt(0, 9), temperature=POISON), None)
    replies.finish()
    replies.samplers.add(1, request(prompt(1, 9)), None)
    replies.finish()
    assert list(replies.failed) == [0]
    assert list(replies.results) == [1]


def test_tokens_that_were_sent_are_not_sent_again(models: dict[str, LoadedModel], poisonous: None) -> None:
    replies = Replies(models)
    replies.samplers.add(0, request(prompt(0, 9), parts=True), None)
    replies.samplers.step()
    replies.samplers.add(1, request(prompt(1, 9), temperature=POISON), None)
    replies.samplers.add(2, request(prompt(2, 9)), None)
    replies.finish()
    assert set(replies.failed) == {0, 1}
    assert isinstance(replies.results[2], SampleResult)


def test_a_cancelled_request_does_not_begin_again(models: dict[str, LoadedModel], poisonous: None) -> None:
    replies = Replies(models)
    replies.samplers.add(0, request(prompt(0, 9)), None)
    replies.samplers.add(1, request(prompt(1, 9), temperature=POISON), None)
    replies.samplers.cancel(0)
    replies.finish()
    assert list(replies.failed) == [1]
    assert not replies.results
