"""The gate of successive halving."""

import asyncio
from pathlib import Path

from hone.experiments.config import Goal, HalvingConfig
from hone.experiments.runner.halving import Gate
from hone.experiments.runner.journal import Journal

GROUPS = {f"{group}-s{seed}": group for group in "abcd" for seed in range(2)}
WORTH = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 0.0}


def gate(tmp_path: Path, goal: Goal = "max", keep: float = 0.5) -> Gate:
    return Gate(HalvingConfig(rungs=[4, 8], keep=keep), GROUPS, goal, Journal(tmp_path / "events.jsonl"))


async def compete(gate: Gate, arms: list[str]) -> dict[str, int]:
    """The step at which each arm ended, of 10."""

    async def arm(name: str) -> int:
        group, seed = name.split("-s")
        for rung in (4, 8):
            # One seed is far better and one far worse: groups are compared by their means.
            if not await gate.passes(name, rung, WORTH[group] + (10 if seed == "0" else -10)):
                gate.leave(name)
                return rung
        gate.leave(name)
        return 10

    return dict(zip(arms, await asyncio.gather(*(arm(name) for name in arms)), strict=True))


def ends(found: dict[str, int]) -> dict[str, set[int]]:
    return {group: {step for name, step in found.items() if name.startswith(group)} for group in "abcd"}


def test_half_of_the_groups_go_on_after_each_rung_with_all_their_repeats(tmp_path: Path) -> None:
    found = asyncio.run(asyncio.wait_for(compete(gate(tmp_path), list(GROUPS)), 5))
    assert ends(found) == {"a": {4}, "b": {10}, "c": {8}, "d": {4}}
    (tmp_path / "low").mkdir()
    found = asyncio.run(asyncio.wait_for(compete(gate(tmp_path / "low", "min"), list(GROUPS)), 5))
    assert ends(found) == {"a": {8}, "b": {4}, "c": {4}, "d": {10}}


def test_one_group_is_always_left(tmp_path: Path) -> None:
    found = asyncio.run(asyncio.wait_for(compete(gate(tmp_path, keep=0.1), list(GROUPS)), 5))
    assert ends(found) == {"a": {4}, "b": {10}, "c": {4}, "d": {4}}


def test_nobody_waits_for_an_arm_that_has_ended(tmp_path: Path) -> None:
    running = gate(tmp_path)
    for seed in range(2):
        running.leave(f"b-s{seed}")
    found = asyncio.run(asyncio.wait_for(compete(running, [name for name in GROUPS if not name.startswith("b")]), 5))
    assert ends(found) == {"a": {4}, "b": set(), "c": {10}, "d": {4}}


def test_an_arm_that_could_not_be_measured_is_the_worst(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        pair = Gate(HalvingConfig(rungs=[4]), {"x": "x", "y": "y"}, "min", Journal(tmp_path / "events.jsonl"))
        return await asyncio.gather(pair.passes("x", 4, None), pair.passes("y", 4, 1e9))

    assert asyncio.run(asyncio.wait_for(run(), 5)) == [False, True]


def test_a_decision_is_repeated_after_a_crash_whatever_is_measured_then(tmp_path: Path) -> None:
    asyncio.run(asyncio.wait_for(compete(gate(tmp_path), list(GROUPS)), 5))
    again = gate(tmp_path)
    assert asyncio.run(again.passes("b-s0", 4, -100.0))  # nobody else is there, and nobody is waited for
    assert not asyncio.run(again.passes("d-s0", 4, 100.0))
