from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.numerics import (
    LIMITS,
    Division,
    QuantParams,
    affine_params,
    as_int8,
    as_uint8,
    dequantize,
    quantize,
    quantize_bias,
    range_of,
    requantize,
    round_trip,
    rounding_error,
    symmetric_params,
)

DTYPES = tuple(LIMITS)


def _values(seed: int, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    offset, size = generator.normal(), 10.0 ** generator.uniform(-6, 6)
    return (size * (generator.normal(size=shape) + offset)).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(8))
def test_a_round_trip_is_off_by_half_a_step_at_most_and_a_second_one_changes_nothing(dtype: str, seed: int) -> None:
    values = _values(seed, 5, 40)
    for choose in (affine_params, symmetric_params):
        params = choose(*range_of(values), dtype=dtype)
        restored = round_trip(values, params)
        found = rounding_error(values, restored, params)
        assert found.largest_in_steps <= 0.5 * (1 + 1e-3)
        assert found.saturated == 0
        assert found.largest == pytest.approx(found.largest_in_steps * params.scale)
        np.testing.assert_array_equal(round_trip(restored, params), restored)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(8))
def test_zero_is_exact_and_every_integer_is_in_its_dtype(dtype: str, seed: int) -> None:
    values = _values(seed, 100)
    for choose in (affine_params, symmetric_params):
        params = choose(*range_of(values), dtype=dtype)
        assert dequantize(quantize(np.zeros(3), params), params).tolist() == [0.0, 0.0, 0.0]
        integers = quantize(values * 10, params)
        low, high = LIMITS[params.dtype]
        assert low <= integers.min() <= integers.max() <= high
        assert integers.dtype == ("int8" if dtype == "int4" else dtype)


@pytest.mark.parametrize("seed", range(4))
def test_more_bits_and_a_scale_for_each_channel_never_hurt(seed: int) -> None:
    values = _values(seed, 6, 50) * np.logspace(0, -3, 6).reshape(-1, 1).astype(np.float32)
    decibels = []
    for dtype in ("int4", "int8", "int16"):
        whole = symmetric_params(*range_of(values), dtype=dtype)
        channels = symmetric_params(*range_of(values, axis=0), dtype=dtype, axis=0)
        decibels += [rounding_error(values, round_trip(values, params), params).sqnr_db for params in (whole, channels)]
    assert decibels == sorted(decibels)


def test_each_bit_is_worth_six_decibels() -> None:
    values = np.linspace(-1, 1, 100_001, dtype=np.float32)
    found = {
        dtype: rounding_error(values, round_trip(values, params), params).sqnr_db
        for dtype in ("int4", "int8", "int16")
        if (params := affine_params(-1, 1, dtype=dtype))
    }
    assert found["int8"] - found["int4"] == pytest.approx(24, abs=1)
    assert found["int16"] - found["int8"] == pytest.approx(48, abs=1)


def test_rounding_is_half_to_even() -> None:
    params = QuantParams(scale=1.0, zero_point=0)
    assert quantize([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], params).tolist() == [-2, -2, 0, 0, 2, 2]
    assert quantize([0.5, 1.5], QuantParams(scale=1.0, zero_point=1)).tolist() == [1, 3]


def test_what_lies_beyond_the_range_saturates_infinity_too() -> None:
    params = affine_params(-1, 1)
    assert quantize([-5.0, 5.0, math.inf, -math.inf], params).tolist() == [-128, 127, 127, -128]
    values = np.float32([0.0, 0.5, 3.0, -4.0])
    assert rounding_error(values, round_trip(values, params), params).saturated == 0.5


@pytest.mark.parametrize(
    ("low", "high", "zero_point"),
    [(2.0, 6.0, -128), (-6.0, -2.0, 127), (0.0, 6.0, -128), (-1.0, 1.0, 0), (0.0, 0.0, -128)],
)
def test_a_range_is_widened_to_hold_zero(low: float, high: float, zero_point: int) -> None:
    params = affine_params(low, high)
    assert params.zero_point == pytest.approx(zero_point, abs=1)
    assert params.scale == pytest.approx((max(high, 0) - min(low, 0) or 1) / 255)


@pytest.mark.parametrize("value", [0.0, 3.25, -7.5, 1e-30, 3e38])
def test_a_constant_tensor_survives(value: float) -> None:
    values = np.full((2, 3), value, dtype=np.float32)
    for choose in (affine_params, symmetric_params):
        params = choose(*range_of(values))
        np.testing.assert_allclose(round_trip(values, params), values, rtol=1e-6, atol=1e-28)


def test_channels_are_quantized_one_by_one_along_any_axis() -> None:
    values = _values(1, 4, 3, 5)
    for axis in (0, 1, 2, -1):
        params = affine_params(*range_of(values, axis=axis), axis=axis)
        assert isinstance(params.scale, tuple)
        whole = quantize(values, params)
        for index, (scale, zero_point) in enumerate(zip(params.scale, params.zero_point, strict=True)):
            one = QuantParams(scale=scale, zero_point=zero_point)
            np.testing.assert_array_equal(
                np.take(whole, index, axis=axis), quantize(np.take(values, index, axis=axis), one)
            )


def test_uint8_is_int8_moved_by_128_and_stands_for_the_same_numbers() -> None:
    values = _values(3, 200)
    params = affine_params(*range_of(values))
    integers = quantize(values, params)
    moved, moved_params = as_uint8(integers, params)
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved.astype(int) - 128, integers)
    np.testing.assert_array_equal(dequantize(moved, moved_params), dequantize(integers, params))
    np.testing.assert_array_equal(quantize(values, moved_params), moved)
    back, back_params = as_int8(moved, moved_params)
    np.testing.assert_array_equal(back, integers)
    assert back_params == params
    channels = affine_params([0.0, -1.0], [1.0, 0.0], axis=0)
    assert as_uint8(np.zeros((2, 1), np.int8), channels)[1].zero_point == (0, 255)


def test_a_layer_in_integers_is_the_layer_in_float() -> None:
    inputs, weight, bias = _values(0, 7, 16) / 1e3, _values(5, 16, 4), _values(6, 4)
    inputs, weight, bias = (array / np.abs(array).max() for array in (inputs, weight, bias))
    exact = inputs @ weight + bias
    read = affine_params(*range_of(inputs))
    held = symmetric_params(*range_of(weight, axis=1), axis=1)
    stored = affine_params(*range_of(exact))
    integers = quantize(inputs, read).astype(np.int32) - read.zero_point
    sums = integers @ quantize(weight, held).astype(np.int32) + quantize_bias(bias, read.scale, held.scale)
    result = requantize(sums, read.scale, held.scale, stored)
    simulated = quantize(round_trip(inputs, read) @ round_trip(weight, held) + bias, stored)
    assert np.abs(result.astype(int) - simulated.astype(int)).max() <= 1
    assert rounding_error(exact, dequantize(result, stored), stored).sqnr_db > 30


def test_scales_are_the_float32_numbers_that_runtimes_keep() -> None:
    assert QuantParams(scale=0.1, zero_point=0).scale == float(np.float32(0.1))
    assert affine_params(0, 1e-45).scale > 1e-31


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: quantize([math.nan], affine_params(0, 1)),
        lambda: range_of([]),
        lambda: range_of([1.0, math.nan]),
        lambda: range_of([1.0, math.inf]),
        lambda: affine_params(1.0, -1.0),
        lambda: affine_params(math.nan, 1.0),
        lambda: affine_params(0.0, math.inf),
        lambda: affine_params([0.0, 1.0], [1.0, 2.0]),
        lambda: QuantParams(scale=0.0, zero_point=0),
        lambda: QuantParams(scale=-1.0, zero_point=0),
        lambda: QuantParams(scale=math.inf, zero_point=0),
        lambda: QuantParams(scale=1.0, zero_point=128),
        lambda: QuantParams(scale=1.0, zero_point=-1, dtype="uint8"),
        lambda: QuantParams(scale=(1.0, 2.0), zero_point=(0,), axis=0),
        lambda: QuantParams(scale=(1.0,), zero_point=(0,)),
        lambda: QuantParams(scale=1.0, zero_point=0, axis=0),
        lambda: quantize(np.zeros((2, 3)), affine_params([0.0, 0.0], [1.0, 1.0], axis=1)),
        lambda: quantize(np.zeros(3), affine_params([0.0] * 3, [1.0] * 3, axis=1)),
        lambda: dequantize([0.5], affine_params(0, 1)),
        lambda: dequantize(np.int16([200]), affine_params(0, 1)),
        lambda: dequantize([8], symmetric_params(-1, 1, dtype="int4")),
        lambda: as_uint8(np.int8([0]), affine_params(0, 1, dtype="uint8")),
        lambda: as_int8(np.int8([0]), affine_params(0, 1)),
        lambda: quantize_bias([1e12], 1e-3, 1e-3),
        lambda: requantize(np.int64([1]), 1.0, 1.0, affine_params(0, 1)),
        lambda: requantize(np.int32([1]), 1.0, 1.0, affine_params([0.0], [1.0], axis=0)),
        lambda: rounding_error([1.0], [1.0, 2.0], affine_params(0, 1)),
        lambda: rounding_error([], [], affine_params(0, 1)),
    ],
)
def test_what_cannot_be_quantized_is_a_value_error(wrong) -> None:  # noqa: ANN001  # a function without arguments
    with pytest.raises(ValueError, match=r"\w+"):
        wrong()


def test_an_empty_tensor_goes_through() -> None:
    params = affine_params(0, 1)
    assert quantize(np.zeros((0, 3)), params).shape == (0, 3)
    assert dequantize(np.zeros((0, 3), np.int8), params).shape == (0, 3)


def test_the_walk_through_runs_and_brings_no_torch() -> None:
    script = Path(__file__).parents[2] / "examples" / "tensor_by_hand" / "run.py"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(script)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "5. A linear layer in integers" in done.stdout
    assert "int8 result" in done.stdout
    assert "nan" not in done.stdout
    assert not {line.split("|")[-1].strip() for line in done.stderr.splitlines()} & {"torch", "onnx", "executorch"}


@pytest.mark.parametrize("dtype", ["int3", "float32", 8])
def test_a_dtype_that_is_no_integer_of_tensors_is_refused_with_the_known_ones(dtype: Any) -> None:
    for made in (
        lambda: affine_params(-1, 1, dtype=dtype),
        lambda: symmetric_params(-1, 1, dtype=dtype),
        lambda: QuantParams(scale=1.0, zero_point=0, dtype=dtype),
    ):
        with pytest.raises(ValueError, match="known: int4, int8, uint8, int16"):
            made()


@pytest.mark.parametrize("division", ["by reciprocal", "true"])
def test_what_is_too_large_for_float32_saturates_without_a_warning(division: Division) -> None:
    fine = QuantParams(scale=1e-30, zero_point=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quantize([3e38, -3e38, 1e300], fine, division=division).tolist() == [127, -128, 127]
        assert affine_params(-3e38, 3e38).limits == (-128, 127)
        coarse = QuantParams(scale=3e38, zero_point=0)
        assert dequantize(np.array([127], np.int8), coarse).tolist() == [math.inf]
        sums = np.array([2**31 - 1], np.int32)
        assert requantize(sums, 3e38, 3e38, affine_params(-1, 1)).tolist() == [127]
