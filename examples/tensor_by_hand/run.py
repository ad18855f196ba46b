"""A walk through int8 with numbers you can check by hand: python examples/tensor_by_hand/run.py.

Needs numpy and edgeq, no model and no data; it takes a second.
"""

from __future__ import annotations

import numpy as np

from edgeq.numerics import (
    QuantParams,
    affine_params,
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

WIDTH = 8


def main() -> None:
    """Print the steps one after the other."""
    np.set_printoptions(precision=4, suppress=True, linewidth=110)
    one_tensor()
    outlier()
    channels()
    uint8()
    layer()


def one_tensor() -> None:
    """Range, scale, zero point, integers, and back."""
    title("1. One tensor: range, scale, zero point, integers, and back")
    values = np.float32([-0.52, -0.1234, 0.0, 0.2941, 0.7071, 1.04])
    low, high = range_of(values)
    params = affine_params(low, high)
    integers = quantize(values, params)
    show("values", values)
    show("range", f"{low:.2f} to {high:.2f}")
    show("scale", f"({high:.2f} - {low:.2f}) / (127 - -128) = {params.scale:.6f}")
    show("zero point", f"-128 - round({low:.2f} / {params.scale:.6f}) = {params.zero_point}")
    show("integers", integers)
    show("back", dequantize(integers, params))
    tell(values, params)
    show("", "0.0 came back as 0.0: zero padding and relu stay exact")
    symmetric = symmetric_params(low, high)
    show(
        "symmetric",
        f"scale {symmetric.scale:.6f}, zero point {symmetric.zero_point}: simpler, and for a lopsided range",
    )
    show("", "coarser, as the integers from -128 to -65 stand for values that never come")
    tell(values, symmetric)


def outlier() -> None:
    """What one odd value does to all others, and what cutting it off costs."""
    title("2. One outlier")
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    values[0] = 100.0
    for name, (low, high) in {
        "minimum to maximum": range_of(values),
        "99.9 % of them": np.quantile(values, [0.0005, 0.9995]),
    }.items():
        params = affine_params(low, high)
        usual = rounding_error(values[1:], round_trip(values[1:], params), params)
        show(name, f"{low:8.2f} to {high:6.2f}: scale {params.scale:.4f}, all but the outlier {usual.sqnr_db:.1f} dB")
    show("", "which of the two is better depends on what the outlier is for; measure it on the artifact")


def channels() -> None:
    """Weights of a depthwise convolution: one scale for all, or one for each channel."""
    title("3. Weights: one scale for all, or one for each channel")
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(4, 1, 3, 3)).astype(np.float32) * np.float32([1, 0.3, 0.03, 0.01]).reshape(
        4, 1, 1, 1
    )
    whole = symmetric_params(*range_of(weight))
    each = symmetric_params(*range_of(weight, axis=0), axis=0)
    show("largest", np.abs(weight).max(axis=(1, 2, 3)))
    show("per tensor", f"scale {whole.scale:.5f}")
    show("per channel", "scales " + ", ".join(f"{scale:.5f}" for scale in np.atleast_1d(each.scale)))
    for index, values in enumerate(weight):
        one = QuantParams(scale=np.atleast_1d(each.scale)[index].item(), zero_point=0)
        found = [rounding_error(values, round_trip(values, params), params).sqnr_db for params in (whole, one)]
        show(f"channel {index}", f"{found[0]:5.1f} dB per tensor, {found[1]:5.1f} dB per channel")
    for dtype in ("int4", "int8", "int16"):
        params = symmetric_params(*range_of(weight, axis=0), axis=0, dtype=dtype)
        found_db = rounding_error(weight, round_trip(weight, params), params).sqnr_db
        show(dtype, f"{found_db:5.1f} dB per channel: each bit is worth about 6 dB")


def uint8() -> None:
    """The same tensor for kernels that want uint8."""
    title("4. uint8 is int8 moved by 128")
    values = np.float32([-0.5, 0.0, 0.25, 1.0])
    params = affine_params(*range_of(values))
    integers = quantize(values, params)
    moved, moved_params = as_uint8(integers, params)
    show("int8", f"{integers}, zero point {params.zero_point}")
    show("uint8", f"{moved}, zero point {moved_params.zero_point}")
    show("", f"both stand for {dequantize(moved, moved_params)}, bit by bit")


def layer() -> None:
    """A linear layer as a kernel computes it: integers only between reading and storing."""
    title("5. A linear layer in integers")
    generator = np.random.default_rng(2)
    inputs = generator.normal(size=(1, 64)).astype(np.float32)
    weight = generator.normal(size=(64, 3)).astype(np.float32) / WIDTH
    bias = generator.normal(size=3).astype(np.float32)
    exact = inputs @ weight + bias
    read = affine_params(*range_of(inputs))
    held = symmetric_params(*range_of(weight, axis=1), axis=1)
    stored = affine_params(-4.0, 4.0)
    products = (quantize(inputs, read).astype(np.int32) - read.zero_point) @ quantize(weight, held).astype(np.int32)
    sums = products + quantize_bias(bias, read.scale, held.scale)
    result = requantize(sums, read.scale, held.scale, stored)
    show("float", exact[0])
    show("int32 sums", sums[0])
    show("x factor", np.float32(read.scale) * np.float32(held.scale) / np.float32(stored.scale))
    show("int8 result", result[0])
    show("stands for", dequantize(result, stored)[0])
    error = rounding_error(exact, dequantize(result, stored), stored)
    show("", f"largest error {error.largest:.4f}, {error.largest_in_steps:.2f} steps of the output's scale")


def title(text: str) -> None:
    """A heading."""
    print(f"\n{text}\n{'-' * len(text)}")


def show(name: str, what: object) -> None:
    """A line of a table."""
    print(f"{name:>18}  {what}")


def tell(values: np.ndarray, params: QuantParams) -> None:
    """What a round trip costs."""
    error = rounding_error(values, round_trip(values, params), params)
    show("", f"{error.sqnr_db:.1f} dB, largest error {error.largest:.5f} = {error.largest_in_steps:.2f} steps")


if __name__ == "__main__":
    main()
