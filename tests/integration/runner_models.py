"""Write small real models for the runner's tests, and what the runtimes' own Python interfaces make of SAMPLES.

A program, not a module of the tests: what these libraries warn of at import
is not the tests' concern. ``python runner_models.py FOLDER`` writes
``MODEL`` and ``MODEL.npy`` (one row of all outputs for each sample).
"""

from __future__ import annotations

import sys
from pathlib import Path

import executorch.kernels.quantized  # noqa: F401  # registers the operators of undelegated int8
import numpy as np
import onnx
import onnxruntime
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from onnx import TensorProto, helper, numpy_helper
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

SHAPE = (1, 3, 16, 16)


class Convolution(torch.nn.Module):
    """Two outputs; the second leaves the delegate."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.linear = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.convolution(x)).mean((2, 3))
        return torch.softmax(self.linear(features), -1), features


class ChannelsLast(torch.nn.Module):
    """An output whose bytes are not in C order inside the runtime."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 2).to(memory_format=torch.channels_last)


class Rows(torch.nn.Module):
    """Takes any number of rows up to eight."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def export_pte(path: Path, kind: str) -> Path:
    """A .pte: ``xnnpack``, ``portable`` (no delegate), ``int8``, ``int8-portable``, ``channels-last``, ``rows``."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    example = (torch.randn(SHAPE),)
    module: torch.nn.Module = Convolution().eval()
    dynamic = None
    if kind == "channels-last":
        module = ChannelsLast().eval()
    elif kind == "rows":
        module, example = Rows().eval(), (torch.ones(5, 4),)
        dynamic = {"x": {0: torch.export.Dim("rows", min=1, max=8)}}
    elif kind.startswith("int8"):
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        prepared = prepare_pt2e(torch.export.export(module, example).module(), quantizer)
        prepared(*example)
        module = convert_pt2e(prepared)
    partitioner = [] if kind in ("portable", "int8-portable", "channels-last") else [XnnpackPartitioner()]
    exported = torch.export.export(module, example, dynamic_shapes=dynamic)
    path.write_bytes(to_edge_transform_and_lower(exported, partitioner=partitioner).to_executorch().buffer)
    return path


def export_onnx(path: Path, kind: str) -> Path:
    """An .onnx: ``fp32``, ``int8`` (quantized input and weights), ``open`` (the batch size is open), ``unknown``."""
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    batch = "n" if kind == "open" else 1
    nodes = [helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["y"], ["z"])]
    constants = [numpy_helper.from_array(weights, "w")]
    if kind == "int8":
        scale = float(np.abs(weights).max() / 127)
        constants = [
            numpy_helper.from_array(np.round(weights / scale).astype(np.int8), "wq"),
            numpy_helper.from_array(np.float32(scale), "ws"),
            numpy_helper.from_array(np.float32(0.03), "xs"),
            numpy_helper.from_array(np.uint8(128), "xz"),
            numpy_helper.from_array(np.int8(0), "wz"),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["a"]),
            helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"]),
            *nodes,
        ]
    elif kind == "unknown":
        nodes = [helper.make_node("Frobnicate", ["x"], ["a"]), *nodes]
    else:
        nodes[0].input[0] = "x"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *SHAPE[1:]])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [batch, 8, 16, 16])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def expected(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """All outputs of each sample as one float32 vector, from the runtime's own Python interface."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        return [np.concatenate([out.ravel() for out in session.run(None, {"x": x})]) for x in inputs]
    method = Runtime.get().load_program(path).load_method("forward")
    return [
        np.concatenate([out.contiguous().numpy().ravel() for out in method.execute((torch.from_numpy(x),))])
        for x in inputs
    ]


def main(folder: Path) -> None:
    inputs = list(np.load(folder / "samples.npy"))
    for kind in ("xnnpack", "portable", "int8", "int8-portable", "channels-last", "rows"):
        path = export_pte(folder / f"{kind}.pte", kind)
        if kind != "rows":
            np.save(folder / f"{kind}.pte.npy", np.stack(expected(path, inputs)))
    for kind in ("fp32", "int8", "open", "unknown"):
        path = export_onnx(folder / f"{kind}.onnx", kind)
        if kind in ("fp32", "int8"):
            np.save(folder / f"{kind}.onnx.npy", np.stack(expected(path, inputs)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
