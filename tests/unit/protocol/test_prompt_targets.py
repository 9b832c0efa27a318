from typing import Any

import numpy as np
import pytest

from hone.errors import UserError
from hone.protocol import codec
from hone.protocol.prompt_targets import read_targets
from hone.protocol.proto import tinker_public_pb2 as wire
from hone.protocol.requests import TensorData
from hone.protocol.types import SampleResult

DENSE: dict[str, Any] = {"data": [5, -1, 6, 7, -1, 8], "dtype": "int64", "shape": [3, 2]}
SPARSE: dict[str, Any] = {
    "data": [5, 6, 8],
    "dtype": "int64",
    "shape": [3, 2],
    "sparse_crow_indices": [0, 1, 1, 3],
    "sparse_col_indices": [0, 0, 1],
}


def test_cells_stand_in_their_rows() -> None:
    targets, _ = read_targets(TensorData(**DENSE), 4)
    assert targets.rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert targets.tokens.tolist() == [5, -1, 6, 7, -1, 8]
    targets, _ = read_targets(TensorData(**SPARSE), 4)
    assert targets.rows.tolist() == [0, 2, 2]
    assert targets.tokens.tolist() == [5, 6, 8]


@pytest.mark.parametrize("asked", [DENSE, SPARSE])
def test_scores_go_back_in_the_same_layout(asked: dict[str, Any]) -> None:
    targets, layout = read_targets(TensorData(**asked), 4)
    values = np.arange(len(targets.tokens), dtype=np.float32)
    content = codec.encode_sample(SampleResult((), target_prompt_logprobs=values), layout)
    tensor = wire.SampleResponse.FromString(content).target_prompt_logprobs
    assert list(tensor.shape) == [3, 2]
    assert tensor.dtype == wire.DTYPE_FLOAT32
    if "sparse_crow_indices" in asked:
        assert np.frombuffer(tensor.sparse_csr.values, np.float32).tolist() == values.tolist()
        assert np.frombuffer(tensor.sparse_csr.crow_indices, np.int64).tolist() == asked["sparse_crow_indices"]
        assert np.frombuffer(tensor.sparse_csr.col_indices, np.int64).tolist() == asked["sparse_col_indices"]
    else:
        assert np.frombuffer(tensor.dense, np.float32).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (DENSE | {"shape": None}, "shape"),
        (DENSE | {"shape": [6]}, "shape"),
        (DENSE | {"shape": [2, 3]}, "3 in all, found 2"),
        (DENSE | {"shape": [3, 3]}, "3 x 3 cells, found 6"),
        (DENSE | {"data": [-1] * 6}, "found -1 only"),
        (DENSE | {"shape": [3, 2000], "data": [1] * 6000}, "at most 1024 cells"),
        (SPARSE | {"sparse_crow_indices": [0, 2, 1, 3]}, "sparse_crow_indices"),
        (SPARSE | {"sparse_crow_indices": [0, 1, 3]}, "sparse_crow_indices"),
        (SPARSE | {"sparse_crow_indices": None}, "sparse_crow_indices"),
        (SPARSE | {"sparse_col_indices": [0, 0, 2]}, "sparse_col_indices"),
        (SPARSE | {"sparse_col_indices": [0, 0, -1]}, "sparse_col_indices"),
    ],
)
def test_what_is_wrong_is_named(asked: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        read_targets(TensorData(**asked), 4)
