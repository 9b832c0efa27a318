"""The compiled C of this folder, and its structures; `hatch_build.py` compiles it once for each kind of processor."""

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch

from hone.engine.native.fingerprint import fingerprint

VARIANTS = {"AVX512": "x86_64_v4", "AVX2": "x86_64_v3"}
"""By what the framework calls the processor, whose vectors decide the order of some of its sums."""


class Matrix(Structure):
    _fields_ = (
        ("inputs", c_int),
        ("outputs", c_int),
        ("order", c_int),
        ("run", c_int),
        ("weight", c_void_p),
    )


class Layer(Structure):
    _fields_ = (
        ("attention_norm", c_void_p),
        ("qk_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("qkv", Matrix),
        ("o", Matrix),
        ("gate_up", Matrix),
        ("down", Matrix),
        ("entries", c_void_p),
    )


class Model(Structure):
    _fields_ = (
        ("hidden", c_int),
        ("heads", c_int),
        ("kv_heads", c_int),
        ("head_dim", c_int),
        ("intermediate", c_int),
        ("vocabulary", c_int),
        ("layers", c_int),
        ("eps_sum", c_float),
        ("head_eps_sum", c_float),
        ("scale", c_float),
        ("embedding", c_void_p),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("final_norm", c_void_p),
        ("layer", POINTER(Layer)),
        ("head", Matrix),
    )


MOST_SITES = 3


class Pair(Structure):
    _fields_ = (("sites", c_int), ("a", Matrix), ("b", Matrix * MOST_SITES))


class Span(Structure):
    _fields_ = (("start", c_int), ("stop", c_int), ("pairs", POINTER(Pair)))


class Rows(Structure):
    _fields_ = (
        ("count", c_int),
        ("spans", c_int),
        ("tokens", c_void_p),
        ("positions", c_void_p),
        ("slots", c_void_p),
        ("blocks", c_void_p),
        ("blocks_stride", c_int64),
        ("span", POINTER(Span)),
    )


FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "hone_source": (c_char_p, ()),
    "hone_step": (None, (POINTER(Model), POINTER(Rows), c_void_p, c_void_p)),
    "hone_hidden": (None, (POINTER(Model), POINTER(Rows), c_void_p, c_void_p)),
    "hone_scratch": (c_int64, (POINTER(Model), c_int, c_int)),
    "hone_product": (None, (POINTER(Matrix), c_void_p, c_int, c_int, c_void_p, c_int)),
    "hone_pack": (None, (c_void_p, c_int, c_int, c_int64, c_float, c_void_p)),
    "hone_draw": (None, (c_void_p, c_int64, c_int, c_int, *[c_void_p] * 6)),
    "hone_draw_scratch": (c_int64, (c_int,)),
}
"""Result and arguments; `step.c` says what they mean."""


@cache
def library() -> ctypes.CDLL | None:
    """None where it was not compiled, as on other processors, or from another source than what lies here."""
    variant = VARIANTS.get(torch.backends.cpu.get_cpu_capability())
    folder = Path(__file__).parent
    file = folder / f"step-{variant}.so"
    if not file.is_file():
        return None
    try:
        found = ctypes.CDLL(str(file))
    except OSError:  # built for another system
        return None
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(found, name, None)
        if function is None:
            return None
        function.restype, function.argtypes = result, arguments
    return found if found.hone_source().decode() == fingerprint(folder) else None
