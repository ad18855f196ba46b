from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import RunnerProtocolError
from edgeq.records import FileOperator
from edgeq.runner import Execution, OperatorTimes, Run
from edgeq.runner.protocol import Profile
from edgeq.stages.bench.op_instructions import instructions_of
from edgeq.stages.bench.profile import matched, profiled

if TYPE_CHECKING:
    from collections.abc import Sequence


def _xnnpack(kernel: str, number: int = 1) -> OperatorTimes:
    return OperatorTimes(name=f"{kernel} #{number}", kernel=kernel, place="delegated", ns=(1,))


def _onnx(name: str, kernel: str) -> OperatorTimes:
    return OperatorTimes(name=name, kernel=kernel, place="kernel", ns=(1,), accelerated=True)


def _node(name: str, node: str = "", partition: int | None = None, **more: object) -> FileOperator:
    return FileOperator(name=name, op=str(more.pop("op", name)), node=node, partition=partition, **more)  # type: ignore[arg-type]


CALL = OperatorTimes(name="delegate", kernel="delegate", place="delegate", ns=(1,))


def _nodes(timed: Sequence[OperatorTimes], operators: Sequence[FileOperator]) -> list[str]:
    return [one.node if one else "" for one in matched(timed, operators)]


def test_what_xnnpack_fused_away_is_stepped_over() -> None:
    timed = [_xnnpack("Convert (NC)"), _xnnpack("Convolution (NHWC, QC8) IGEMM"), _xnnpack("Add (ND)"), CALL]
    file = [
        _node("XNNConvert", "x", 0),
        _node("XNNStaticConstantPad", "pad", 0),
        _node("XNNConv2d", "conv", 0),
        _node("XNNClamp", "relu", 0),
        _node("XNNAdd", "add", 0),
    ]

    assert _nodes(timed, file) == ["x", "conv", "add", ""]


def test_partitions_are_told_apart_by_the_calls_of_their_delegates() -> None:
    mean = OperatorTimes(name="mean.out", kernel="mean.out", place="kernel", ns=(1,))
    timed = [_xnnpack("Convolution (NHWC, F32) GEMM"), CALL, mean, _xnnpack("Convolution (NHWC, F32) GEMM"), CALL]
    file = [
        _node("XNNConv2d", "first", 0),
        _node("XNNConv2d", "fused", 0),
        _node("mean.out", "mean"),
        _node("XNNConv2d", "second", 1),
    ]

    assert _nodes(timed, file) == ["first", "", "mean", "second", ""]


@pytest.mark.parametrize(
    ("kernel", "node"),
    [
        ("Deconvolution (NC, QS8, QC8W) Subconv2D", "XNNConvTranspose2d"),
        ("Fully Connected (NC, QS8, QC8W) GEMM", "XNNFullyConnected"),
        ("Convolution (NHWC, F32) DWConv", "XNNDepthwiseConv2d"),
        ("Fully Connected (NC, F32) GEMM", "XNNConv2d"),
        ("HardSwish (NC)", "XNNHardswish"),
        ("Copy (NC, X8)", "XNNConcatenate2"),
        ("Mean (ND) Reduce2", "XNNGlobalAvgPooling2d"),
        ("GELU (NC)", "XNNGelu"),
        ("LeakyReLU (NC)", "XNNLeakyReLU"),
        ("Sigmoid (NC)", "XNNSigmoid"),
        ("Static Reshape (NC)", "XNNStaticReshape"),
        ("Square (NC)", "XNNSquare"),
        ("Softmax (NC, F32)", "XNNSoftmax"),
    ],
)
def test_xnnpacks_names_are_those_of_its_nodes(kernel: str, node: str) -> None:
    assert _nodes([_xnnpack(kernel), CALL], [_node(node, "it", 0)]) == ["it", ""]


def test_a_fused_kernel_of_onnx_runtime_goes_by_the_name_of_its_node_or_value() -> None:
    file = [
        _node("node_conv", "conv", outputs=("conv",), op="Conv"),
        _node("node_relu", "relu", outputs=("relu",), op="Relu"),
        _node("node_conv_1", "conv_1", outputs=("conv_1",), op="Conv"),
    ]
    timed = [
        _onnx("relu_nchwc", "Conv"),
        _onnx("ReorderOutput", "ReorderOutput"),
        _onnx("node_conv_1_token_4", "QLinearConv"),
        _onnx("Transpose_token_3", "Transpose"),
        _onnx("node_conv_1/MatMulAddFusion", "Gemm"),
    ]

    assert _nodes(timed, file) == ["relu", "", "conv_1", "", "conv_1"]


def test_the_parts_of_a_function_that_is_written_out_are_parts_of_it() -> None:
    file = [_node("node_conv", "conv", op="Conv"), _node("n0", "swish", op="HardSwish"), _node("node_add", op="Add")]
    timed = [_onnx("node_conv", "Conv"), _onnx("HardSigmoid_5", "HardSigmoid"), _onnx("Mul_6", "Mul")]

    assert _nodes(timed, file) == ["conv", "swish", "swish"]


def _visit(
    runs: Sequence[int], ns: Sequence[int], name: str = "a.out", counts: Sequence[int | None] = (), kind: str = "kernel"
) -> Execution:
    told = {"operators": [{"name": name, "kind": kind, "ns": list(ns)}]}
    counted = counts or [None] * len(runs)
    return Execution(
        engine="executorch", build="", runtime_version="", threads=1, load_ns=1, planned_bytes=None, inputs=(),
        outputs=(), first=Run(kind="first", ns=9, instructions=None), warmup=(), peak_rss_bytes=None, samples=1,
        runs=tuple(Run(kind="profiled", ns=run, instructions=count) for run, count in zip(runs, counted, strict=True)),
        profile=Profile(format="executorch", json=json.dumps(told).encode()),
    )  # fmt: skip


def test_an_operators_time_is_of_the_profiled_runs_alone_and_the_rest_is_a_row() -> None:
    found = profiled([_visit([10, 10], [900, 4, 6]), _visit([12, 12], [900, 4, 6])], (), device="desk")

    assert [(op.name, op.ns, op.kind, op.delegated) for op in found.ops] == [
        ("a.out", 5, "operator", False),
        ("", 6, "unattributed", False),
    ]
    assert found.latencies_ns == (10, 10, 12, 12)


def test_visits_that_ran_other_operators_are_no_profile_of_one_artifact() -> None:
    with pytest.raises(RunnerProtocolError, match="other operators"):
        profiled([_visit([1], [1, 1]), _visit([1], [1, 1], name="b.out")], (), device="desk")


def test_on_a_clock_that_counts_instructions_an_operators_time_is_its_instructions() -> None:
    visit = _visit([20_000, 27_000, 90_000], [0, 8_000, 15_000, 8_000], counts=[10_000] * 3, kind="delegated")

    found = profiled([visit], (), device="board", instructions=9_000)

    # 8 us and half of the microsecond that was cut off, at 0.5 instructions a nanosecond; what disturbed is left out.
    assert [(op.kind, op.instructions) for op in found.ops] == [("operator", 4_250), ("unattributed", 4_750)]
    assert sum(op.instructions or 0 for op in found.ops) == 9_000
    assert found.instructions == 10_000


@pytest.mark.parametrize("kind", ["kernel", "delegate"])
def test_only_what_xnnpack_cuts_off_is_added_back_and_a_delegates_call_is_not_counted(kind: str) -> None:
    found = profiled([_visit([20_000], [0, 8_000], counts=[10_000], kind=kind)], (), device="board", instructions=9_000)

    assert found.ops[0].instructions == {"kernel": 4_000, "delegate": None}[kind]


def test_an_operator_of_an_inference_that_was_not_counted_has_no_instructions() -> None:
    visits = [_visit([20_000], [0, 8_000], counts=[10_000]), _visit([20_000], [0, 8_000])]

    assert {op.instructions for op in profiled(visits, (), device="pi").ops} == {None}


def test_nodes_of_onnx_runtime_have_no_instructions_as_its_profiler_works_inside_of_them() -> None:
    node = _onnx("node_conv", "Conv")

    assert instructions_of(node, [8_000], 0.5) is None
    assert instructions_of(replace(node, accelerated=False), [8_000], 0.5) == 4_000


def test_inferences_beside_the_profiled_ones_are_kept_apart_from_them() -> None:
    found = profiled([_visit([10, 12], [9, 4, 6])], (), device="desk", beside=[_visit([8, 9], [9, 4, 6])])

    assert (found.latencies_ns, found.unprofiled_ns, found.rounds) == ((10, 12), (8, 9), (2,))
