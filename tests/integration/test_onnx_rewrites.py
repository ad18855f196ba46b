"""Each rewrite of an ONNX graph, by itself: it leaves nothing of what it is for, and changes no result.

Both graphs run without any optimization of ONNX Runtime, which may hide what a rewrite got wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgeq.lower import onnx_rewrites as rewrites

if TYPE_CHECKING:
    from collections.abc import Callable

PAD = "int64[8] amounts = {0, 0, 1, 0, 0, 0, 0, 1}"
STORED = "float s = {0.02}, int8 z = {3}"

CASES: dict[str, tuple[Callable[[Any], object], str, str, str, str, str]] = {
    # rewrite; shape of x; initializers; nodes; operators that are gone; operators that have come
    "a padding in front of a convolution": (
        rewrites.pad_inside_convolutions,
        "1, 1, 5, 5",
        f"{PAD}, float zero = {{0}}, float[1, 1, 2, 2] w = {{1, 2, 3, 4}}",
        "p = Pad (x, amounts, zero)\n y = Conv <pads = [1, 1, 0, 0]> (p, w)",
        "Pad",
        "Conv",
    ),
    "a mean over the plane": (
        rewrites.pool_globally,
        "1, 2, 5, 5",
        "int64[2] axes = {-1, 2}",
        "y = ReduceMean (x, axes)",
        "ReduceMean",
        "GlobalAveragePool",
    ),
    "a clamp of an int8 tensor": (
        rewrites.clamp_integers,
        "1, 2, 5, 5",
        STORED,
        """q = QuantizeLinear (x, s, z)
           d = DequantizeLinear (q, s, z)
           r = Relu (d)
           p = QuantizeLinear (r, s, z)
           y = DequantizeLinear (p, s, z)""",
        "Relu",
        "Clip",
    ),
    "a layer that stays in float": (
        rewrites.keep_in_float,
        "1, 1, 5, 5",
        f"{STORED}, float[1, 1, 2, 2] w = {{1, 2, 3, 4}}",
        """q = QuantizeLinear (x, s, z)
           d = DequantizeLinear (q, s, z)
           c = Conv (d, w)
           p = QuantizeLinear (c, s, z)
           y = DequantizeLinear (p, s, z)""",
        "",
        "Sum Conv",
    ),
    "a transposed weight": (
        rewrites.transpose_weights,
        "1, 2",
        "int8[3, 2] w = {1, 2, 3, 4, 5, 6}, float[3] t = {0.1, 0.2, 0.3}, int8[3] n = {0, 0, 0}",
        """d = DequantizeLinear <axis = 0> (w, t, n)
           u = Transpose <perm = [1, 0]> (d)
           y = MatMul (x, u)""",
        "Transpose",
        "MatMul",
    ),
    "a product of rows and its bias": (
        rewrites.multiply_as_gemm,
        "2, 3, 2",
        f"{STORED}, int8[2, 2] w = {{1, 2, 3, 4}}, float t = {{0.5}}, int8 n = {{0}}, float[2] b = {{1, -1}}",
        """q = QuantizeLinear (x, s, z)
           d = DequantizeLinear (q, s, z)
           v = DequantizeLinear (w, t, n)
           m = MatMul (d, v)
           a = Add (m, b)
           p = QuantizeLinear (a, s, z)
           y = DequantizeLinear (p, s, z)""",
        "MatMul Add",
        "Gemm Reshape",
    ),
    "activations as uint8": (
        rewrites.use_unsigned_activations,
        "1, 2, 5, 5",
        STORED,
        "q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s, z)",
        "",
        "QuantizeLinear",
    ),
    "a sum that is stored at two scales": (
        rewrites.compute_each_call,
        "1, 2, 5, 5",
        f"{STORED}, float t = {{0.05}}",
        """q = QuantizeLinear (x, s, z)
           d = DequantizeLinear (q, s, z)
           a = Add (d, d)
           p = QuantizeLinear (a, s, z)
           o = QuantizeLinear (a, t, z)
           e = DequantizeLinear (p, s, z)
           f = DequantizeLinear (o, t, z)
           y = Sub (e, f)""",
        "",
        "Add",
    ),
    "a padding in front of a max pooling": (
        rewrites.protect_padding_of_pools,
        "1, 1, 5, 5",
        f"{PAD}, float zero = {{0}}",
        "p = Pad (x, amounts, zero)\n y = MaxPool <kernel_shape = [2, 2]> (p)",
        "",
        "Pad",
    ),
}


def _model(shape: str, initializers: str, nodes: str) -> onnx.ModelProto:
    text = f"""
        <ir_version: 10, opset_import: ["" : 20]>
        small (float[{shape}] x) => (float[{", ".join("NMKJ"[: shape.count(",") + 1])}] y)
        <{initializers}> {{ {nodes} }}
    """
    model = onnx.parser.parse_model(text)
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"
    return onnx.shape_inference.infer_shapes(model)


def _result(model: onnx.ModelProto, given: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": given})[0])


def _rewritten(model: onnx.ModelProto, rewrite: Callable[[Any], object]) -> onnx.ModelProto:
    graph = ir.serde.deserialize_model(model)
    rewrite(graph.graph)
    ir.passes.common.RemoveUnusedNodesPass()(graph)
    ir.passes.common.TopologicalSortPass()(graph)
    return ir.serde.serialize_model(graph)


@pytest.mark.parametrize("name", CASES)
def test_a_rewrite_leaves_nothing_of_what_it_is_for_and_changes_no_result(name: str) -> None:
    rewrite, shape, initializers, nodes, gone, come = CASES[name]
    model = _model(shape, initializers, nodes)
    given = np.random.default_rng(0).normal(size=[int(size) for size in shape.split(",")]).astype(np.float32)
    rewritten = _rewritten(model, rewrite)

    assert rewritten.graph != model.graph
    left = {node.op_type for node in rewritten.graph.node}
    assert not left & set(gone.split())
    assert set(come.split()) <= left
    np.testing.assert_allclose(_result(rewritten, given), _result(model, given), rtol=0, atol=1e-5)


def test_a_bias_moves_by_half_of_a_step_of_its_integers_at_most() -> None:
    model = _model(
        "1, 2",
        f"{STORED}, int8[2, 2] w = {{10, 20, -30, 40}}, float[2] t = {{0.01, 0.02}}, int8[2] n = {{0, 0}},"
        " float[2] b = {0.7, -0.3}",
        """q = QuantizeLinear (x, s, z)
           d = DequantizeLinear (q, s, z)
           v = DequantizeLinear <axis = 1> (w, t, n)
           y = Gemm (d, v, b)""",
    )
    rewritten = _rewritten(model, rewrites.quantize_biases)
    assert [node.op_type for node in rewritten.graph.node].count("DequantizeLinear") == 3
    given = np.array([[0.5, -0.25]], np.float32)
    moved = np.abs(_result(rewritten, given) - _result(model, given))
    assert (moved <= 0.02 * np.array([0.01, 0.02]) / 2 + 1e-6).all()


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "pads", "size"),
    [
        (3, (3, 3), 2, (1, 1, 1, 1), (8, 12)),
        (3, (7, 7), 2, (3, 3, 3, 3), (16, 16)),
        (1, (5, 3), 2, (0, 1, 1, 1), (8, 12)),
        (2, (4, 4), 4, (0, 0, 0, 0), (8, 12)),
        (3, (6, 6), 3, (3, 3, 0, 0), (9, 12)),
        (3, (2, 2), 2, (0, 0, 0, 0), (8, 12)),
    ],
)
def test_blocks_of_a_thin_tensor_are_read_as_channels_with_the_same_result(
    channels: int, kernel: tuple[int, int], stride: int, pads: tuple[int, ...], size: tuple[int, int]
) -> None:
    model = _strided(channels, kernel, stride, pads, size)
    rewritten = _rewritten(model, rewrites.read_blocks_as_channels)
    (conv,) = (node for node in rewritten.graph.node if node.op_type == "Conv")
    attributes = {attribute.name: list(attribute.ints) for attribute in conv.attribute if attribute.ints}
    assert attributes["strides"] == [1, 1]
    given = np.random.default_rng(0).normal(size=(2, channels, *size)).astype(np.float32)
    np.testing.assert_allclose(_result(rewritten, given), _result(model, given), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "pads", "size"),
    [
        (4, (3, 3), 2, (1, 1, 1, 1), (8, 12)),
        (3, (3, 3), 1, (1, 1, 1, 1), (8, 12)),
        (3, (3, 3), 2, (1, 1, 1, 1), (9, 12)),
        (3, (1, 1), 2, (0, 0, 0, 0), (8, 12)),
        (3, (11, 11), 4, (2, 2, 2, 2), (16, 16)),
        (3, (2, 2), 2, (0, 0, -2, 0), (8, 12)),
    ],
    ids=["channels enough", "no stride", "half a block", "a pixel in four", "mostly zeros", "rows that nobody reads"],
)
def test_a_convolution_that_gains_nothing_by_blocks_stays_as_it_is(
    channels: int, kernel: tuple[int, int], stride: int, pads: tuple[int, ...], size: tuple[int, int]
) -> None:
    model = _strided(channels, kernel, stride, pads, size)
    rewritten = _rewritten(model, rewrites.read_blocks_as_channels)
    assert [node.op_type for node in rewritten.graph.node] == [node.op_type for node in model.graph.node]


def _strided(
    channels: int, kernel: tuple[int, int], stride: int, pads: tuple[int, ...], size: tuple[int, int]
) -> onnx.ModelProto:
    numbers = np.random.default_rng(1).integers(-127, 128, (4, channels, *kernel))
    return _model(
        f"2, {channels}, {size[0]}, {size[1]}",
        f"float s = {{0.02}}, uint8 z = {{120}}, int8[4, {channels}, {kernel[0]}, {kernel[1]}] w ="
        f" {{{', '.join(map(str, numbers.flat))}}}, float[4] t = {{0.001, 0.002, 0.003, 0.004}},"
        " int8[4] n = {0, 0, 0, 0}, float[4] b = {1, 2, 3, 4}",
        f"""q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            v = DequantizeLinear <axis = 0> (w, t, n)
            c = Conv <strides = [{stride}, {stride}], pads = [{", ".join(map(str, pads))}]> (d, v, b)
            y = Relu (c)""",
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_hard_swish_of_integers_is_a_sum_and_a_product_of_integers_within_a_step(dtype: str) -> None:
    zero = 20 if dtype == "int8" else 148
    model = _model(
        "1, 4, 8, 8",
        f"float s = {{0.05}}, {dtype} z = {{{zero}}}, float t = {{0.025}}, {dtype} o = {{{zero - 100}}}",
        """q = QuantizeLinear (x, s, z)
           d = DequantizeLinear (q, s, z)
           h = HardSwish (d)
           p = QuantizeLinear (h, t, o)
           y = DequantizeLinear (p, t, o)""",
    )
    given = np.linspace(-6, 6, 256, dtype=np.float32).reshape(1, 4, 8, 8)
    rewritten = _rewritten(model, rewrites.multiply_hard_swish)
    assert "HardSwish" not in {node.op_type for node in rewritten.graph.node}
    steps = np.round((_result(rewritten, given) - _result(model, given)) / 0.025)
    assert np.abs(steps).max() <= 1
    assert np.mean(steps != 0) < 0.2


def test_activations_as_uint8_leave_no_int8_activation() -> None:
    rewrite, *parts, _, _ = CASES["activations as uint8"]
    stored = [value for value in _rewritten(_model(*parts), rewrite).graph.initializer if value.name.startswith("z")]
    assert onnx.TensorProto.UINT8 in {value.data_type for value in stored}


def test_a_sum_that_is_stored_at_two_scales_is_computed_for_each() -> None:
    rewrite, *parts, _, _ = CASES["a sum that is stored at two scales"]
    assert [node.op_type for node in _rewritten(_model(*parts), rewrite).graph.node].count("Add") == 2


def test_the_notes_of_an_exporter_are_gone() -> None:
    model = ir.serde.deserialize_model(_model("1, 2", "float one = {1}", "y = Add (x, one)"))
    node = model.graph[0]
    node.doc_string, node.metadata_props["source"] = "a note", "/home/me/model.py:1"
    model.metadata_props["machine"] = "mine"
    rewrites.strip_metadata(model)
    text = ir.serde.serialize_model(model).SerializeToString()
    assert not any(word in text for word in (b"a note", b"/home/me", b"mine"))
