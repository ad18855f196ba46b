"""The versions that an ONNX file states of itself, read without the onnx package and without its graph.

Sources: onnx.proto of ONNX (``ModelProto.ir_version`` is field 1,
``opset_import`` field 8; of ``OperatorSetIdProto`` ``domain`` is 1 and
``version`` 2); "Encoding" of the Protocol Buffers documentation.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IR_VERSION, _OPSET_IMPORT = 1, 8
_DOMAIN, _VERSION = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, kw_only=True)
class OnnxHeader:
    """``opsets`` maps a domain ("" is ONNX's own) to the version of it that the file uses."""

    ir_version: int
    opsets: dict[str, int]


def read_header(path: Path) -> OnnxHeader | None:
    """The header of the file, None if it is no ONNX file."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _header(data)
            except (IndexError, ValueError):
                return None


def _header(data: mmap.mmap) -> OnnxHeader | None:
    ir_version, opsets = 0, {}
    for field, value in _fields(data, 0, len(data)):
        if field == _IR_VERSION and isinstance(value, int):
            ir_version = value
        elif field == _OPSET_IMPORT and isinstance(value, slice):
            inner = dict(_fields(data, value.start, value.stop))
            domain, version = inner.get(_DOMAIN, slice(0, 0)), inner.get(_VERSION, 0)
            if isinstance(domain, slice) and isinstance(version, int):
                opsets[data[domain].decode("utf-8", "replace")] = version
    return OnnxHeader(ir_version=ir_version, opsets=opsets) if ir_version and opsets else None


def _fields(data: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int | slice]]:
    """Number and value of each field between two positions: an integer, or where its bytes are."""
    while position < end:
        key, position = _varint(data, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("no such kind of field")
        if position + size > end:
            raise ValueError("a field that is longer than the file")
        yield key >> 3, slice(position, position + size)
        position += size


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the position behind it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # the bit that says that more follow
            return value, position
    raise ValueError("a number that does not end")
