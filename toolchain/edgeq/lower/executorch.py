"""Lower to ExecuTorch: a .pte whose partitions run in XNNPACK.

``int8_mac_share`` counts layers inside a partition all of whose operands
are int8 (the partitioner hands XNNPACK the integers); ``delegated_mac_share``
everything inside a partition.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeq.files import write_bytes
from edgeq.lower.coverage import Coverage, grouped, share
from edgeq.lower.origins import operators_of_pte
from edgeq.lower.refusal import RefusedError
from edgeq.lower.shortcuts import shortcuts
from edgeq.lower.xnnpack import (
    INT8_KERNELS,
    LOOKED_UP,
    LoweredBackendModule,
    WhyNoPartition,
    is_dequant,
    is_qparam,
    is_quant,
    partitioner,
    to_edge_transform_and_lower,
)
from edgeq.lower.xnnpack_float import filter_in_float
from edgeq.lower.xnnpack_graphs import seen_graphs
from edgeq.lower.xnnpack_reads import read_apart
from edgeq.quantize.macs import macs, operator_name, total_macs
from edgeq.quantize.source import source_of
from edgeq.records import Requires, TensorSpec, Undelegated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.quantize import QuantizedProgram

_BOOKKEEPING = ("getitem", "executorch_call_delegate", "alloc")


def lower_executorch(program: QuantizedProgram, path: Path, *, float_filters: bool = False) -> Coverage:
    """Write ``program`` to ``path`` as a .pte; RefusedError if ExecuTorch refuses it.

    ``float_filters`` says whether large depthwise filters are faster in
    float on the target's processor.
    """
    refusals: dict[str, str] = {}
    try:
        with _quiet(), _collected(refusals), shortcuts(), seen_graphs() as graphs:
            copied = program.copy_to_lower()
            if float_filters:
                filter_in_float(copied)
            edge = to_edge_transform_and_lower(copied, transform_passes=[read_apart], partitioner=[partitioner()])
            lowered = edge.exported_program()
            executable = edge.to_executorch()
    except Exception as error:  # the passes of ExecuTorch raise whatever they raise
        raise RefusedError from error
    write_bytes(path, executable.buffer)
    plan = executable.executorch_program.execution_plan[0]
    requires = Requires(
        runtime="executorch",
        version=importlib.metadata.version("executorch"),
        ops=tuple(sorted(f"{op.name}.{op.overload}" if op.overload else op.name for op in plan.operators)),
        backends=tuple(sorted({delegate.id for delegate in plan.delegates})),
    )
    return replace(_coverage(program, lowered, refusals, requires), operators=tuple(operators_of_pte(lowered, graphs)))


def _coverage(
    program: QuantizedProgram, lowered: ExportedProgram, refusals: dict[str, str], requires: Requires
) -> Coverage:
    partitions = [
        module.original_module.graph.nodes
        for _, module in lowered.graph_module.named_children()
        if isinstance(module, LoweredBackendModule)
    ]
    delegated = sum(total_macs(nodes) for nodes in partitions)
    total = delegated + total_macs(lowered.graph.nodes)
    in_int8 = sum(macs(node) for nodes in partitions for node in nodes if _runs_in_int8(node))
    undelegated = [
        _undelegated(node, _why_outside(node, refusals), total)
        for node in lowered.graph.nodes
        if node.op == "call_function" and operator_name(node) not in _BOOKKEEPING
    ]
    if program.recipe.quantized:
        undelegated += [
            _undelegated(node, _why_float(node), total)
            for nodes in partitions
            for node in nodes
            if _stays_float(node) and (macs(node) or not program.quantizes_at_run_time)
        ]
    return Coverage(
        macs=total_macs(program.float_program.graph.nodes),
        int8_mac_share=share(in_int8, total),
        delegated_mac_share=share(delegated, total),
        partitions=len(partitions),
        undelegated=grouped(undelegated),
        requires=requires,
        inputs=tensor_specs(program, "inputs"),
        outputs=tensor_specs(program, "outputs"),
    )


def tensor_specs(program: QuantizedProgram, side: str) -> tuple[TensorSpec, ...]:
    """Name, shape and dtype of what the program takes or gives."""
    signature = program.program.graph_signature
    names = signature.user_inputs if side == "inputs" else signature.user_outputs
    by_name = {node.name: node for node in program.program.graph.nodes}
    values = [by_name[str(name)].meta["val"] for name in names]
    labels = [str(name) if side == "inputs" else f"output{index}" for index, name in enumerate(names)]
    return tuple(
        TensorSpec(name=label, shape=tuple(map(int, value.shape)), dtype=str(value.dtype).removeprefix("torch."))
        for label, value in zip(labels, values, strict=True)
    )


def _why_outside(node: Node, refusals: dict[str, str]) -> str:
    if is_dequant(node) and node.args[0].op == "placeholder":  # type: ignore[union-attr]  # it reads a node
        return "uint8-input: XNNPACK takes no bytes; a kernel of ExecuTorch makes floats of the image in front of it"
    return refusals.get(node.name) or "no-kernel: XNNPACK has no kernel for it"


def _undelegated(node: Node, reason: str, total: int) -> Undelegated:
    return Undelegated(
        node=node.name,
        op=getattr(node.target, "__name__", str(node.target)),
        reason=reason,
        mac_share=share(macs(node), total) if total else 0.0,
        source=source_of(node),
    )


def _runs_in_int8(node: Node) -> bool:
    """Whether every operand but the bias comes as int8, directly or through padding."""
    operands = [arg for arg in node.all_input_nodes if not _is_bias(node, arg)]
    return bool(operands) and all(is_dequant(_unpadded(arg)) for arg in operands)


def _is_bias(node: Node, operand: Node) -> bool:
    name = operator_name(node)
    position = {"convolution": 2, "linear": 2, "addmm": 0}.get(name)
    return position is not None and len(node.args) > position and node.args[position] is operand


def _unpadded(node: Node) -> Node:
    padded = node.op == "call_function" and operator_name(node) == "constant_pad_nd"
    return node.args[0] if padded else node  # type: ignore[return-value]  # a pad reads a node


def _stays_float(node: Node) -> bool:
    """Whether a node inside a partition computes in float although the program is quantized."""
    if node.op != "call_function" or operator_name(node) in _BOOKKEEPING:
        return False
    if is_quant(node) or is_dequant(node) or is_qparam(node):
        return False
    if macs(node):
        return not _runs_in_int8(node)
    if operator_name(node) in LOOKED_UP:
        return not (_runs_in_int8(node) and all(is_quant(user) for user in node.users))
    return operator_name(node) not in INT8_KERNELS and operator_name(node) != "constant_pad_nd"


def _why_float(node: Node) -> str:
    if operator_name(node) == "convolution" and is_dequant(node.args[0]) and not is_dequant(node.args[1]):
        return "float-faster: XNNPACK computes large depthwise filters faster in float on this processor"
    if operator_name(node) in INT8_KERNELS:
        return "float-operands: an operand or the result is not int8, so XNNPACK computes it in float"
    return "float-kernel: XNNPACK computes it, in float only"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ExecuTorch's warnings to its own developers from the user."""
    loggers = [logging.getLogger(), logging.getLogger("executorch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _Refusals(logging.Handler):
    """Takes what the partitioner says about nodes that it leaves out; it says so to its log alone."""

    def __init__(self, into: dict[str, str]) -> None:
        super().__init__(logging.DEBUG)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        said: Any = record.msg
        if isinstance(said, WhyNoPartition) and said.node is not None:
            self._into[said.node.name] = f"constraint: {said.reason}"


@contextlib.contextmanager
def _collected(refusals: dict[str, str]) -> Iterator[None]:
    handler = _Refusals(refusals)
    loggers = [
        logging.getLogger(f"executorch.backends.xnnpack.partition.config.{name}")
        for name in ("gemm_configs", "generic_node_configs", "node_configs", "xnnpack_config")
    ]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
