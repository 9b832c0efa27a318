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


class Shape(Structure):
    _fields_ = (
        ("hidden", c_int),
        ("heads", c_int),
        ("kv_heads", c_int),
        ("head_dim", c_int),
        ("intermediate", c_int),
        ("has_qk_norm", c_int),
        ("eps_sum", c_float),
        ("head_eps_sum", c_float),
        ("scale", c_float),
    )


class Projection(Structure):
    _fields_ = (("packed", Matrix), ("weight", c_void_p))


class FrozenLayer(Structure):
    _fields_ = (
        ("index", c_int),
        ("attention_norm", c_void_p),
        ("qk_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("projection", Projection * 4),
    )


class Place(Structure):
    _fields_ = (("sites", c_int), ("order", c_int), ("a", c_int64), ("b", c_int64 * MOST_SITES))


class Part(Structure):
    _fields_ = (
        ("start", c_int),
        ("stop", c_int),
        ("rank", c_int),
        ("scale", c_float),
        ("weights", c_void_p),
        ("gradient", c_void_p),
        ("places", POINTER(Place)),
        ("inner", c_int64),
        ("packed", c_int64),
    )


class Batch(Structure):
    _fields_ = (
        ("rows", c_int),
        ("sequences", c_int),
        ("parts", c_int),
        ("starts", c_void_p),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("part", POINTER(Part)),
        ("inner", c_int64),
        ("packed", c_int64),
    )


class LayerPass(Structure):
    _fields_ = (
        ("shape", POINTER(Shape)),
        ("layer", POINTER(FrozenLayer)),
        ("batch", POINTER(Batch)),
        ("x", c_void_p),
        ("out", c_void_p),
        ("dout", c_void_p),
        ("dx", c_void_p),
        ("saved", c_void_p),
        ("packed", c_void_p),
        ("work", c_void_p),
    )


class Sizes(Structure):
    _fields_ = (("saved", c_int64), ("packed", c_int64), ("work", c_int64), ("scratch", c_int64))


class HeadPart(Structure):
    _fields_ = (
        ("rank", c_int),
        ("order", c_int),
        ("scale", c_float),
        ("a", c_void_p),
        ("b", c_void_p),
        ("da", c_void_p),
        ("db", c_void_p),
    )


class HeadPass(Structure):
    _fields_ = (
        ("rows", c_int),
        ("hidden", c_int),
        ("vocabulary", c_int),
        ("targets", c_int),
        ("projection", Projection),
        ("part", HeadPart),
        ("x", c_void_p),
        ("goals", c_void_p),
        ("logprobs", c_void_p),
        ("dlogprobs", c_void_p),
        ("dx", c_void_p),
        ("logits", c_void_p),
        ("inner", c_void_p),
        ("dinner", c_void_p),
        ("packed", c_void_p),
        ("kept", c_int),
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
    "hone_layer_sizes": (None, (POINTER(Shape), POINTER(Batch), POINTER(Sizes))),
    "hone_head": (None, (POINTER(HeadPass), c_int, c_int, c_int, c_void_p)),
    "hone_head_packed": (c_int64, (c_int, c_int, c_int)),
    "hone_layer": (None, (POINTER(LayerPass), c_int, c_int, c_int, c_void_p)),
}
"""Result and arguments; `step.c`, `layer.c` and `head.c` say what they mean."""


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
