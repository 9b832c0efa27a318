"""Triton kernels, each with its tiles fixed: what a row gets does not depend on how many rows there are.

They compile on a GPU when they are first called; with TRITON_INTERPRET=1 they run on a CPU, slowly, which is how tests
compare them with the framework's operations.
"""

import os
from functools import cache
from importlib.util import find_spec

from torch import Tensor


def kernels_serve(x: Tensor) -> bool:
    """Whether the kernels can work on `x` where it lies."""
    return _present() and (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")


@cache
def _present() -> bool:
    return find_spec("triton") is not None
