"""The head in C: the framework's bits in its log-probabilities, and the gradient of autograd in float64."""

import pytest
import torch
from torch import Tensor

from hone.engine import wide
from hone.engine.head import Head
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.lora.layout import GroupWeights
from hone.engine.native import head as head_module
from hone.engine.native.head import NativeHead
from hone.engine.wide import helped_by
from hone.engine.workers import Workers
from tests.unit.engine.material import HEAD_MEMORY, bound_head, relative_error

V, H, T, SCALE = 203, 48, 150, 2.5


@pytest.fixture(params=HEAD_MEMORY)
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return bound_head(monkeypatch, head_module, str(request.param), 70 * V)


def adapter(rank: int) -> tuple[GroupWeights, GroupWeights, LoraBatch]:
    """An adapter, its gradients and the batch of all rows."""
    weights = GroupWeights(torch.randn(rank, H), (torch.randn(V, rank),))
    gradients = GroupWeights(torch.zeros(rank, H), (torch.zeros(V, rank),))
    return weights, gradients, LoraBatch([LoraSpan(0, T, {"head": weights}, {"head": gradients}, SCALE)])


def native(weight: Tensor, lora: LoraBatch) -> NativeHead:
    found = NativeHead.of(weight, next(iter(lora.segments("head")), None))
    assert found is not None
    return found


@pytest.mark.parametrize("trailing", [(), (1,), (6,)], ids=["T", "T1", "TK"])
@pytest.mark.parametrize("rank", [0, 4, 8, 16, 24])
def test_value_and_gradients(trailing: tuple[int, ...], rank: int, memory: str) -> None:
    torch.manual_seed(2)
    weight, hidden = torch.randn(V, H), torch.randn(T, H)
    targets, dlogprobs = torch.randint(0, V, (T, *trailing)), torch.randn(T, *trailing)
    if trailing == (6,):
        targets[:, 1] = targets[:, 0]  # a token listed twice gets both gradients
    dlogprobs[10:90] = 0  # a prompt
    dlogprobs[120] = 0
    weights, gradients, lora = adapter(rank)
    lora = lora if rank else LoraBatch([])

    exact = [x.double().requires_grad_() for x in (hidden, weights.a, weights.b[0])]
    logits = exact[0] @ weight.double().t()
    if rank:
        logits = logits + SCALE * (exact[0] @ exact[1].t()) @ exact[2].t()
    wanted = torch.log_softmax(logits, -1).gather(1, targets.view(T, -1)).view(targets.shape)
    wanted.backward(dlogprobs.double())

    head = native(weight, lora)
    found, dhidden = head.logprobs(hidden, targets), torch.full_like(hidden, float("nan"))
    assert torch.equal(found, Head(weight, lora).logprobs(hidden, targets))
    head.backward(hidden, targets, dlogprobs, dhidden)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=4e-5)
    assert exact[0].grad is not None
    assert relative_error(dhidden, exact[0].grad) < 1e-5
    assert not dhidden[10:90].any()
    if rank:
        assert exact[1].grad is not None
        assert exact[2].grad is not None
        assert relative_error(gradients.a, exact[1].grad) < 1e-5
        assert relative_error(gradients.b[0], exact[2].grad) < 1e-5


def test_gradients_are_added(memory: str) -> None:
    torch.manual_seed(3)
    weight, hidden = torch.randn(V, H), torch.randn(T, H)
    targets, dlogprobs = torch.randint(0, V, (T,)), torch.randn(T)
    _, gradients, lora = adapter(8)
    once = None
    for _ in range(2):
        head = native(weight, lora)
        head.logprobs(hidden, targets)
        head.backward(hidden, targets, dlogprobs, torch.empty_like(hidden))
        once = once if once is not None else (gradients.a.clone(), gradients.b[0].clone())
    assert once is not None
    torch.testing.assert_close(gradients.a, 2 * once[0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradients.b[0], 2 * once[1], rtol=1e-5, atol=1e-4)


def test_an_adapter_whose_order_of_additions_is_not_known_is_the_frameworks() -> None:
    assert NativeHead.of(torch.randn(V, H), adapter(2)[2].segments("head")[0]) is None


@pytest.mark.parametrize("rank", [8, 16])
def test_divided_it_has_the_same_bits(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    weight, hidden = torch.randn(V, H), torch.randn(T, H)
    targets, dlogprobs = torch.randint(0, V, (T,)), torch.randn(T)
    _, gradients, lora = adapter(rank)

    def passed() -> list[Tensor]:
        gradients.a.zero_()
        gradients.b[0].zero_()
        head, dhidden = native(weight, lora), torch.empty_like(hidden)
        found = head.logprobs(hidden, targets)
        head.backward(hidden, targets, dlogprobs, dhidden)
        return [found, dhidden, gradients.a.clone(), gradients.b[0].clone()]

    whole = passed()
    monkeypatch.setattr(wide, "LEAST_WORK", 1 << 10)
    workers = Workers(2)
    try:
        with torch.no_grad(), helped_by(workers):
            divided = passed()
    finally:
        workers.close()
    for one, other in zip(divided, whole, strict=True):
        assert torch.equal(one, other)
