from __future__ import annotations

import numpy as np
import pytest

from edgeq.mobile import vectors
from edgeq.mobile.vectors import Case

CASE = Case(
    inputs=(np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.array([[-1, 2**40]], dtype=np.int64)),
    outputs=(np.array([7, 255], dtype=np.uint8), np.array(-3, dtype=np.int32)),
)


def test_what_is_written_is_read_again() -> None:
    (read,) = vectors.read(vectors.write([CASE]))
    for wrote, found in zip((*CASE.inputs, *CASE.outputs), (*read.inputs, *read.outputs), strict=True):
        assert found.dtype == wrote.dtype
        assert found.shape == wrote.shape
        assert found.tobytes() == wrote.tobytes()


def test_the_bytes_are_those_that_the_format_says() -> None:
    case = Case(inputs=(np.array([[1, 2]], dtype=np.uint8),), outputs=(np.array([1.0], dtype=np.float32),))
    numbers = (1, 1, 1, 1, 1, 2, 1, 2)  # version, cases, inputs, outputs, dtype, rank, axes
    expected = b"EDGEQVEC" + b"".join(one.to_bytes(4, "little") for one in numbers) + b"\x01\x02"
    expected += b"".join(one.to_bytes(4, "little") for one in (4, 1, 1)) + b"\x00\x00\x80\x3f"
    assert vectors.write([case]) == expected


def test_not_a_number_keeps_its_bits() -> None:
    odd = np.array([0x7FC12345, 0x80000000], dtype=np.uint32).view(np.float32)
    (read,) = vectors.read(vectors.write([Case(inputs=(odd,), outputs=())]))
    assert read.inputs[0].tobytes() == odd.tobytes()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"X" + data[1:], "not a file of test vectors"),
        (lambda data: data[:8] + b"\x02" + data[9:], "not a file of test vectors, version 1"),
        (lambda data: data[:-1], "cut off"),
        (lambda data: data[:20], "cut off"),
        (lambda data: data + b"\0", "goes on"),
        (lambda data: data[:24] + b"\x09" + data[25:], "unknown dtype 9"),
        (lambda _data: b"", "cut off"),
    ],
)
def test_a_damaged_file_is_refused(damage: object, said: str) -> None:
    assert callable(damage)
    with pytest.raises(ValueError, match=said):
        vectors.read(damage(vectors.write([CASE])))


def test_a_case_is_as_large_as_it_says() -> None:
    assert len(vectors.write([CASE, CASE])) == 16 + 2 * vectors.size_bytes(CASE)
