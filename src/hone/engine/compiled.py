"""Functions of tensors without Python between their operations, which costs more than the arithmetic when few rows are
decoded by a small model.

They are plain Python too, in the older names of types that the compiler knows: where the framework cannot compile them
any more, they run as they stand.
"""

import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])

_compiling = threading.Lock()
"""What silences the compiler is the whole process's, so two threads at once undo it for each other; where warnings are
errors, one of them would be left without its function."""


def compiled(function: F) -> F:
    """Compiled on first use; as it is where the framework no longer offers that."""
    return cast(F, _compiled(function))


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    with _compiling, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler says that it will go one day; then Python runs the function
        try:
            return cast(Callable[..., Any], torch.jit.script(function))
        except Exception:
            return function


def kept(values: list[Any]) -> list[Any]:
    """A list that compiled functions take as it is; any other is converted, item by item, in each call."""
    with _compiling, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found: list[Any] = torch.jit.script(values)
        except Exception:
            return values
    return found
