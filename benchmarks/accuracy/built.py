"""What a flow makes of a case, and the share of its multiply-accumulates that runs on int8 operands."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import ShapeInferencePass

from edgeq.lower.xnnpack import LoweredBackendModule, is_dequant
from edgeq.quantize.macs import macs, operator_name, total_macs
from edgeq.records import Format

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.export import ExportedProgram
    from torch.fx import Node

FACTORS = {"convolution": (0, 1), "linear": (0, 1), "addmm": (1, 2), "mm": (0, 1), "bmm": (0, 1)}
INTEGER_KERNELS = frozenset(("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"))


class SkippedError(Exception):
    """A flow has not got what it needs for a case; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A file of one flow; ``time`` is what it took from the float model to it, ``detail`` what a search settled on."""

    path: Path
    form: Format
    time: Time
    int8_share: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Time:
    """Wall time and this process's own processor time, which other programs on the machine do not stretch."""

    wall: float
    cpu: float

    def __add__(self, other: Time) -> Time:
        return Time(wall=self.wall + other.wall, cpu=self.cpu + other.cpu)


def stopwatch() -> Callable[[], Time]:
    """Starts now; calling what it gives says how much time has gone by."""
    wall, cpu = time.perf_counter(), time.process_time()
    return lambda: Time(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)


def pte_int8_share(lowered: ExportedProgram) -> float:
    """The share of a lowered program's MACs in layers that XNNPACK is given as integers."""
    partitions = [
        module.original_module.graph.nodes
        for _, module in lowered.graph_module.named_children()
        if isinstance(module, LoweredBackendModule)
    ]
    total = total_macs(lowered.graph.nodes) + sum(total_macs(nodes) for nodes in partitions)
    return sum(macs(node) for nodes in partitions for node in nodes if _is_int8(node)) / total


def _is_int8(node: Node) -> bool:
    factors = [node.args[index] for index in FACTORS.get(operator_name(node), ())]
    return bool(factors) and all(is_dequant(factor) for factor in factors)


def onnx_int8_share(path: Path) -> float:
    """The share of a file's MACs in layers that ONNX Runtime's own optimizer turns into integer kernels here."""
    model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(onnx.load(path)))
    ShapeInferencePass()(model)
    kernels = {node.name: node.op_type for node in _optimized(path).graph.node}
    cost = {node.name: _onnx_macs(node) for node in model.graph}
    return sum(count for name, count in cost.items() if kernels.get(name) in INTEGER_KERNELS) / sum(cost.values())


def _optimized(path: Path) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 4
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _onnx_macs(node: ir.Node) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul", "LSTM"):
        return 0
    left, right, output = (_shape(value) for value in (*node.inputs[:2], node.outputs[0]))
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(right[1:])
    if node.op_type == "LSTM":
        return math.prod(left[:2]) * (math.prod(right) + math.prod(_shape(node.inputs[2])))
    return math.prod(output) * left[-1]


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        raise ValueError(f"{value} has no shape")
    return tuple(int(size) for size in value.shape.numpy())
