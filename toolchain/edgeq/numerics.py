"""Tensor quantization by hand, in numpy: what a scale and a zero point are, and what they cost.

An integer tensor ``q`` stands for the real numbers ``r = scale * (q -
zero_point)``: the affine scheme of Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR
2018), equation 1. Symmetric quantization is the case whose zero point is
the middle of the dtype, which for signed dtypes is 0.

>>> params = affine_params(*range_of(values))
>>> integers = quantize(values, params)
>>> rounding_error(values, dequantize(integers, params), params).sqnr_db

Everything is computed in float32 and rounded half to even, as the runtimes
do, and to the same bit: :func:`quantize` gives what
``torch.ops.quantized_decomposed.quantize_per_tensor`` and XNNPACK give, or
what ONNX's QuantizeLinear gives (see :data:`Division`). Real tensors are
float32 arrays of any shape; integers come as arrays of the dtype's own
numpy dtype, int4 as int8 with values from -8 to 7. NaN has no integer:
ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeq.stats import sqnr_db

IntegerDtype = Literal["int4", "int8", "uint8", "int16"]

Division = Literal["by reciprocal", "true"]
"""How a value is divided by its scale.

``by reciprocal`` multiplies with ``float32(1 / scale)``, as torch and
XNNPACK do; ``true`` divides, as ONNX Runtime does. They differ by one step
for the few values whose quotient lies within float32's rounding error of
the middle between two integers.
"""

FloatArray: TypeAlias = NDArray[np.float32]
IntegerArray: TypeAlias = NDArray[np.signedinteger] | NDArray[np.unsignedinteger]

LIMITS: dict[IntegerDtype, tuple[int, int]] = {
    "int4": (-8, 7),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
}
"""The smallest and the largest integer of each dtype."""

SMALLEST_SCALE = 2.0**-100
"""Scales are not made smaller than this: subnormal float32 numbers, which some runtimes refuse, are far below."""

_STORAGE: dict[IntegerDtype, type[np.integer]] = {
    "int4": np.int8,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
}
_SATURATING = np.errstate(over="ignore")
"""What is too large for float32 is infinity there, as in the runtimes, and takes the end of a range: no warning."""

_TO_UINT8 = 128
_HALF_A_STEP = 0.5 + 2.0**-10
"""With room for float32's own rounding."""


@dataclass(frozen=True, kw_only=True)
class QuantParams:
    """Scale and zero point of a tensor, or of each of its channels.

    Per tensor, ``scale`` and ``zero_point`` are numbers and ``axis`` is
    None. Per channel they are tuples with an entry for each index along
    ``axis``. Scales are rounded to float32, which is what the runtimes keep.

    Raises:
        ValueError: the dtype is none of these, a scale is not a positive
            float32 number, a zero point lies outside the dtype, or the two do
            not have the same length.
    """

    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...]
    dtype: IntegerDtype = "int8"
    axis: int | None = None

    def __post_init__(self) -> None:
        scales, zero_points = np.atleast_1d(np.asarray(self.scale, dtype=np.float32)), np.atleast_1d(self.zero_point)
        per_channel = self.axis is not None
        if per_channel != isinstance(self.scale, tuple) or per_channel != isinstance(self.zero_point, tuple):
            raise ValueError("an axis goes with tuples of scales and zero points, no axis with single numbers")
        if scales.shape != zero_points.shape or not scales.size:
            raise ValueError(f"{scales.size} scales and {zero_points.size} zero points")
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise ValueError(f"scale {self.scale} is not a positive float32 number")
        low, high = _limits_of(self.dtype)
        if ((zero_points < low) | (zero_points > high)).any():
            raise ValueError(f"zero point {self.zero_point} lies outside {self.dtype}")
        rounded = scales.tolist()
        object.__setattr__(self, "scale", tuple(rounded) if per_channel else rounded[0])

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return LIMITS[self.dtype]

    def scale_of(self, values: NDArray[np.generic]) -> FloatArray:
        """The scales as float32, in a shape that multiplies ``values``."""
        return np.asarray(self.scale, dtype=np.float32).reshape(self._shape(values))

    def zero_point_of(self, values: NDArray[np.generic]) -> NDArray[np.int32]:
        """The zero points as int32, in a shape that is added to ``values``."""
        return np.asarray(self.zero_point, dtype=np.int32).reshape(self._shape(values))

    def _shape(self, values: NDArray[np.generic]) -> tuple[int, ...]:
        """Ones, but for the number of channels on the axis that has them."""
        if self.axis is None:
            return ()
        channels = np.size(self.scale)
        if not -values.ndim <= self.axis < values.ndim or values.shape[self.axis] != channels:
            raise ValueError(f"{channels} channels along axis {self.axis} do not fit the shape {values.shape}")
        shape = [1] * values.ndim
        shape[self.axis] = channels
        return tuple(shape)


@dataclass(frozen=True, kw_only=True)
class RoundingError:
    """What a round trip through integers cost.

    ``sqnr_db`` is signal over noise power in decibels (:func:`edgeq.stats.sqnr_db`),
    ``largest`` the largest absolute error, ``largest_in_steps`` the same in
    units of the scale. ``saturated`` is the share of values that are off by
    more than half a step, as they lie beyond the range. ``mean`` is the
    mean error (restored minus original): a shift that the next layer sums
    up.
    """

    sqnr_db: float
    largest: float
    largest_in_steps: float
    mean: float
    saturated: float


def range_of(values: ArrayLike, *, axis: int | None = None) -> tuple[ArrayLike, ArrayLike]:
    """The smallest and the largest value, over all or for each index along ``axis``.

    ValueError for an empty tensor, NaN or infinity.
    """
    array = _real(values)
    if array.size == 0:
        raise ValueError("an empty tensor has no range")
    if not np.isfinite(array).all():
        raise ValueError("an infinite value has no range")
    if axis is None:
        return float(array.min()), float(array.max())
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return rows.min(axis=1), rows.max(axis=1)


def affine_params(
    low: ArrayLike, high: ArrayLike, *, dtype: IntegerDtype = "int8", axis: int | None = None
) -> QuantParams:
    """Scale and zero point that spend every integer on ``low`` to ``high``.

    The range is widened to hold 0, so that 0 is exact (zero padding, relu)::

        scale      = (high - low) / (largest - smallest integer)
        zero_point = smallest integer - round(low / scale)

    With an ``axis``, ``low`` and ``high`` are (channels,). A range of
    nothing but 0 takes 0 to 1. ValueError if ``low`` is above ``high`` or
    an end is not finite.
    """
    lows, highs = _ends(low, high)
    smallest, largest = _limits_of(dtype)
    wanted = np.maximum((highs - lows) / (largest - smallest), SMALLEST_SCALE)
    scales = np.asarray(wanted, dtype=np.float32).astype(np.float64)
    zero_points = np.clip(smallest - np.rint(lows / scales), smallest, largest)
    return _params(scales, zero_points, dtype, axis)


def symmetric_params(
    low: ArrayLike, high: ArrayLike, *, dtype: IntegerDtype = "int8", axis: int | None = None
) -> QuantParams:
    """The scale for a range that reaches as far below 0 as above it; the zero point is the middle of the dtype.

    ``scale = max(|low|, |high|) / 127`` for int8, 7 for int4, 32767 for
    int16; uint8 has zero point 128. Weights are quantized so: the products
    of a layer then need no correction for their zero point.
    """
    lows, highs = _ends(low, high)
    largest = _limits_of(dtype)[1] - _middle(dtype)
    scales = np.asarray(np.maximum(np.maximum(-lows, highs) / largest, SMALLEST_SCALE))
    return _params(scales, np.full_like(scales, _middle(dtype)), dtype, axis)


@_SATURATING
def quantize(values: ArrayLike, params: QuantParams, *, division: Division = "by reciprocal") -> IntegerArray:
    """``clip(round(values / scale) + zero_point)``: the integer nearest to each value, of even ones where two are.

    What lies beyond the range, infinity too, takes its nearest end.
    ValueError for NaN.
    """
    array = _real(values)
    scale = params.scale_of(array)
    factor = np.float32(1.0 / scale.astype(np.float64))
    steps = array / scale if division == "true" else array * factor
    shifted = np.rint(steps) + params.zero_point_of(array).astype(np.float32)
    integers: IntegerArray = np.clip(shifted, *params.limits).astype(_STORAGE[params.dtype])
    return integers


@_SATURATING
def dequantize(integers: ArrayLike, params: QuantParams) -> FloatArray:
    """``(integers - zero_point) * scale``, float32, in the shape of ``integers``."""
    array = np.asarray(integers)
    _check_integers(array, params)
    steps = array.astype(np.int32) - params.zero_point_of(array)
    real: FloatArray = steps.astype(np.float32) * params.scale_of(array)
    return real


def round_trip(values: ArrayLike, params: QuantParams) -> FloatArray:
    """``values`` as their integers stand for them; a second round trip changes nothing."""
    return dequantize(quantize(values, params), params)


def rounding_error(values: ArrayLike, restored: ArrayLike, params: QuantParams) -> RoundingError:
    """What ``restored`` is away from ``values``; ValueError if they are empty or of different shapes."""
    before, after = _real(values), _real(restored)
    noise = sqnr_db(before, after)
    difference = after.astype(np.float64) - before
    steps = np.abs(difference) / params.scale_of(before)
    return RoundingError(
        sqnr_db=noise,
        largest=float(np.abs(difference).max()),
        largest_in_steps=float(steps.max()),
        mean=float(difference.mean()),
        saturated=float((steps > _HALF_A_STEP).mean()),
    )


def as_uint8(integers: ArrayLike, params: QuantParams) -> tuple[NDArray[np.uint8], QuantParams]:
    """The same real tensor in uint8: every int8 and its zero point 128 higher.

    Exact: ``scale * ((q + 128) - (zero_point + 128))`` is the same number.
    ONNX Runtime's kernels want uint8 activations on x86 and int8 ones on
    ARM. ValueError if ``params`` are not int8's.
    """
    array = _of_dtype(integers, params, "int8")
    return (array.astype(np.int16) + _TO_UINT8).astype(np.uint8), _shifted(params, _TO_UINT8, "uint8")


def as_int8(integers: ArrayLike, params: QuantParams) -> tuple[NDArray[np.int8], QuantParams]:
    """The same real tensor in int8: the way back from :func:`as_uint8`. ValueError if ``params`` are not uint8's."""
    array = _of_dtype(integers, params, "uint8")
    return (array.astype(np.int16) - _TO_UINT8).astype(np.int8), _shifted(params, -_TO_UINT8, "int8")


def quantize_bias(bias: ArrayLike, input_scale: float, weight_scale: ArrayLike) -> NDArray[np.int32]:
    """A layer's bias as int32 in the unit of its products, ``input_scale * weight_scale`` (Jacob et al., section 2.4).

    ``weight_scale`` is a number or one for each output channel. It then
    adds up with the products ``(q_input - zero_point) * q_weight`` in int32.
    ValueError if it does not fit into int32.
    """
    unit = np.float32(input_scale) * np.asarray(weight_scale, dtype=np.float32)
    steps = np.rint(_real(bias).astype(np.float64) / unit)
    if np.abs(steps).max(initial=0) > np.iinfo(np.int32).max:
        raise ValueError("the bias does not fit into int32: the input's or the weight's scale is too small for it")
    whole: NDArray[np.int32] = steps.astype(np.int32)
    return whole


@_SATURATING
def requantize(
    accumulator: ArrayLike, input_scale: float, weight_scale: ArrayLike, output: QuantParams
) -> IntegerArray:
    """Bring a layer's int32 sum of products to the scale of its output.

    ``clip(round(accumulator * (input_scale * weight_scale / output_scale)) + zero_point)``
    with the factor and the product in float32, as XNNPACK and ONNX Runtime
    compute it. (Jacob et al., section 2.2, use a fixed-point multiplier
    instead.) ``accumulator`` has its output channels on the last axis,
    ``weight_scale`` is a number or (channels,); ``output`` is per tensor.
    """
    sums = np.asarray(accumulator)
    if sums.dtype != np.int32:
        raise ValueError(f"an accumulator is int32, not {sums.dtype}")
    if output.axis is not None:
        raise ValueError("the output of a layer has one scale")
    products = np.float32(input_scale) * np.asarray(weight_scale, dtype=np.float32)
    factor = np.asarray(products / output.scale_of(sums), dtype=np.float32)
    steps = np.rint(sums.astype(np.float32) * factor) + output.zero_point_of(sums).astype(np.float32)
    integers: IntegerArray = np.clip(steps, *output.limits).astype(_STORAGE[output.dtype])
    return integers


def _limits_of(dtype: str) -> tuple[int, int]:
    """The smallest and the largest integer of a dtype; ValueError with those known if it is none of them."""
    for name, limits in LIMITS.items():
        if name == dtype:
            return limits
    raise ValueError(f"{dtype!r} is no integer dtype of quantized tensors; known: {', '.join(LIMITS)}")


@_SATURATING
def _real(values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float32)
    if np.isnan(array).any():
        raise ValueError("NaN has no place in a quantized tensor")
    return array


def _ends(low: ArrayLike, high: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends with 0 between them; (0, 1) for (0, 0)."""
    lows, highs = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise ValueError("the ends of a range are finite numbers")
    if (lows > highs).any():
        raise ValueError("the low end of a range lies above its high end")
    lows, highs = np.minimum(lows, 0.0), np.maximum(highs, 0.0)
    return lows, np.where((lows == 0) & (highs == 0), 1.0, highs)


def _params(
    scales: NDArray[np.float64], zero_points: NDArray[np.float64], dtype: IntegerDtype, axis: int | None
) -> QuantParams:
    if axis is None:
        if scales.ndim:
            raise ValueError("ranges of several channels need the axis that the channels lie on")
        return QuantParams(scale=float(scales), zero_point=int(zero_points), dtype=dtype)
    return QuantParams(
        scale=tuple(np.atleast_1d(scales).tolist()),
        zero_point=tuple(int(point) for point in np.atleast_1d(zero_points)),
        dtype=dtype,
        axis=axis,
    )


def _middle(dtype: IntegerDtype) -> int:
    return _TO_UINT8 if dtype == "uint8" else 0


def _shifted(params: QuantParams, by: int, dtype: IntegerDtype) -> QuantParams:
    points = params.zero_point
    moved = tuple(point + by for point in points) if isinstance(points, Iterable) else points + by
    return QuantParams(scale=params.scale, zero_point=moved, dtype=dtype, axis=params.axis)


def _check_integers(array: NDArray[np.generic], params: QuantParams) -> None:
    if array.dtype.kind not in "iu":
        raise ValueError(f"integers are expected, not {array.dtype}")
    low, high = params.limits
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        raise ValueError(f"integers from {array.min()} to {array.max()} are no {params.dtype}")


def _of_dtype(integers: ArrayLike, params: QuantParams, dtype: IntegerDtype) -> NDArray[np.generic]:
    if params.dtype != dtype:
        raise ValueError(f"these are parameters of {params.dtype}, not of {dtype}")
    array = np.asarray(integers)
    _check_integers(array, params)
    return array
