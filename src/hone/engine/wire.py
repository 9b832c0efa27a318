"""What crosses the socket between API process and engine: contract objects as msgpack, arrays as raw memory.

A frame is four bytes of length (little-endian) and one encoded message.
"""

import dataclasses
import struct
from typing import Any

import msgpack
import numpy as np

from hone import errors
from hone.engine import contract
from hone.protocol import types

_CLASSES: dict[str, type] = {
    cls.__name__: cls
    for module in (contract, types)
    for cls in vars(module).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls)
}
_ERRORS: dict[str, type[errors.HoneError]] = {
    cls.__name__: cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.HoneError)
}
LENGTH = struct.Struct("<I")

CLOSE, CANCEL = "close", "cancel"
STATS = "stats"
"""A message that is answered with the seconds spent computing."""

_BUFFER_BYTES, _HEAD_BYTES = 1 << 16, 1 << 7
"""To begin with. The library's own choice is a megabyte each time, which an engine short of memory does not find."""
_ARRAY = 1
_CLASS, _ERROR, _CONTENT = 0, 1, 2
"""Keys of the maps that stand for objects. They are numbers because the keys of a client's own maps are always text."""


def encode(message: Any) -> bytes:
    """Frozen dataclasses of the contract, its errors, arrays and plain values, nested in any way."""
    packed: bytes = msgpack.packb(message, default=_to_plain, use_bin_type=True, buf_size=_BUFFER_BYTES)
    return packed


def decode(data: bytes) -> Any:
    """The inverse of `encode`; sequences come back as tuples, arrays read-only."""
    return msgpack.unpackb(
        data, object_hook=_from_plain, ext_hook=_from_ext, use_list=False, raw=False, strict_map_key=False
    )


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        head = msgpack.packb([value.dtype.str, value.shape], buf_size=_HEAD_BYTES)
        return msgpack.ExtType(_ARRAY, bytes([len(head)]) + head + np.ascontiguousarray(value).tobytes())
    if dataclasses.is_dataclass(value):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return {_CLASS: type(value).__name__, _CONTENT: fields}
    if isinstance(value, errors.HoneError):
        return {_ERROR: type(value).__name__, _CONTENT: str(value)}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot cross to the engine")


def _from_plain(value: dict[Any, Any]) -> Any:
    if _CLASS in value:
        return _CLASSES[value[_CLASS]](*value[_CONTENT])
    if _ERROR in value:
        return _ERRORS[value[_ERROR]](value[_CONTENT])
    return value


def _from_ext(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown extension {code} from the engine's socket")
    dtype, shape = msgpack.unpackb(data[1 : 1 + data[0]])
    return np.frombuffer(data, dtype=np.dtype(dtype), offset=1 + data[0]).reshape(shape)
