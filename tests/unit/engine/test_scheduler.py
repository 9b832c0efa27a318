"""The engine's policy, without tensors: order, fairness, and what may share a micro-batch."""

from collections import defaultdict, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.engine.batch import Piece
from hone.engine.contract import ForwardBackward, OptimStep, Share
from hone.engine.scheduler import Job, Scheduler
from hone.protocol.types import AdamParams, Datum

BUDGET = 100


def piece(adapter: str, tokens: int, backward: bool = True) -> Piece:
    data = (Datum(np.zeros(tokens, np.int32), {}),)
    return Piece(adapter, data, (0,), "cross_entropy", {}, backward)


def a_pass(
    ticket: int, adapter: str, *tokens: int, backward: bool = True, model: str = "base", share: Share | None = None
) -> Job:
    """Cut already, if `tokens` are given; each adapter is a tenant of its own unless `share` says otherwise."""
    operation = ForwardBackward(adapter, (), "cross_entropy", {}, not backward)
    pieces = deque(piece(adapter, n, backward) for n in tokens) if tokens else None
    return Job(ticket, operation, pieces, model, share or Share(adapter))


def step(ticket: int, adapter: str) -> Job:
    return Job(ticket, OptimStep(adapter, AdamParams()))


def scheduler_with(*jobs: Job) -> Scheduler:
    scheduler = Scheduler(BUDGET)
    for job in jobs:
        scheduler.add(job)
    return scheduler


def tickets(batch: list[tuple[Job, Piece]]) -> list[int]:
    return [job.ticket for job, _ in batch]


def test_an_empty_scheduler_has_nothing_to_do() -> None:
    scheduler = Scheduler(BUDGET)
    assert not scheduler
    assert scheduler.next_immediate() is None
    assert scheduler.next_micro_batch() == []


def test_what_is_no_pass_runs_when_it_is_first_in_line() -> None:
    scheduler = scheduler_with(step(1, "a"), a_pass(2, "a", 10), step(3, "a"), step(4, "b"))
    assert [job.ticket for job in iter(scheduler.next_immediate, None)] == [1, 4]
    assert tickets(scheduler.next_micro_batch()) == [2]
    after = scheduler.next_immediate()
    assert after is not None
    assert after.ticket == 3
    assert not scheduler


def test_a_step_waits_for_every_piece_of_the_pass_before_it() -> None:
    scheduler = scheduler_with(a_pass(1, "a", 60, 60, 60), step(2, "a"))
    for _ in range(3):
        assert scheduler.next_immediate() is None
        assert tickets(scheduler.next_micro_batch()) == [1]
    job = scheduler.next_immediate()
    assert job is not None
    assert job.ticket == 2


def test_one_piece_per_adapter() -> None:
    scheduler = scheduler_with(a_pass(1, "a", 10, 10), a_pass(2, "a", 10), a_pass(3, "b", 10))
    assert tickets(scheduler.next_micro_batch()) == [1, 3]
    assert tickets(scheduler.next_micro_batch()) == [1]
    assert tickets(scheduler.next_micro_batch()) == [2]


def test_a_micro_batch_stays_within_the_budget() -> None:
    scheduler = scheduler_with(*(a_pass(i, f"tenant {i}", 40) for i in range(5)))
    sizes = []
    while batch := scheduler.next_micro_batch():
        sizes.append(sum(p.tokens for _, p in batch))
    assert sizes == [80, 80, 40]


def test_a_piece_beyond_the_budget_runs_alone() -> None:
    scheduler = scheduler_with(a_pass(1, "a", 10), a_pass(2, "b", 1000), a_pass(3, "c", 10))
    assert [tickets(scheduler.next_micro_batch()) for _ in range(2)] == [[1, 3], [2]]


def test_forward_only_and_backward_do_not_mix() -> None:
    scheduler = scheduler_with(
        a_pass(1, "a", 10), a_pass(2, "b", 10, backward=False), a_pass(3, "c", 10), a_pass(4, "d", 10, backward=False)
    )
    assert [tickets(scheduler.next_micro_batch()) for _ in range(2)] == [[1, 3], [2, 4]]


def test_base_models_do_not_mix() -> None:
    scheduler = scheduler_with(*(a_pass(i, f"a{i}", 10, model=model) for i, model in enumerate("xyxy")))
    assert [tickets(scheduler.next_micro_batch()) for _ in range(2)] == [[0, 2], [1, 3]]


@pytest.mark.parametrize("small_is", ["alike", "forward only", "on another model"])
@pytest.mark.parametrize("backlog_piece", [BUDGET, 60, 10 * BUDGET])
def test_a_small_tenant_is_served_by_the_next_micro_batch(small_is: str, backlog_piece: int) -> None:
    scheduler = scheduler_with(*(a_pass(i, f"large {i % 3}", *[backlog_piece] * 50) for i in range(10)))
    for _ in range(3):
        scheduler.next_micro_batch()
    model = "other" if small_is == "on another model" else "base"
    scheduler.add(a_pass(99, "small", 5, backward=small_is != "forward only", model=model))
    assert 99 in tickets(scheduler.next_micro_batch())


def test_equal_backlogs_get_equal_shares() -> None:
    scheduler = scheduler_with(*(a_pass(i, f"tenant {i}", *[30] * 40) for i in range(7)))
    served: dict[str, int] = defaultdict(int)
    for _ in range(35):
        for _, p in scheduler.next_micro_batch():
            served[p.adapter] += p.tokens
    assert max(served.values()) - min(served.values()) <= 30


def test_weights_are_shares_of_the_tokens() -> None:
    shares = {"a": Share("a", 1.0), "b": Share("b", 3.0), "c": Share("c", 0.5)}
    scheduler = scheduler_with(
        *(a_pass(i, name, *[20] * 400, share=share) for i, (name, share) in enumerate(shares.items()))
    )
    served: dict[str, int] = defaultdict(int)
    scheduler.max_tokens = 20  # one piece at a time: what fits beside a leader would go to whoever is there
    for _ in range(90):
        for _, p in scheduler.next_micro_batch():
            served[p.adapter] += p.tokens
    assert served == {"a": 400, "b": 1200, "c": 200}


def test_a_tenant_gains_nothing_by_many_adapters() -> None:
    share = Share("many")
    scheduler = scheduler_with(
        *(a_pass(i, f"many {i}", *[30] * 40, share=share) for i in range(9)), a_pass(9, "one", *[30] * 40)
    )
    served: dict[bool, int] = defaultdict(int)
    for _ in range(20):
        for _, p in scheduler.next_micro_batch():
            served[p.adapter == "one"] += p.tokens
    assert served[True] >= 18 * 30  # its only adapter is in nearly every micro-batch, and one piece of each is the most


def test_a_pause_earns_no_credit_and_costs_none() -> None:
    scheduler = scheduler_with(a_pass(1, "steady", *[50] * 100), a_pass(2, "pausing", 50))
    scheduler.max_tokens = 50
    for _ in range(20):
        scheduler.next_micro_batch()
    scheduler.add(a_pass(3, "pausing", *[50] * 20))
    turns = [tickets(scheduler.next_micro_batch())[0] for _ in range(20)]
    assert abs(turns.count(1) - turns.count(3)) <= 2


def test_large_pieces_are_placed_before_small_ones() -> None:
    sizes = [30, 70, 20, 60, 10, 10]
    scheduler = scheduler_with(*(a_pass(i, f"tenant {i}", n) for i, n in enumerate(sizes)))
    batches = []
    while batch := scheduler.next_micro_batch():
        batches.append(sorted(p.tokens for _, p in batch))
    assert batches == [[10, 20, 70], [10, 30, 60]]


def test_a_job_given_back_is_first_in_its_line() -> None:
    first, second = a_pass(1, "a"), step(2, "a")
    scheduler = scheduler_with(first, second)
    assert scheduler.next_immediate() is first
    scheduler.put_back(first, [piece("a", 10), piece("a", 20)], "base", Share("a"))
    assert scheduler.next_immediate() is None
    assert [p.tokens for _ in range(2) for _, p in scheduler.next_micro_batch()] == [10, 20]
    assert scheduler.next_immediate() is second


def test_a_removed_job_leaves_the_rest_of_its_line() -> None:
    doomed, following = a_pass(1, "a", 50, 50), step(2, "a")
    scheduler = scheduler_with(doomed, following)
    scheduler.next_micro_batch()
    scheduler.remove(doomed)
    assert scheduler.next_immediate() is following
    scheduler.remove(doomed)  # gone already
    assert not scheduler


WORK = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.one_of(st.none(), st.lists(st.integers(1, 150), min_size=1, max_size=4)),
        st.booleans(),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(WORK)
def test_every_job_completes_in_the_order_of_its_adapter(work: list[tuple[str, list[int] | None, bool, int]]) -> None:
    """However arrivals and turns interleave."""
    scheduler = Scheduler(BUDGET)
    wanted: dict[str, list[tuple[int, int]]] = defaultdict(list)
    done: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def turn() -> None:
        while (job := scheduler.next_immediate()) is not None:
            pieces = cuts.get(job.ticket)
            if pieces is None:
                done[job.operation.adapter].append((job.ticket, 0))
            else:
                adapter = job.operation.adapter
                scheduler.put_back(
                    job, pieces, "x" if adapter in "ab" else "y", Share("bc" if adapter in "bc" else "z")
                )
        batch = scheduler.next_micro_batch()
        adapters = [p.adapter for _, p in batch]
        assert len(adapters) == len(set(adapters))
        assert len({p.backward for _, p in batch}) <= 1
        assert len({a in "ab" for a in adapters}) <= 1
        assert len(batch) <= 1 or sum(p.tokens for _, p in batch) <= BUDGET
        for job, p in batch:
            done[p.adapter].append((job.ticket, p.tokens))

    cuts: dict[int, list[Piece]] = {}
    for ticket, (adapter, tokens, backward, turns) in enumerate(work):
        if tokens is None:
            scheduler.add(step(ticket, adapter))
            wanted[adapter].append((ticket, 0))
        else:
            cuts[ticket] = [piece(adapter, n, backward) for n in tokens]
            scheduler.add(a_pass(ticket, adapter))
            wanted[adapter] += [(ticket, n) for n in tokens]
        for _ in range(turns):
            turn()
    for _ in range(1000):
        if not scheduler:
            break
        turn()
    assert not scheduler
    assert done == wanted


def test_a_line_rests_until_its_job_is_removed_and_others_run() -> None:
    loading, following, other = step(1, "a"), step(2, "a"), a_pass(3, "b", 10)
    scheduler = scheduler_with(loading, following, other)
    assert scheduler.next_immediate() is loading
    scheduler.rest(loading)
    scheduler.add(step(4, "a"))
    assert scheduler.next_immediate() is None
    assert tickets(scheduler.next_micro_batch()) == [3]
    assert not scheduler, "there is nothing to run"
    scheduler.remove(loading)
    assert [job.ticket for job in iter(scheduler.next_immediate, None)] == [2, 4]
    assert not scheduler


def test_higher_priority_goes_first_and_lower_takes_turns_after_it() -> None:
    low, high = Share("low", priority=-1), Share("high")
    scheduler = scheduler_with(
        a_pass(1, "a", 60, 60, share=low),
        a_pass(2, "b", 60, 60, share=low),
        a_pass(3, "c", 30, 30, 30, share=high),
    )
    order = [tickets(scheduler.next_micro_batch()) for _ in range(7)]
    assert order[:3] == [[3], [3], [3]], "and nothing of lower priority beside it, which would make it wait"
    assert sorted(order[3:5]) == sorted(order[5:]) == [[1], [2]]
    assert not scheduler


def test_a_tenant_of_low_priority_has_its_turn_among_its_equals_whatever_others_had() -> None:
    scheduler = scheduler_with(a_pass(1, "a", 60, 60, share=Share("first", priority=-1)))
    scheduler.add(a_pass(2, "b", *[90] * 20, share=Share("busy")))
    for _ in range(20):
        assert tickets(scheduler.next_micro_batch()) == [2]
    scheduler.add(a_pass(3, "c", 60, 60, share=Share("later", priority=-1)))
    order = [tickets(scheduler.next_micro_batch())[0] for _ in range(4)]
    assert sorted(order[:2]) == [1, 3]
