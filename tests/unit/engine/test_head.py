"""The chunked head against autograd through full logits in float64."""

import pytest
import torch
from torch import Tensor

from hone.engine import head as head_module
from hone.engine.head import Head
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.lora.layout import GroupWeights
from tests.unit.engine.material import HEAD_MEMORY, bound_head, relative_error

V, H, R, T, SCALE = 53, 24, 4, 37, 2.5


@pytest.fixture(params=HEAD_MEMORY)
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return bound_head(monkeypatch, head_module, str(request.param), 5 * V)


def group(a: Tensor, b: Tensor) -> GroupWeights:
    return GroupWeights(a, (b,))


def lora(weights: GroupWeights, gradients: GroupWeights | None) -> LoraBatch:
    return LoraBatch([LoraSpan(0, T, {"head": weights}, None if gradients is None else {"head": gradients}, SCALE)])


@pytest.mark.parametrize("trailing", [(), (1,), (6,)], ids=["T", "T1", "TK"])
@pytest.mark.parametrize("with_adapter", [True, False], ids=["adapter", "base"])
def test_value_and_gradients(trailing: tuple[int, ...], with_adapter: bool, memory: str) -> None:
    torch.manual_seed(2)
    weight, hidden = torch.randn(V, H), torch.randn(T, H)
    a, b = torch.randn(R, H), torch.randn(V, R)
    targets, dlogprobs = torch.randint(0, V, (T, *trailing)), torch.randn(T, *trailing)
    if trailing == (6,):
        targets[:, 1] = targets[:, 0]  # a token listed twice gets both gradients

    wide = [x.double().requires_grad_() for x in (hidden, a, b)]
    logits = wide[0] @ weight.double().t()
    if with_adapter:
        logits = logits + SCALE * (wide[0] @ wide[1].t()) @ wide[2].t()
    wanted = torch.log_softmax(logits, -1).gather(1, targets.view(T, -1)).view(targets.shape)
    wanted.backward(dlogprobs.double())

    gradients = group(torch.zeros_like(a), torch.zeros_like(b))
    head = Head(weight, lora(group(a, b), gradients) if with_adapter else LoraBatch([]))
    found, dhidden = head.logprobs(hidden, targets), torch.full_like(hidden, float("nan"))
    head.backward(hidden, targets, dlogprobs, dhidden)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-5)
    assert wide[0].grad is not None
    assert relative_error(dhidden, wide[0].grad) < 1e-5
    if with_adapter:
        assert wide[1].grad is not None
        assert wide[2].grad is not None
        assert relative_error(gradients.a, wide[1].grad) < 1e-5
        assert relative_error(gradients.b[0], wide[2].grad) < 1e-5


def test_gradients_are_added(memory: str) -> None:
    weight, hidden, a, b = torch.randn(V, H), torch.randn(T, H), torch.randn(R, H), torch.randn(V, R)
    targets, dlogprobs = torch.randint(0, V, (T,)), torch.randn(T)
    gradients = group(torch.zeros_like(a), torch.zeros_like(b))
    head = Head(weight, lora(group(a, b), gradients))
    once = None
    for _ in range(2):
        head.logprobs(hidden, targets)
        head.backward(hidden, targets, dlogprobs, torch.empty_like(hidden))
        once = once if once is not None else (gradients.a.clone(), gradients.b[0].clone())
    assert once is not None
    torch.testing.assert_close(gradients.a, 2 * once[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients.b[0], 2 * once[1], rtol=1e-5, atol=1e-5)


def test_forward_only_gathers_nothing_and_agrees() -> None:
    weight, hidden, a, b = torch.randn(V, H), torch.randn(T, H), torch.randn(R, H), torch.randn(V, R)
    targets = torch.randint(0, V, (T,))
    gradients = group(torch.zeros_like(a), torch.zeros_like(b))
    training = Head(weight, lora(group(a, b), gradients)).logprobs(hidden, targets)
    assert torch.equal(Head(weight, lora(group(a, b), None)).logprobs(hidden, targets), training)


def test_all_probabilities_add_up_to_one() -> None:
    hidden = torch.randn(3, H) * 10
    logprobs = Head(torch.randn(V, H), LoraBatch([])).logprobs(hidden, torch.arange(V).expand(3, V))
    torch.testing.assert_close(logprobs.double().exp().sum(1), torch.ones(3, dtype=torch.float64), rtol=1e-5, atol=0)


def test_no_row_reads_past_its_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more logits at once than the constant allows: what makes large vocabularies and long contexts possible."""
    monkeypatch.setattr(head_module, "CHUNK_ELEMENTS", 4 * V)
    largest = 0
    plain = Head.logits

    def watched(self: Head, hidden: Tensor) -> Tensor:
        nonlocal largest
        logits = plain(self, hidden)
        largest = max(largest, logits.numel())
        return logits

    monkeypatch.setattr(Head, "logits", watched)
    Head(torch.randn(V, H), LoraBatch([])).logprobs(torch.randn(T, H), torch.randint(0, V, (T,)))
    assert largest == 4 * V
