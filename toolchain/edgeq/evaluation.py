"""The evaluation set as a build keeps it: .npy files that a device command maps instead of loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from edgeq.errors import ConfigError
from edgeq.files import atomic_file, disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from edgeq.records import EvaluationData, Manifest

UNLABELLED = -1
"""What stands in labels.npy for a sample without a label."""


def spread(labels: np.ndarray | None, available: int) -> np.ndarray:
    """Every index of a set in an order of which any beginning stands for the whole.

    Labelled samples come first, as they tell the accuracy. Within each kind
    the order is that of bit-reversed numbers (van der Corput's sequence), so
    that a beginning is spread evenly over a set that is sorted by class.
    """
    everything = np.arange(available)
    labelled = np.zeros(available, dtype=bool) if labels is None else np.asarray(labels[:available]) != UNLABELLED
    return np.concatenate([kind[_bit_reversed(len(kind))] for kind in (everything[labelled], everything[~labelled])])


def subset(labels: np.ndarray | None, available: int, count: int) -> np.ndarray:
    """The samples that a device runs which runs ``count`` of them: the beginning of :func:`spread`, ascending.

    The same numbers always give the same samples, so rows can be paired.
    """
    return np.sort(spread(labels, available)[:count])


def _bit_reversed(count: int) -> np.ndarray:
    """The numbers below ``count``, ordered by their bits read backwards."""
    bits = max(count - 1, 0).bit_length()
    numbers = np.arange(1 << bits)
    backwards = np.zeros_like(numbers)
    for bit in range(bits):
        backwards = (backwards << 1) | ((numbers >> bit) & 1)
    return backwards[backwards < count]


class GrowingArray:
    """An .npy file that takes one row after the other, so that no data set is ever held in memory.

    The shape in its header counts rows only once the block ends; a block
    that raises leaves no file.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: str) -> None:
        self._path = path
        self._row_shape = row_shape
        self._dtype = np.dtype(dtype)
        self._rows = 0
        self._context = atomic_file(path)
        self._file: BinaryIO

    def __enter__(self) -> Self:
        self._file = self._context.__enter__()
        self._write_header()
        return self

    def append(self, row: np.ndarray) -> None:
        """Add one row of the stated shape, converted to the stated dtype."""
        if row.shape != self._row_shape:
            raise ValueError(f"a row of shape {row.shape} does not fit {self._row_shape} in {self._path}")
        with disk_errors(self._path):
            self._file.write(np.ascontiguousarray(row, dtype=self._dtype).tobytes())
        self._rows += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._file.seek(0)
            self._write_header()
        self._context.__exit__(kind, error, trace)

    def _write_header(self) -> None:
        # numpy pads a header so that the first dimension can grow in place: both writes have one length.
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class EvaluationSet:
    """The samples of a build, read one by one from its memory-mapped files."""

    def __init__(self, build: Path, data: EvaluationData) -> None:
        self._build = build
        self.samples = data.samples
        self.inputs = tuple(self._mapped(name) for name in data.inputs)
        self.labels = self._mapped(data.labels) if data.labels else None
        self._host_outputs = data.host_outputs

    @classmethod
    def of(cls, build: Path, manifest: Manifest) -> EvaluationSet:
        """The evaluation set of the build in that folder."""
        return cls(build, manifest.evaluation)

    def sample(self, index: int) -> tuple[np.ndarray, ...]:
        """The inputs of one sample, each with its batch dimension of one."""
        return tuple(array[index : index + 1] for array in self.inputs)

    def spread(self) -> np.ndarray:
        """Every index, in the order to run them when time may be short; see :func:`spread`."""
        return spread(self.labels, self.samples)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Every sample in order."""
        return (self.sample(index) for index in range(self.samples))

    def host_outputs(self, artifact: str) -> np.ndarray:
        """What the artifact gave on the build machine: (samples, ...), float32."""
        if artifact not in self._host_outputs:
            raise ConfigError(
                f"the manifest of {self._build} names no outputs of {artifact}",
                hint="the build is damaged; run edgeq build again",
            )
        return self._mapped(self._host_outputs[artifact])

    def _mapped(self, name: str) -> np.ndarray:
        path = self._build / name
        try:
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(
                f"{path} cannot be read: {error}", hint="the build is damaged; run edgeq build again"
            ) from error
        if len(array) != self.samples:
            raise ConfigError(
                f"{path} holds {len(array)} samples where the manifest says {self.samples}",
                hint="the build is damaged; run edgeq build again",
            )
        return array
