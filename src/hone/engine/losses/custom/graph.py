"""A custom loss rebuilt from the client's graph: steps over a table of values, each an allowed call.

The graph is data from a stranger. Names are looked up in `allowed`, never imported or evaluated; sizes are found on a
device without memory before anything is computed, so that no graph takes more memory and time than its data warrant.
"""

import functools
import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hone.engine.losses.custom import allowed
from hone.errors import UserError
from hone.protocol.types import CustomLoss

MAX_BYTES = 1 << 18
MAX_NODES = 512
MAX_INPUTS = 16
MAX_DEPTH = 8
"""Of lists and tuples in an argument."""
FREE_ELEMENTS, ELEMENTS_PER_INPUT = 1 << 16, 1024
"""How many elements one datum's loss may make in all its tensors: so many, and so many for each element it reads."""
MAX_INTEGER = 1 << 53

_REFUSED = {"out", "generator", "pin_memory"}
_METRIC = re.compile(r"custom/[a-z0-9_./-]{1,64}:(sum|mean)")
_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    "float": lambda text: {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[text],
    "dtype": lambda text: allowed.DTYPES[text],
    "device": lambda text: {"cpu": torch.device("cpu")}[text],
    "layout": lambda text: {"strided": torch.strided}[text],
    "memory_format": lambda text: {"contiguous_format": torch.contiguous_format}[text],
    "ellipsis": lambda _: Ellipsis,
}


@dataclass(frozen=True)
class Ref:
    """The value of an earlier step."""

    name: str


@dataclass(frozen=True)
class Step:
    name: str
    shown: str
    """How the client wrote the call, for messages."""
    call: Callable[..., Any]
    is_method: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class LossGraph:
    name: str
    inputs: tuple[str, ...]
    """The placeholders' names, in order."""
    steps: tuple[Step, ...]
    loss: Ref
    metrics: dict[str, Ref]

    def run(self, values: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one datum and its metrics, each a tensor of one element."""
        table: dict[str, Any] = dict(zip(self.inputs, values, strict=True))
        budget = _Budget(FREE_ELEMENTS + ELEMENTS_PER_INPUT * sum(value.numel() for value in values))
        for step in self.steps:
            args, kwargs = _fill(step.args, table), _fill(step.kwargs, table)
            try:
                if step.is_method and not isinstance(args[0], Tensor):
                    raise UserError("it is called on something that is no tensor")
                budget.check(step.call, args, kwargs)
                table[step.name] = step.call(*args, **kwargs)
                budget.count(table[step.name])
            except Exception as error:
                raise UserError(f"custom loss {self.name!r}: {step.shown} failed: {error}") from None
        loss = table[self.loss.name]
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            found = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(f"custom loss {self.name!r} must return a scalar tensor as its loss, found {found}")
        metrics = {key: table[ref.name] for key, ref in self.metrics.items()}
        for key, value in metrics.items():
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise UserError(f"custom loss {self.name!r}: metric {key!r} must be a tensor of one element")
        return loss, metrics


@functools.lru_cache(maxsize=256)
def rebuild(loss: CustomLoss) -> LossGraph:
    """The loss, ready to run; `UserError` if any of it is not allowed."""
    try:
        return _rebuild(loss)
    except UserError as error:
        raise UserError(f"custom loss {loss.name!r}: {error}") from None


def _rebuild(loss: CustomLoss) -> LossGraph:
    if len(loss.graph) > MAX_BYTES:
        raise UserError(f"the graph has {len(loss.graph)} bytes; at most {MAX_BYTES} are allowed")
    if not 1 <= len(loss.inputs) <= MAX_INPUTS or loss.inputs[0][0] != "logprobs" or loss.inputs[0][1] == 0:
        raise UserError(f"inputs must be 1 to {MAX_INPUTS}, the first one logprobs with rank 1 or 2")
    try:
        graph = json.loads(loss.graph)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the graph is not JSON: {error}") from None
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    if not isinstance(nodes, list) or graph.get("format") != 1:
        raise UserError("the graph must be an object with format 1 and a list of nodes")
    if len(nodes) > MAX_NODES:
        raise UserError(f"the graph has {len(nodes)} nodes; at most {MAX_NODES} are allowed")
    builder = _Builder()
    for node in nodes:
        builder.add(node)
    return builder.finish(loss)


class _Builder:
    def __init__(self) -> None:
        self._known: set[str] = set()
        self._inputs: list[str] = []
        self._targets: list[str] = []
        self._steps: list[Step] = []
        self._output: Any = None

    def add(self, node: Any) -> None:
        if not isinstance(node, dict) or not all(isinstance(node.get(key), str) for key in ("op", "name", "target")):
            raise UserError("every node needs op, name and target as text")
        op, name, target = node["op"], node["name"], node["target"]
        if name in self._known or self._output is not None:
            raise UserError(f"node {name!r} comes twice or after the output")
        args, kwargs = node.get("args", []), node.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise UserError(f"node {name!r} needs a list of args and an object of kwargs")
        if op == "placeholder":
            self._inputs.append(name)
            self._targets.append(target)
        elif op == "output":
            self._output = [self._decode(arg, 0) for arg in args]
        else:
            call = _call(op, target)
            if refused := _REFUSED & set(kwargs):
                raise UserError(f"{target} may not be given {', '.join(sorted(refused))}")
            decoded = tuple(self._decode(arg, 0) for arg in args)
            if target == "getattr":
                decoded = _attribute(decoded)
            named = {key: self._decode(value, 0) for key, value in kwargs.items()}
            if op == "call_method" and not (decoded and isinstance(decoded[0], Ref)):
                raise UserError(f"method {target} is called on nothing that was computed")
            if isinstance(named.get("device"), str) or (target == "to" and any(isinstance(a, str) for a in decoded)):
                raise UserError("a device must be given in the protocol's form, and be cpu")
            self._steps.append(Step(name, target, call, op == "call_method", decoded, named))
        self._known.add(name)

    def finish(self, loss: CustomLoss) -> LossGraph:
        if self._targets != [name for name, _ in loss.inputs]:
            raise UserError(f"the graph takes {self._targets}, but its inputs are {[name for name, _ in loss.inputs]}")
        output = self._output[0] if self._output else None
        if not (isinstance(output, (list, tuple)) and len(output) == 2):
            raise UserError("the graph must return (loss, metrics)")
        result, metrics = output
        if not isinstance(result, Ref) or not isinstance(metrics, dict):
            raise UserError("the graph must return a computed loss, and metrics as a dict")
        for key, value in metrics.items():
            if not _METRIC.fullmatch(key) or not isinstance(value, Ref):
                raise UserError(
                    f"metric {key!r} must be a computed value named custom/<name>:sum or custom/<name>:mean"
                )
        return LossGraph(loss.name, tuple(self._inputs), tuple(self._steps), result, metrics)

    def _decode(self, arg: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise UserError(f"arguments are nested more than {MAX_DEPTH} deep")
        if isinstance(arg, bool) or arg is None or isinstance(arg, (float, str)):
            return arg
        if isinstance(arg, int):
            if abs(arg) > MAX_INTEGER:
                raise UserError(f"the number {str(arg)[:20]}... is too large")
            return arg
        if isinstance(arg, list):
            return [self._decode(one, depth + 1) for one in arg]
        if not isinstance(arg, dict) or len(arg) != 1:
            raise UserError("an argument is not in the protocol's form")
        ((kind, content),) = arg.items()
        if kind == "ref":
            if content not in self._known:
                raise UserError(f"{content!r} is used before it is computed")
            return Ref(content)
        if kind in ("tuple", "slice") and isinstance(content, list):
            parts = [self._decode(one, depth + 1) for one in content]
            return tuple(parts) if kind == "tuple" else _Slice(tuple(parts))
        if kind == "dict" and isinstance(content, dict):
            return {key: self._decode(value, depth + 1) for key, value in content.items()}
        try:
            return _CONSTANTS[kind](content)
        except (KeyError, TypeError):
            raise UserError(f"the constant {kind} {str(content)[:40]!r} is not allowed") from None


@dataclass(frozen=True)
class _Slice:
    parts: tuple[Any, ...]


def _call(op: str, target: str) -> Callable[..., Any]:
    if op == "call_function" and target == "getattr":
        return getattr
    if op == "call_function" and target in allowed.FUNCTIONS:
        return allowed.FUNCTIONS[target]
    if op == "call_method" and target in allowed.METHODS:
        return allowed.method(target)
    kind = {"call_function": "function", "call_method": "tensor method"}.get(op)
    if kind is None:
        raise UserError(f"{op} {target[:80]!r} is not allowed; a loss reads its inputs and calls functions only")
    raise UserError(f"the {kind} {target[:80]!r} is not on this server's list of what a custom loss may call")


def _attribute(args: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(args) != 2 or not isinstance(args[0], Ref) or args[1] not in allowed.ATTRIBUTES:
        shown = args[1] if len(args) > 1 else args
        raise UserError(f"the attribute {str(shown)[:40]!r} is not one of {', '.join(sorted(allowed.ATTRIBUTES))}")
    return args


def _fill(arg: Any, table: dict[str, Any]) -> Any:
    """`arg` with the values of earlier steps in their places."""
    if isinstance(arg, Ref):
        return table[arg.name]
    if isinstance(arg, _Slice):
        return slice(*(_fill(part, table) for part in arg.parts))
    if isinstance(arg, (list, tuple)):
        return type(arg)(_fill(one, table) for one in arg)
    if isinstance(arg, dict):
        return {key: _fill(value, table) for key, value in arg.items()}
    return arg


class _Budget:
    """The elements that the steps of one run may still make."""

    def __init__(self, elements: int) -> None:
        self._elements = self._left = elements

    def check(self, call: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Refuse a call before it is made, if its result would be too large or its computation too long."""
        flat = _flatten((args, kwargs))
        tensors = [one for one in flat if isinstance(one, Tensor)]
        makes = call in _MAKERS
        if not tensors and not makes:
            if call is not operator.getitem and call is not getattr:
                _check_numbers(call, args)
            return
        if call in _NUMBERS_ONLY:
            raise UserError("it works on plain numbers only; use the function of the same name in torch")
        if call in _PRODUCTS and not any(one.ndim <= 1 for one in tensors):
            raise UserError("products of two matrices are not allowed; one side must be a vector")
        if call is getattr:
            return
        with torch.no_grad(), torch.device("meta"):
            planned = {key: value for key, value in kwargs.items() if key != "device"}
            try:
                made = call(*_to_meta(args), **_to_meta(planned))
            except (NotImplementedError, RuntimeError):
                # what depends on the data takes a part of its inputs, and other errors are the call's own to make
                if makes or call in _GROW:
                    raise
                return
        if sum(one.numel() for one in _flatten(made) if isinstance(one, Tensor)) > self._left:
            raise self._spent()

    def count(self, made: Any) -> None:
        for one in _flatten(made):
            if isinstance(one, Tensor):
                self._left -= one.numel()
            elif isinstance(one, int) and abs(one) > MAX_INTEGER:
                raise UserError("a whole number grows too large")
        if self._left < 0:
            raise self._spent()

    def _spent(self) -> UserError:
        return UserError(f"the loss of this datum may make {self._elements} numbers in all; this would be more")


_MAKERS = frozenset(allowed.FUNCTIONS[f"torch.{name}"] for name in "arange full ones zeros tensor as_tensor".split())
_GROW = frozenset(
    [allowed.method(name) for name in "expand new_full new_ones new_zeros outer".split()]
    + [allowed.FUNCTIONS[f"torch.{name}"] for name in "outer broadcast_to full_like ones_like zeros_like".split()]
)
_NUMBERS_ONLY = frozenset(call for name, call in allowed.FUNCTIONS.items() if name.startswith("math."))
_PRODUCTS = frozenset([operator.matmul, torch.matmul, Tensor.matmul, torch.inner, Tensor.inner])


def _check_numbers(call: Callable[..., Any], args: Any) -> None:
    """Python's own arithmetic on plain numbers only: texts and lists could grow without end."""
    if not all(isinstance(one, (bool, int, float)) for one in args):
        raise UserError("it needs tensors or plain numbers")
    if call in (operator.pow, math.pow) and abs(args[1]) > 64:
        raise UserError("the exponent of a plain number must be at most 64")


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("meta")
    if isinstance(value, (list, tuple)):
        return [_to_meta(one) for one in value] if isinstance(value, list) else tuple(_to_meta(one) for one in value)
    if isinstance(value, dict):
        return {key: _to_meta(one) for key, one in value.items()}
    return torch.device("meta") if isinstance(value, torch.device) else value


def _flatten(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for one in value.values() for part in _flatten(one)]
    if isinstance(value, (list, tuple)):
        return [part for one in value for part in _flatten(one)]
    return [value]
