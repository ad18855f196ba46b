"""Pixels as a camera or a decoder gives them: uint8, and what they stand for in a model that computes on floats.

A project's data functions give what its model takes: normalised float32. With ``folded = true`` under
``[preprocess]`` its artifacts take the bytes instead, so those have to be found again: (value x std + mean), which is a
whole number from 0 to 255 where the value was made from a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeq.errors import NotBytesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Layout = Literal["NCHW", "NHWC"]

_TOLERANCE = 1 / 64
"""How far from a whole number a byte may come back: float32 arithmetic on bytes stays below a thousandth."""

_HIGHEST = 255


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The bytes of one image, and the normalisation that makes them the model's input.

    ``model_shape`` is that input's, (1, channels, height, width); ``layout``
    is how the bytes lie. ``mean`` and ``std`` have one number for each
    channel: a byte stands for (byte - mean) / std.
    """

    layout: Layout
    model_shape: tuple[int, int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the bytes, with a batch dimension of one."""
        batch, channels, height, width = self.model_shape
        return self.model_shape if self.layout == "NCHW" else (batch, height, width, channels)

    @property
    def one_step(self) -> tuple[float, int] | None:
        """A scale and a whole zero point that say the same as mean and std; None where no such pair does."""
        mean, std = self.mean[0], self.std[0]
        alike = len(set(self.mean)) == len(set(self.std)) == 1
        return (_float32(1 / std), int(mean)) if alike and mean.is_integer() and 0 <= mean <= _HIGHEST else None

    def to_bytes(self, image: NDArray[np.float32], *, where: str, index: int) -> NDArray[np.uint8]:
        """The bytes that sample ``index`` of ``where`` was made from, in their layout; NotBytesError if from none."""
        mean, std = (np.asarray(values).reshape(1, -1, 1, 1) for values in (self.mean, self.std))
        found = image.astype(np.float64) * std + mean
        whole = np.clip(np.rint(found), 0, _HIGHEST)
        wrong = np.abs(found - whole)
        if wrong.max(initial=0) > _TOLERANCE:
            place = np.unravel_index(int(wrong.argmax()), wrong.shape)
            raise NotBytesError(where, index, float(image[place]), float(found[place]), channel=int(place[1]))
        data: NDArray[np.uint8] = whole.astype(np.uint8)
        return data if self.layout == "NCHW" else np.ascontiguousarray(data.transpose(0, 2, 3, 1))


def _float32(value: float) -> float:
    return float(np.float32(value))
