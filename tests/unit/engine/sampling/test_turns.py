"""Whose turn it is at the sampler: among tenants, among long and short prompts."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hone.engine.attention import BLOCK
from hone.engine.contract import Share
from hone.engine.sampling.turns import Standings, WaitingLine, divide, gets_tokens


@dataclass(eq=False)
class Prompt:
    number: int
    left: int = 1
    tenant: str = ""
    weight: float = 1.0
    done: int = 0
    goal: int | None = None
    priority: int = 0

    @property
    def age(self) -> tuple[int, int]:
        return self.number, 0

    @property
    def share(self) -> Share:
        return Share(self.tenant, self.weight, self.priority)

    @property
    def next_goal(self) -> int:
        return self.left if self.goal is None else self.goal


def test_the_tenant_with_the_fewest_is_next_and_the_one_with_the_most_gives_way() -> None:
    a, b = [Prompt(i, tenant="a") for i in range(4)], [Prompt(10 + i, tenant="b") for i in range(3)]
    standings = Standings([*a[:3], b[0]])
    assert standings.first([a[3], b[1]]) is b[1]
    assert standings.last([*a[:3], b[0]]) is a[2]
    assert standings.gives_way(a[2], b[1])
    standings.remove(a[2])
    standings.add(b[1])
    assert not standings.gives_way(a[1], b[2]), "each has two"
    assert not standings.gives_way(b[1], a[2]), "and nobody takes back"


def test_a_weight_counts_for_so_many_tenants() -> None:
    a, b = [Prompt(i, tenant="a", weight=3) for i in range(5)], [Prompt(10 + i, tenant="b") for i in range(5)]
    standings = Standings([*a[:3], b[0]])
    assert not standings.gives_way(a[2], b[1])
    assert standings.gives_way(b[0], Prompt(20, tenant="c")) is False
    standings = Standings(b)
    served = []
    for _ in range(3):
        assert standings.gives_way(standings.last(b), a[0])
        standings.remove(b.pop())
        standings.add(a[0])
        served.append(len(b))
    assert served == [4, 3, 2]


def test_within_a_tenant_only_the_older_takes() -> None:
    old, young = Prompt(1), Prompt(2)
    assert Standings([young]).gives_way(young, old)
    assert not Standings([old]).gives_way(old, young)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), min_size=2, max_size=30), st.integers(1, 8))
def test_taking_places_comes_to_an_end(arrivals: list[tuple[str, int]], places: int) -> None:
    """Everybody takes whatever gives way, until nobody may; then all tenants have their due."""
    weights = {tenant: float(weight) for tenant, weight in arrivals}
    waiting = [Prompt(i, tenant=tenant, weight=weights[tenant]) for i, (tenant, _) in enumerate(arrivals)]
    holders: list[Prompt] = []
    for _ in range(2000):
        standings = Standings(holders)
        one = standings.first(waiting) if waiting else None
        if one is not None and len(holders) < places:
            waiting.remove(one)
            holders.append(one)
            continue
        last = standings.last(holders)
        if one is None or not standings.gives_way(last, one):
            break
        waiting[waiting.index(one)], holders[holders.index(last)] = last, one
    else:
        raise AssertionError("places are taken back and forth")
    held = {t: sum(h.tenant == t for h in holders) for t in weights}
    for tenant in {w.tenant for w in waiting}:
        most = max(((held[t] - 1) / weights[t] for t in weights if t != tenant), default=0.0)
        assert most < (held[tenant] + 1) / weights[tenant]


def test_the_waiting_stand_by_tenant_and_age() -> None:
    line: WaitingLine[Prompt] = WaitingLine()
    prompts = [Prompt(n, left=left, tenant=t) for n, left, t in ((5, 9, "a"), (2, 30, "a"), (7, 4, "b"))]
    for prompt in prompts:
        line.add(prompt)
    assert {p.number for p in line.heads()} == {2, 7}
    assert line.shortest() is prompts[2]
    for prompt in prompts:
        line.remove(prompt)
    assert not line


def test_short_prompts_pass_a_long_one_and_it_goes_on_too() -> None:
    long, short, middle = Prompt(0, left=10_000), Prompt(1, left=100), Prompt(2, left=400)
    assert divide([long, middle, short], 512, BLOCK) == {long: 256, short: 100, middle: 144}
    assert divide([long, short], 512, BLOCK) == {long: 400, short: 100}
    assert divide([long], 512, BLOCK) == {long: 512}
    assert divide([short, long], 512, BLOCK) == {short: 100, long: 400}


def test_what_others_wait_for_is_computed_first() -> None:
    leader, other = Prompt(1, left=5000, goal=64), Prompt(2, left=100)
    assert divide([Prompt(0, left=10_000), other, leader], 300, BLOCK)[leader] == 64


def test_a_prompt_begins_when_there_are_tokens_for_it() -> None:
    long, second = Prompt(0, left=10_000), Prompt(1, left=5000)
    assert gets_tokens([], 10**6, 512)
    assert gets_tokens([long], 10**6, 512), "half of the step is not the first one's"
    assert not gets_tokens([long, second], 6000, 512)
    assert gets_tokens([long, second], 4000, 512), "it would be done sooner"


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 20)), min_size=1, max_size=12),
    st.integers(1, 2048),
)
def test_every_step_advances_the_first_and_keeps_to_its_tokens(sizes: list[tuple[int, int]], tokens: int) -> None:
    filling = [Prompt(i, left=left, done=blocks * BLOCK) for i, (left, blocks) in enumerate(sizes)]
    while filling:
        goals = divide(filling, tokens, BLOCK)
        assert filling[0] in goals
        assert sum(stop - p.done for p, stop in goals.items()) <= max(tokens, BLOCK)
        for prompt, stop in goals.items():
            assert prompt.done < stop <= prompt.done + prompt.left
            assert stop == prompt.done + prompt.left or stop % BLOCK == 0
            prompt.done, prompt.left = stop, prompt.left - (stop - prompt.done)
        filling = [p for p in filling if p.left]


def test_higher_priority_is_next_and_takes_from_lower() -> None:
    urgent, patient = Prompt(9, tenant="a", priority=1), Prompt(1, tenant="b")
    standings = Standings([Prompt(i, tenant="a", priority=1) for i in range(5)])
    assert standings.first([patient, urgent]) is urgent
    assert standings.last([urgent, patient]) is patient
    assert standings.gives_way(patient, urgent)
    assert not standings.gives_way(urgent, patient)
