"""Compiles every kernel for an H100, which needs no GPU, and prints a line for each.

A program of its own: where kernels are interpreted they cannot be compiled.
"""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hone.engine.backends.kernels import attention, matmul, norm

TARGET = GPUTarget("cuda", 90, 32)
POINTERS = {"sums_ptr": "fp32", "parts_ptr": "fp32", "folded_ptr": "fp32"}
INTEGERS = ("stops_ptr", "borders_ptr", "cached_ptr", "tables_ptr")
FLOATS = ("scale", "eps_sum")


def kind(name: str, dtype: str) -> str:
    if name in INTEGERS:
        return "*i32"
    if name.endswith("_ptr"):
        return f"*{POINTERS.get(name, dtype)}"
    return "fp32" if name in FLOATS else "i32"


def check(kernel: triton.JITFunction, dtype: str, **constants: object) -> None:
    """Numbers of 1 are constants too when a kernel is called."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kind(name, dtype) for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    print(kernel.fn.__name__, dtype, constants, len(triton.compile(source, target=TARGET).asm["cubin"]))


for dtype, precision in (("bf16", "tf32"), ("fp32", "ieee")):
    for ones in ({}, {"W": 1}):
        check(norm._forward, dtype, WIDTH=4096, **ones)
        check(norm._backward, dtype, WIDTH=4096, **ones)
    tiles = {"ROWS": matmul.ROWS, "COLUMNS": matmul.COLUMNS, "DEPTH": matmul.DEPTH, "PRECISION": precision}
    for ones in ({"w_column": 1}, {"w_row": 1}):
        check(matmul._product, dtype, **tiles, **ones)
    tiles = {"ROWS": attention.ROWS, "KEYS": attention.KEYS, "WIDTH": 128, "PRECISION": precision}
    for page, split in ((0, 0), (16, 0), (16, attention.SPLIT)):
        check(attention._attend, dtype, G=4, PAGE=page, SPLIT=split, **tiles)
    check(attention._put_together, dtype, SPLIT=attention.SPLIT, WIDTH=128)
