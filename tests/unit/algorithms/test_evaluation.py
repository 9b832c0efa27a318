"""Measures while training."""

import asyncio
from collections.abc import Mapping

import numpy as np
import pytest
import tinker

from hone.algorithms.datums import supervised_datum
from hone.algorithms.evaluation import HeldOutNll, measure

PICTURE = tinker.types.ImageChunk(data=b"none", format="png", expected_tokens=3)


class Scorer:
    """Finds the token t as likely as exp(-t), and knows nothing of images, as the protocol has it."""

    def __init__(self) -> None:
        self.under_way = self.most = 0

    async def compute_logprobs(self, sequence: tinker.ModelInput) -> list[float | None]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        found: list[float | None] = []
        for chunk in sequence.chunks:
            tokens = chunk.tokens if isinstance(chunk, tinker.EncodedTextChunk) else [None] * chunk.length
            found += [None if token is None else -float(token) for token in tokens]
        return [None, *found[1:]]


def test_a_picture_among_the_tokens_leaves_the_measure_what_it_is() -> None:
    text = [tinker.EncodedTextChunk(tokens=[5, 1, 2, 6])]
    plain = supervised_datum(tinker.ModelInput(chunks=text), np.array([0, 1, 1, 1]))
    begun = tinker.EncodedTextChunk(tokens=[4])
    seen = supervised_datum(tinker.ModelInput(chunks=[begun, PICTURE, *text]), np.array([0, 0, 0, 0, 0, 1, 1, 1]))
    for examples in ([plain], [seen], [plain, seen]):
        found = asyncio.run(HeldOutNll(examples)(Scorer()))  # type: ignore[arg-type]
        assert found["nll"] == pytest.approx(3.0)


def test_no_more_requests_are_under_way_than_asked_for() -> None:
    scorer = Scorer()
    example = supervised_datum(tinker.ModelInput.from_ints([1, 2]), [0.0, 1.0])
    asyncio.run(HeldOutNll([example] * 20, concurrency=3)(scorer))  # type: ignore[arg-type]
    assert scorer.most == 3


class Noting:
    """Keeps the steps that it was asked about."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    async def __call__(self, sampler: object) -> Mapping[str, float]:
        raise AssertionError("it is to be told the step")

    async def at_step(self, sampler: object, step: int) -> Mapping[str, float]:
        self.steps.append(step)
        return {"seen": float(len(self.steps))}


def test_an_evaluator_that_wants_the_step_is_told_it() -> None:
    noting = Noting()
    example = supervised_datum(tinker.ModelInput.from_ints([1, 2]), [0.0, 1.0])
    found = asyncio.run(measure(Scorer(), [noting, HeldOutNll([example])], 7))  # type: ignore[arg-type]
    assert noting.steps == [7]
    assert found == {"test/seen": 1.0, "test/nll": 2.0}
