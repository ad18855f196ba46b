"""Test vectors in a file that Kotlin and Swift read with nothing but their own arrays.

Everything is little-endian, and nothing is padded::

    file    "EDGEQVEC"  uint32 version (1)  uint32 cases  case...
    case    uint32 inputs  uint32 outputs  tensor...          the inputs, then the outputs
    tensor  uint32 dtype  uint32 rank  uint32 length of each axis...  values...

``dtype`` is 1 for uint8, 2 for int32, 3 for int64, 4 for float32; values lie
row by row, the last axis fastest. A file ends after its last case.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"EDGEQVEC"
VERSION = 1
DTYPES = {"uint8": 1, "int32": 2, "int64": 3, "float32": 4}
"""numpy's name of each dtype that a file can hold, and its number there."""

_NAMES = {code: name for name, code in DTYPES.items()}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Inputs, and the outputs that are expected of them: all, or the first ones."""

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]


def size_bytes(case: Case) -> int:
    """What a case takes in a file."""
    return len(_case(case))


def write(cases: Sequence[Case]) -> bytes:
    """The content of a file with these cases; KeyError for a dtype that is not in :data:`DTYPES`."""
    return MAGIC + struct.pack("<II", VERSION, len(cases)) + b"".join(map(_case, cases))


def read(data: bytes) -> tuple[Case, ...]:
    """The cases of a file; ValueError if it is none of this version, is cut off or goes on."""
    reader = _Reader(data)
    if reader.take(len(MAGIC)) != MAGIC or reader.number() != VERSION:
        raise ValueError(f"not a file of test vectors, version {VERSION}")
    cases = []
    for _ in range(reader.number()):
        inputs, outputs = reader.number(), reader.number()
        cases.append(
            Case(
                inputs=tuple(reader.tensor() for _ in range(inputs)),
                outputs=tuple(reader.tensor() for _ in range(outputs)),
            )
        )
    reader.end()
    return tuple(cases)


def _case(case: Case) -> bytes:
    tensors = (*case.inputs, *case.outputs)
    return struct.pack("<II", len(case.inputs), len(case.outputs)) + b"".join(map(_tensor, tensors))


def _tensor(array: np.ndarray) -> bytes:
    header = struct.pack(f"<{2 + array.ndim}I", DTYPES[array.dtype.name], array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("a file of test vectors is cut off")
        self._at += count
        return found

    def number(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def tensor(self) -> np.ndarray:
        code, rank = self.number(), self.number()
        if code not in _NAMES:
            raise ValueError(f"a file of test vectors holds a tensor of the unknown dtype {code}")
        shape = tuple(self.number() for _ in range(rank))
        dtype = np.dtype(_NAMES[code]).newbyteorder("<")
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self.take(count * dtype.itemsize), dtype).reshape(shape).astype(_NAMES[code])

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("a file of test vectors goes on behind its last case")
