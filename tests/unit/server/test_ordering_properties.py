"""The gate against the plainest gate there is: everything that ever came, sorted."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hone.server.ordering import SequenceGate
from tests.support.effort import effort


class Gates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.gate: SequenceGate[str] = SequenceGate(1)
        self.passed = 0
        """The highest number that went through or was given up."""
        self.held: dict[int, str] = {}

    @rule(ahead=st.integers(-2, 4), item=st.text(max_size=2))
    def offer(self, ahead: int, item: str) -> None:
        seq = self.passed + 1 + ahead
        through = self.gate.offer(seq, item)
        if seq <= self.passed:
            assert through is None
            return
        self.held[seq] = item
        expected = []
        while self.passed + 1 in self.held:
            self.passed += 1
            expected.append(self.held.pop(self.passed))
        assert through == expected

    @rule()
    def give_up(self) -> None:
        assert self.gate.give_up() == [self.held[seq] for seq in sorted(self.held)]
        self.passed = max(self.held, default=self.passed)
        self.held.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.gate.next_seq == self.passed + 1
        assert bool(self.gate) == bool(self.held)
        assert self.gate.missing(99) == sorted(set(range(self.passed + 1, max(self.held, default=0))) - set(self.held))


TestGates = Gates.TestCase
TestGates.settings = effort(100)
