"""Which tokens a client wants scored in the place of its prompt's tokens: a dense or CSR tensor, to cells and back.

Shape legend: P tokens of the prompt, K columns.
"""

from dataclasses import dataclass

import numpy as np

from hone.errors import UserError
from hone.protocol.requests import TensorData
from hone.protocol.types import PromptTargets

MAX_WIDTH = 1024
"""Cells per prompt position, on average: as many as a top-k may have."""


@dataclass(frozen=True)
class Csr:
    crow_indices: np.ndarray
    col_indices: np.ndarray


@dataclass(frozen=True)
class Layout:
    """How the client laid its cells out, and wants their scores laid out."""

    shape: tuple[int, int]
    csr: Csr | None


def read_targets(tensor: TensorData, prompt_length: int) -> tuple[PromptTargets, Layout]:
    """The cells of an int64 tensor [P - 1, K], or a `UserError` that says what is wrong with it."""
    shape = tensor.shape
    if shape is None or len(shape) != 2:
        raise _wrong(f"a shape [P - 1, K], found {shape}")
    rows, columns = shape
    if rows != prompt_length - 1:
        raise _wrong(f"one row for each prompt token after the first, {prompt_length - 1} in all, found {rows}")
    tokens = np.asarray(tensor.data, np.int64)
    csr = None
    if tensor.sparse_crow_indices is None and tensor.sparse_col_indices is None:
        if len(tokens) != rows * columns:
            raise _wrong(f"{rows} x {columns} cells, found {len(tokens)}")
        where = np.repeat(np.arange(rows), columns)
    else:
        csr = _csr(tensor, rows, columns, len(tokens))
        where = np.repeat(np.arange(rows), np.diff(csr.crow_indices))
    if len(tokens) > MAX_WIDTH * rows:
        raise _wrong(f"at most {MAX_WIDTH} cells per row on average, found {len(tokens)} in {rows} rows")
    if not (tokens >= 0).any():
        raise _wrong("at least one token to score; found -1 only")
    return PromptTargets(where.astype(np.int64), tokens), Layout((rows, columns), csr)


def _csr(tensor: TensorData, rows: int, columns: int, cells: int) -> Csr:
    crow = np.asarray(tensor.sparse_crow_indices or [], np.int64)
    cols = np.asarray(tensor.sparse_col_indices or [], np.int64)
    if len(crow) != rows + 1 or crow[0] != 0 or crow[-1] != cells or (np.diff(crow) < 0).any():
        raise _wrong(f"sparse_crow_indices that rise from 0 to {cells} in {rows + 1} steps")
    if len(cols) != cells or (cells and (cols.min() < 0 or cols.max() >= columns)):
        raise _wrong(f"sparse_col_indices of {cells} numbers in 0..{columns - 1}")
    return Csr(crow, cols)


def _wrong(wanted: str) -> UserError:
    return UserError(f"target_prompt_logprobs needs {wanted}")
