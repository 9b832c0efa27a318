"""Functions are compiled once, in whichever threads they are needed first."""

import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hone.engine.compiled import compiled
from hone.engine.models import dense_layer
from hone.engine.sampling.step import dense_step

LARGE = [
    dense_step,
    dense_layer._before,
    dense_layer._after,
    dense_layer._before_backward,
    dense_layer._after_backward,
]
THREADS = 3
ROUNDS = 3


def doubled(x: Tensor) -> Tensor:
    return x + x


def copied(function: Any) -> Callable[..., Any]:
    """One that the compiler has not seen."""
    copy = types.FunctionType(function.__code__, function.__globals__)
    copy.__annotations__ = function.__annotations__
    return copy


def test_threads_that_compile_at_once_all_get_what_they_compile() -> None:
    """Though the compiler warns, and warnings are errors."""
    start, found = threading.Barrier(THREADS), list[object]()

    def compile_all(first: int) -> None:
        for _ in range(ROUNDS):
            start.wait()
            found.extend(compiled(copied(function)) for function in (*LARGE[first:], *LARGE[:first]))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=compile_all, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == THREADS * ROUNDS * len(LARGE)
    assert {type(function) for function in found} == {torch.jit.ScriptFunction}


def test_it_is_compiled_once() -> None:
    function = copied(doubled)
    assert compiled(function) is compiled(function)
    assert torch.equal(compiled(function)(torch.ones(3)), torch.full((3,), 2.0))
