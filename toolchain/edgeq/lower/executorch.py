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
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from edgeq.files import write_bytes
from edgeq.lower.coverage import Coverage, as_undelegated, grouped, share
from edgeq.lower.executorch_nodes import nodes_of, only_moves_values
from edgeq.lower.executorch_watch import Watched
from edgeq.lower.exported import READ
from edgeq.lower.origins import operators_of_pte
from edgeq.lower.refusal import RefusedError
from edgeq.lower.shortcuts import shortcuts
from edgeq.lower.xnnpack import to_edge_transform_and_lower
from edgeq.lower.xnnpack_bytes import images_as_they_lie
from edgeq.lower.xnnpack_float import filter_in_float
from edgeq.lower.xnnpack_reads import read_apart
from edgeq.lower.xnnpack_stems import read_rows_as_channels
from edgeq.quantize.macs import total_macs
from edgeq.records import Requires, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch.export import ExportedProgram

    from edgeq.lower.xnnpack import EdgeProgramManager
    from edgeq.quantize import QuantizedProgram
    from edgeq.records import FileOperator, Nodes, NpuEstimate


def lower_executorch(program: QuantizedProgram, path: Path, *, float_filters: bool = False) -> Coverage:
    """Write ``program`` to ``path`` as a .pte; RefusedError if ExecuTorch refuses it.

    ``float_filters`` says whether large depthwise filters are faster in
    float on the target's processor.
    """
    watched = Watched()
    try:
        with lowering(watched):
            copied = program.copy_to_lower()
            suit_xnnpack(copied, float_filters=float_filters)
            edge = to_edge(copied, watched)
            lowered = edge.exported_program()
            nodes = nodes_of(program, lowered, watched)  # the next step gives nodes other names
            operators = tuple(operators_of_pte(lowered, watched))
            executable = edge.to_executorch()
    except Exception as error:  # the passes of ExecuTorch raise whatever they raise
        raise RefusedError from error
    write_bytes(path, executable.buffer)
    return coverage_of(program, nodes, requirements(executable.executorch_program), operators=operators)


def requirements(written: Any) -> Requires:  # noqa: ANN401  # ExecuTorch is not typed
    """What a device must have for a program of ExecuTorch's, as it stands in a .pte."""
    (plan,) = written.execution_plan
    return Requires(
        runtime="executorch",
        version=importlib.metadata.version("executorch"),
        ops=tuple(sorted(f"{op.name}.{op.overload}" if op.overload else op.name for op in plan.operators)),
        backends=tuple(sorted({delegate.id for delegate in plan.delegates})),
    )


def suit_xnnpack(copied: ExportedProgram, *, float_filters: bool) -> None:
    """Rewrite a program that is about to be lowered for XNNPACK's kernels; its tensors are replaced, not changed."""
    read_rows_as_channels(copied)
    if float_filters:
        filter_in_float(copied)


def to_edge(copied: ExportedProgram, watched: Watched) -> EdgeProgramManager:
    """The program in ExecuTorch's dialect with its partitions; called inside of :func:`lowering`."""
    return to_edge_transform_and_lower(copied, transform_passes=[read_apart], partitioner=[watched.partitioner()])


def coverage_of(
    program: QuantizedProgram,
    nodes: Nodes,
    requires: Requires,
    *,
    operators: tuple[FileOperator, ...] = (),
    estimate: NpuEstimate | None = None,
) -> Coverage:
    """Sums over the nodes; a recipe that quantizes at run time leaves all but layers in float, which is no news."""
    total = sum(node.macs for node in nodes.nodes)
    told = [
        node
        for node in nodes.nodes
        if node.code and (not node.delegated or node.macs or not program.quantizes_at_run_time)
    ]
    return Coverage(
        macs=total_macs(program.float_program.graph.nodes),
        int8_mac_share=share(sum(node.macs for node in nodes.nodes if node.runs == "int8"), total),
        delegated_mac_share=share(sum(node.macs for node in nodes.nodes if node.delegated), total),
        partitions=len(nodes.partitions),
        undelegated=grouped(map(as_undelegated, told)),
        requires=requires,
        inputs=tensor_specs(program, "inputs"),
        outputs=tensor_specs(program, "outputs"),
        output_scales=output_scales(program),
        nodes=nodes,
        operators=operators,
        estimate=estimate,
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


def output_scales(program: QuantizedProgram) -> tuple[float | None, ...]:
    """For each output the scale of the int8 tensor it is read from; None for one that is computed in float."""
    names = program.program.graph_signature.user_outputs
    by_name = {node.name: node for node in program.program.graph.nodes}
    givers = [_before_moves(by_name[str(name)]) for name in names]
    return tuple(float(node.args[1]) if node.target == READ else None for node in givers)  # type: ignore[arg-type]  # a number


def _before_moves(node: Node) -> Node:
    """The node whose values ``node`` gives in another shape or order; itself where it computes."""
    while only_moves_values(node) and node.args and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


@contextlib.contextmanager
def lowering(watched: Watched) -> Iterator[None]:
    """What stands around a lowering; it replaces functions of ExecuTorch's: one thread at a time."""
    with quiet_exporter(), watched.watching(), shortcuts(), images_as_they_lie():
        yield


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
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
