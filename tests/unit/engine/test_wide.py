"""On this machine, with the library that is installed: parts of a product have the bits that they have in the whole."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hone.engine import wide
from hone.engine.attention import causal_attention
from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward
from hone.engine.models.load import LoadedModel
from hone.engine.trainer import run_pieces
from hone.engine.wide import helped_by, product
from hone.engine.workers import Workers
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import random_datum, trained_adapter


@pytest.fixture(scope="module", params=[2, 5, 16])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    found = Workers(request.param)
    yield found
    found.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "LEAST_WORK", 1 << 10)


def counted(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parts there were each time."""
    parts: list[int] = []
    plain = workers.help

    def help(tasks: list) -> None:  # type: ignore[type-arg]
        parts.append(len(tasks))
        plain(tasks)

    monkeypatch.setattr(workers, "help", help)
    return parts


@pytest.mark.parametrize("rows", [4, 9, 64, 200, 1000])
@pytest.mark.parametrize("inputs", [48, 128, 384, 1024])
@pytest.mark.parametrize("outputs", [128, 384, 1000, 2048])
@pytest.mark.usefixtures("small_parts")
def test_products(workers: Workers, rows: int, inputs: int, outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(rows + inputs + outputs)
    x, weight_OI = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    forth, back = torch.mm(x, weight_OI.t()), torch.mm(forth_like := torch.randn(rows, outputs), weight_OI)
    parts, out = counted(workers, monkeypatch), torch.empty(rows, inputs)
    with torch.no_grad(), helped_by(workers):
        assert torch.equal(product(x, weight_OI.t()), forth)
        assert torch.equal(product(forth_like, weight_OI, out), back)
    assert torch.equal(out, back)
    assert parts == [min(workers.count, max(rows, n) // 64) for n in (outputs, inputs) if max(rows, n) >= 128]


def test_small_ones_and_those_that_autograd_watches_stay(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, x, weight = counted(workers, monkeypatch), torch.randn(64, 64), torch.randn(2048, 512)
    with helped_by(workers):
        with torch.no_grad():
            product(x, x)
        watched = weight.clone().requires_grad_()
        product(watched, weight.t()).sum().backward()
        assert watched.grad is not None
        assert parts == []
        with torch.inference_mode():
            found = product(weight, weight.t())
            found += 1  # as what was made here
    product(weight, weight.t())
    assert len(parts) == 1


@pytest.mark.parametrize("lengths", [(1, 48), (3, 208), (1, 1040)])
@pytest.mark.usefixtures("small_parts")
def test_attention(workers: Workers, lengths: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sequences, length = lengths

    def run() -> list[torch.Tensor]:
        found = causal_attention(*inputs)
        gradients = torch.autograd.grad((found * weights).sum(), inputs)
        return [found.detach(), *gradients]

    inputs = [torch.randn(sequences, heads, length, 16, requires_grad=True) for heads in (8, 4, 4)]
    weights = torch.randn(sequences, 8, length, 16)
    wanted, parts = run(), counted(workers, monkeypatch)
    with helped_by(workers):
        found = run()
    assert parts == [min(workers.count, 4)] * 2
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen3_moe"])
@pytest.mark.usefixtures("small_parts")
def test_a_training_pass(models: dict[str, LoadedModel], workers: Workers, family: str) -> None:
    model = models[family]
    data = (random_datum(np.random.default_rng(0), 250, "ppo"), random_datum(np.random.default_rng(1), 170, "ppo"))
    (piece,) = cut(ForwardBackward("a", data, "ppo", {}), 2048)
    state = trained_adapter(model.config, LoraConfig(rank=4, seed=0))

    def run() -> tuple[list[np.ndarray], torch.Tensor]:
        state.set_gradient(None)
        (result,) = run_pieces(model.decoder, [piece], {"a": state})
        assert state.gradient is not None
        return list(result.logprobs), state.gradient

    (wanted, wanted_gradient) = run()
    with helped_by(workers):
        found, gradient = run()
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.equal(gradient, wanted_gradient)
