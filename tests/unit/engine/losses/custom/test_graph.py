"""Losses traced by the official client, rebuilt: the same value and gradient as autograd's, and nothing that harms."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tinker.lib.public_interfaces.custom_loss import encode_graph, trace_loss
from torch import Tensor

from hone.engine.losses.custom import graph as limits
from hone.engine.losses.custom.evaluate import evaluate_custom
from hone.engine.losses.custom.graph import rebuild
from hone.errors import UserError
from hone.protocol.types import CustomLoss, Datum

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def traced(fn: Loss, **ranks: Any) -> CustomLoss:
    """As the official client would upload it."""
    handle = trace_loss(fn, {"logprobs": 1} | ranks, "session")
    inputs = tuple((one.name, int(one.rank)) for one in handle.inputs)
    return CustomLoss(handle.name, inputs, encode_graph(handle).model_dump_json())


def squares(logprobs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return (logprobs**2).sum(), {}


def clipped(logprobs: Tensor, old: Tensor, advantages: Tensor, beta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    ratio = torch.exp(logprobs - old)
    kept = torch.where(advantages > 0, ratio.clamp(max=1.2), ratio.clamp(min=0.8))
    loss = -(kept * advantages).sum() + beta * torch.nn.functional.softplus(logprobs).mean()
    return loss, {"custom/ratio:mean": ratio.mean(), "custom/positive:sum": (advantages > 0).float().sum()}


def indexed(logprobs: Tensor, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    length = logprobs.shape[0]
    late = torch.arange(length, dtype=torch.float32) / length
    best = torch.stack([logprobs, advantages]).max(dim=0).values
    masked = logprobs[advantages > 0]
    centered = logprobs - logprobs.detach().mean()
    return (late * best).sum() - masked.sum() + logprobs[1:] @ centered[:-1], {"custom/last:sum": logprobs[-1]}


def wide(logprobs: Tensor, weights: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return -(torch.logsumexp(logprobs, dim=-1) * weights.sum(1)).sum() / logprobs.size(1), {}


def datum(rng: np.random.Generator, *shape: int, **inputs: np.ndarray) -> Datum:
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name in ("old", "advantages", "weights")}
    targets = {"target_tokens": np.zeros(shape, np.int64), "beta": np.array([0.3], np.float32)}
    return Datum(np.zeros(shape[0], np.int32), targets | drawn | inputs)


@pytest.mark.parametrize(
    ("fn", "ranks", "width"),
    [
        (squares, {}, ()),
        (clipped, {"old": 1, "advantages": 1, "beta": 0}, ()),
        (indexed, {"advantages": 1}, ()),
        (wide, {"logprobs": 2, "weights": 2}, (3,)),
    ],
)
def test_value_gradient_and_metrics_are_those_of_the_function_itself(
    fn: Loss, ranks: dict[str, int], width: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(5)
    data = [datum(rng, length, *width) for length in (4, 9, 2)]
    logprobs = torch.from_numpy(rng.normal(-2, 1, (15, *width)).astype(np.float32))
    loss = traced(fn, **ranks)
    found = evaluate_custom(loss, logprobs, data, want_gradient=True)
    leaf = logprobs.clone().requires_grad_()
    total, sums = torch.zeros(()), dict.fromkeys(found.metrics, 0.0)
    for part, one in zip(leaf.split([4, 9, 2]), data, strict=True):
        inputs = [torch.from_numpy(one.loss_inputs[name]) for name, _ in loss.inputs[1:]]
        value, metrics = fn(
            part, *(i.reshape(()) if n == "beta" else i for i, (n, _) in zip(inputs, loss.inputs[1:], strict=True))
        )
        total = total + value
        for key, metric in metrics.items():
            sums[key] += float(metric.detach())
    total.backward()
    assert found.value == pytest.approx(float(total.detach()), rel=1e-6)
    assert leaf.grad is not None
    torch.testing.assert_close(found.dlogprobs, leaf.grad)
    assert found.metrics == pytest.approx(sums)
    forward_only = evaluate_custom(loss, logprobs, data, want_gradient=False)
    assert forward_only.value == found.value
    assert not forward_only.dlogprobs.any()


def test_a_loss_that_does_not_depend_on_the_model_has_no_gradient() -> None:
    def constant(logprobs: Tensor, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return advantages.sum(), {}

    one = datum(np.random.default_rng(0), 3)
    assert not evaluate_custom(traced(constant, advantages=1), torch.ones(3), [one], True).dlogprobs.any()


# --- what is refused -------------------------------------------------------------------------------------------------


def node(op: str, name: str, target: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"op": op, "name": name, "target": target, "args": list(args), "kwargs": kwargs}


X = {"ref": "logprobs"}


def graph(*nodes: dict[str, Any], loss: str = "made") -> CustomLoss:
    given = node("placeholder", "logprobs", "logprobs")
    output = node("output", "output", "output", {"tuple": [{"ref": loss}, {"dict": {}}]})
    return CustomLoss("evil", (("logprobs", 1),), json.dumps({"format": 1, "nodes": [given, *nodes, output]}))


def run(loss: CustomLoss) -> None:
    rebuild(loss).run([torch.ones(4, requires_grad=True)])


@pytest.mark.parametrize(
    "made",
    [
        node("call_function", "made", "os.system", "true"),
        node("call_function", "made", "builtins.eval", "1"),
        node("call_function", "made", "torch.load", "file"),
        node("call_function", "made", "torch.save", X, "file"),
        node("call_function", "made", "torch.ops.load_library", "file"),
        node("call_function", "made", "torch.hub.load", "a", "b"),
        node("call_function", "made", "torch.manual_seed", 1),
        node("call_function", "made", "torch.rand", 3),
        node("call_function", "made", "torch.set_num_threads", 1),
        node("call_function", "made", "torch.from_file", "file"),
        node("call_function", "made", "torch.__builtins__", 1),
        node("call_function", "made", "operator.attrgetter", "a"),
        node("call_function", "made", "operator.methodcaller", "a"),
        node("call_function", "made", "operator.setitem", X, 0, 1),
        node("call_function", "made", "math.factorial", 10**6),
        node("call_function", "made", "getattr", X, "__class__"),
        node("call_function", "made", "getattr", X, "data"),
        node("call_function", "made", "getattr", "text", "shape"),
        node("call_function", "made", "torch.exp", X, out=X),
        node("call_function", "made", "torch.exp", {"module": "os"}),
        node("call_function", "made", "torch.zeros", 3, device={"device": "cuda"}),
        node("call_function", "made", "torch.zeros", 3, device="cuda"),
        node("call_function", "made", "torch.exp", {"ref": "later"}),
        node("call_function", "made", "torch.exp", 2**70),
        node("call_method", "made", "backward", X),
        node("call_method", "made", "item", X),
        node("call_method", "made", "numpy", X),
        node("call_method", "made", "tolist", X),
        node("call_method", "made", "add_", X, 1),
        node("call_method", "made", "apply_", X, 1),
        node("call_method", "made", "map_", X, X, 1),
        node("call_method", "made", "register_hook", X, 1),
        node("call_method", "made", "__reduce__", X),
        node("call_method", "made", "untyped_storage", X),
        node("call_method", "made", "sum", "text"),
        node("call_method", "made", "to", X, "cuda"),
        node("call_module", "made", "layer", X),
        node("get_attr", "made", "weight"),
        node("placeholder", "made", "other"),
        node("call_function", "logprobs", "torch.exp", X),
        {"op": "call_function", "name": "made"},
    ],
)
def test_what_is_not_on_the_list_is_refused_when_the_loss_is_made(made: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="custom loss 'evil'"):
        rebuild(graph(made))


@pytest.mark.parametrize(
    "steps",
    [
        [node("call_function", "made", "torch.zeros", 10**12)],
        [node("call_function", "made", "torch.arange", 10**12)],
        [node("call_function", "made", "torch.full", [10**6, 10**6], 1.0)],
        [node("call_method", "made", "new_zeros", X, [10**6, 10**6])],
        [node("call_method", "big", "expand", X, 10**9, 4), node("call_method", "made", "clone", {"ref": "big"})],
        [node("call_function", "made", "operator.pow", 9, 10**9)],
        [node("call_function", "made", "operator.mul", "text", 10**9)],
        [node("call_function", "made", "operator.mul", [1], 10**9)],
        [node("call_function", "made", "operator.add", "a", "b")],
        [
            node("call_function", "a", "operator.pow", 9, 16),
            node("call_function", "made", "operator.mul", {"ref": "a"}, {"ref": "a"}),
        ],
        [
            node("call_function", "m", "torch.outer", X, X),
            node("call_function", "made", "operator.matmul", {"ref": "m"}, {"ref": "m"}),
        ],
        [node("call_function", "made", "torch.exp", X)],
        [node("call_function", "made", "math.exp", X)],
        [node("call_function", "made", "torch.sum", X, 5)],
    ],
)
def test_what_grows_or_fails_is_refused_when_it_is_run(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="custom loss 'evil'"):
        run(graph(*steps))


def test_doubling_again_and_again_ends() -> None:
    steps = [node("call_function", "s0", "torch.cat", [X, X])]
    steps += [node("call_function", f"s{i}", "torch.cat", [{"ref": f"s{i - 1}"}] * 2) for i in range(1, 60)]
    with pytest.raises(UserError, match="numbers in all"):
        run(graph(*steps, loss="s59"))


def test_graphs_are_bounded_in_size_and_depth() -> None:
    ok = node("call_method", "made", "sum", X)
    run(graph(ok))
    many = [node("call_function", f"s{i}", "torch.exp", X) for i in range(limits.MAX_NODES)]
    with pytest.raises(UserError, match="at most 512"):
        rebuild(graph(*many, ok))
    with pytest.raises(UserError, match="at most 262144"):
        rebuild(graph(node("call_method", "made", "sum", X, note="x" * limits.MAX_BYTES)))
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    with pytest.raises(UserError, match="nested"):
        rebuild(graph(node("call_function", "made", "torch.tensor", deep)))


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 2, "nodes": []}', '{"format": 1, "nodes": [1]}', "nonsense"])
def test_what_is_no_graph_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="custom loss 'evil'"):
        rebuild(CustomLoss("evil", (("logprobs", 1),), text))
