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
from typing import TYPE_CHECKING

from edgeq.files import write_bytes
from edgeq.lower.coverage import Coverage, as_undelegated, grouped, share
from edgeq.lower.executorch_nodes import nodes_of
from edgeq.lower.executorch_watch import Watched
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

    from edgeq.quantize import QuantizedProgram
    from edgeq.records import FileOperator, Nodes


def lower_executorch(program: QuantizedProgram, path: Path, *, float_filters: bool = False) -> Coverage:
    """Write ``program`` to ``path`` as a .pte; RefusedError if ExecuTorch refuses it.

    ``float_filters`` says whether large depthwise filters are faster in
    float on the target's processor.
    """
    watched = Watched()
    try:
        with _quiet(), watched.watching(), shortcuts(), images_as_they_lie():
            copied = program.copy_to_lower()
            read_rows_as_channels(copied)
            if float_filters:
                filter_in_float(copied)
            edge = to_edge_transform_and_lower(
                copied, transform_passes=[read_apart], partitioner=[watched.partitioner()]
            )
            lowered = edge.exported_program()
            nodes = nodes_of(program, lowered, watched)  # the next step gives nodes other names
            operators = tuple(operators_of_pte(lowered, watched))
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
    return _coverage(program, nodes, operators, requires)


def _coverage(
    program: QuantizedProgram, nodes: Nodes, operators: tuple[FileOperator, ...], requires: Requires
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
        nodes=nodes,
        operators=operators,
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
