"""The bound on staleness, whatever episodes take."""

import asyncio
import random

import pytest

from hone.algorithms.rl.ahead import Ahead, Sampled, staleness_metrics, trained_problems
from hone.algorithms.types import TrajectoryGroup

GROUP = TrajectoryGroup([], [], [])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_no_group_is_too_old_and_none_is_lost(seed: int, most: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 5) for _ in range(10)]

    async def slow() -> TrajectoryGroup:
        for _ in range(draw.choice((1, 2, 3, 40))):  # turns of the event loop stand for time
            await asyncio.sleep(0)
        return GROUP

    async def simulated() -> list[list[Sampled]]:
        steps, batch = [], 0
        async with Ahead(most) as ahead:
            for step, size in enumerate(sizes):
                while batch <= min(step + most, len(sizes) - 1):
                    for place in range(sizes[batch]):
                        ahead.start((batch, place), step, slow)
                    batch += 1
                steps.append(await ahead.take(step, size))
                for _ in range(draw.randint(0, 4)):  # the trainer works
                    await asyncio.sleep(0)
        return steps

    steps = asyncio.run(simulated())
    assert max(step - sampled.version for step, taken in enumerate(steps) for sampled in taken) <= most
    problems = [sampled.problem for taken in steps for sampled in taken]
    assert sorted(problems) == [(batch, place) for batch, size in enumerate(sizes) for place in range(size)]
    for taken in steps:
        assert [sampled.version for sampled in taken] == sorted(sampled.version for sampled in taken)


def test_a_step_does_not_wait_for_an_episode_that_is_not_too_old() -> None:
    async def simulated() -> tuple[list[Sampled], list[Sampled]]:
        release = asyncio.Event()

        async def slow() -> TrajectoryGroup:
            await release.wait()
            return GROUP

        async def quick() -> TrajectoryGroup:
            return GROUP

        async with Ahead(1) as ahead:
            ahead.start((0, 0), 0, slow)
            ahead.start((0, 1), 0, quick)
            ahead.start((1, 0), 0, quick)
            ahead.start((1, 1), 0, quick)
            first = await ahead.take(0, 2)
            waiting = asyncio.create_task(ahead.take(1, 2))
            await asyncio.sleep(0.01)
            assert not waiting.done()  # now it would be too old for the next step
            release.set()
            return first, await waiting

    first, second = asyncio.run(simulated())
    assert [sampled.problem for sampled in first] == [(0, 1), (1, 0)]
    assert [sampled.problem for sampled in second] == [(0, 0), (1, 1)]


def test_what_was_trained_can_be_read_back() -> None:
    taken = [Sampled((3, 1), 2, 0.5, GROUP), Sampled((4, 0), 3, 1.5, GROUP)]
    row = staleness_metrics(4, taken)
    assert (row["async/staleness"], row["async/staleness_max"], row["async/staleness_mean"]) == ("2 1", 2, 1.5)
    assert row["time/sampling_time_mean"] == 1.0
    assert trained_problems([row, {"step": 5}, staleness_metrics(6, [])]) == {(3, 1), (4, 0)}
