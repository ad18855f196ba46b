"""Quantization by hand gives the integers of the runtimes, bit by bit."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeq.numerics import QuantParams, affine_params, dequantize, quantize, range_of, requantize
from edgeq.quiet import quietly

with quietly():
    import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401  # registers quantized_decomposed

TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "float32": TensorProto.FLOAT}
DTYPES = ("int8", "uint8", "int16")


def _values(dtype: str) -> tuple[np.ndarray, QuantParams]:
    """A million values, many of them near the middle between two integers, some beyond the range."""
    generator = np.random.default_rng(7)
    drawn = generator.normal(size=500_000).astype(np.float32)
    params = affine_params(*range_of(drawn), dtype=dtype)
    low, high = params.limits
    middles = (generator.integers(2 * low, 2 * high, 500_000) / 2 - params.zero_point).astype(np.float32)
    near = middles * np.float32(params.scale)
    return np.concatenate([drawn * 1.1, near, np.nextafter(near, np.float32(9)), np.float32([np.inf, -np.inf])]), params


def _run(nodes: list, inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray], gives: str) -> np.ndarray:
    graph = helper.make_graph(
        nodes,
        "by hand",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TYPES[gives], None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_and_what_they_stand_for_are_torchs(dtype: str) -> None:
    values, params = _values(dtype)
    arguments = (params.scale, params.zero_point, *params.limits, getattr(torch, dtype))
    expected = torch.ops.quantized_decomposed.quantize_per_tensor.default(torch.tensor(values), *arguments)
    integers = quantize(values, params)
    np.testing.assert_array_equal(integers, expected.numpy())
    restored = torch.ops.quantized_decomposed.dequantize_per_tensor.default(expected, *arguments)
    np.testing.assert_array_equal(dequantize(integers, params), restored.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_and_what_they_stand_for_are_onnxruntimes(dtype: str) -> None:
    values, params = _values(dtype)
    constants = {"s": np.float32(params.scale), "z": np.asarray(params.zero_point, dtype=dtype)}
    integers = _run([helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])], {"x": values}, constants, dtype)
    np.testing.assert_array_equal(quantize(values, params, division="true"), integers)
    restored = _run(
        [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"])], {"x": integers}, constants, "float32"
    )
    np.testing.assert_array_equal(dequantize(integers, params), restored)


def test_the_two_divisions_differ_by_a_step_at_most_and_only_at_the_middle_between_integers() -> None:
    values, params = _values("int8")
    finite = values[np.isfinite(values)]
    first, second = quantize(finite, params), quantize(finite, params, division="true")
    differ = first != second
    assert 0 < differ.mean() < 0.5
    assert np.abs(first.astype(int) - second).max() == 1
    steps = finite[differ].astype(np.float64) / params.scale
    assert np.abs(steps - np.floor(steps) - 0.5).max() < 1e-4


def test_channels_are_torchs() -> None:
    values = np.random.default_rng(1).normal(size=(5, 6, 7)).astype(np.float32)
    params = affine_params(*range_of(values, axis=1), axis=1)
    expected = torch.ops.quantized_decomposed.quantize_per_channel.default(
        torch.tensor(values), torch.tensor(params.scale), torch.tensor(params.zero_point), 1, -128, 127, torch.int8
    )
    assert np.mean(quantize(values, params) == expected.numpy()) > 0.999
    np.testing.assert_array_equal(quantize(values, params), expected.numpy())


def test_requantized_sums_are_onnxruntimes() -> None:
    generator = np.random.default_rng(2)
    left = generator.integers(0, 256, (64, 32), dtype=np.uint8)
    right = generator.integers(-127, 128, (32, 48), dtype=np.int8)
    read = QuantParams(scale=0.013, zero_point=131, dtype="uint8")
    stored = QuantParams(scale=0.21, zero_point=99, dtype="uint8")
    weight_scale = generator.uniform(0.001, 0.02, 48).astype(np.float32)
    constants = {
        "as": np.float32(read.scale),
        "az": np.uint8(read.zero_point),
        "b": right,
        "bs": weight_scale,
        "bz": np.zeros(48, np.int8),
        "ys": np.float32(stored.scale),
        "yz": np.uint8(stored.zero_point),
    }
    node = helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])
    expected = _run([node], {"a": left}, constants, "uint8")
    sums = (left.astype(np.int32) - read.zero_point) @ right.astype(np.int32)
    np.testing.assert_array_equal(requantize(sums.astype(np.int32), read.scale, weight_scale, stored), expected)
