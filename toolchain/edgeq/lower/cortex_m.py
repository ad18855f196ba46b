"""Lower to ExecuTorch for an Arm Cortex-M without NPU: int8 operators become calls of CMSIS-NN's kernels.

ExecuTorch's passes rewrite the graph in place: there are no partitions.
What CMSIS-NN has no kernel for runs in ExecuTorch's portable kernels. Both
shares count what runs in CMSIS-NN, which computes in int8 alone.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from edgeq.files import write_bytes
from edgeq.lower.arm_words import BY_CMSIS_NN, speak_arm, spell_linear_as_convolution
from edgeq.lower.cortex_m_tools import CortexM, CortexMPassManager, CortexMTargetConfig, edge_config, to_edge
from edgeq.lower.coverage import share
from edgeq.lower.executorch import coverage_of, quiet_exporter, requirements
from edgeq.lower.executorch_nodes import MOVES, fact_of, is_operator, movement_of, only_converts, turns_or_converts
from edgeq.lower.executorch_watch import plain_name, values_of
from edgeq.lower.reasons import Why
from edgeq.lower.refusal import RefusedError
from edgeq.quantize.macs import macs, operator_name
from edgeq.quiet import quietly
from edgeq.records import Nodes

if TYPE_CHECKING:
    from pathlib import Path

    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.lower.coverage import Coverage
    from edgeq.quantize import QuantizedProgram
    from edgeq.records import NodeFacts
    from edgeq.target import CmsisNn


def lower_cortex_m(program: QuantizedProgram, cmsis_nn: CmsisNn, path: Path) -> Coverage:
    """Write ``program`` to ``path`` as a .pte for that core; RefusedError if ExecuTorch refuses it.

    The file does not run on this machine.
    """
    core = CortexMTargetConfig(cpu=CortexM[cmsis_nn.core.removeprefix("cortex-").upper()])
    try:
        with quiet_exporter(), quietly():
            copied = program.copy_to_lower()
            if program.recipe.quantized:
                spell_linear_as_convolution(copied)
                speak_arm(copied, BY_CMSIS_NN)
            edge = to_edge(copied, compile_config=edge_config())
            if program.recipe.quantized:
                passes = CortexMPassManager(edge.exported_program(), target_config=core, use_explicit_layout=True)
                edge._edge_programs["forward"] = passes.transform()  # noqa: SLF001  # its own transform() takes no such passes
            _require_floats(edge.exported_program())
            nodes = _nodes_of(program, edge.exported_program())
            executable = edge.to_executorch()
    except Exception as error:  # the passes of ExecuTorch raise whatever they raise
        raise RefusedError from error
    write_bytes(path, executable.buffer)
    return coverage_of(program, nodes, requirements(executable.executorch_program))


def _require_floats(lowered: ExportedProgram) -> None:
    """TypeError where a portable kernel would take the integers of a quantized tensor for its values."""
    for node in lowered.graph.nodes:
        alone = is_operator(node) and not _is_cmsis_nn(node) and not turns_or_converts(node)
        if alone and any(
            value.dtype == torch.int8 for near in (node, *node.all_input_nodes) for value in values_of(near)
        ):
            raise TypeError(f"{operator_name(node)} is left with int8 tensors, which no kernel of ExecuTorch computes")


def _nodes_of(program: QuantizedProgram, lowered: ExportedProgram) -> Nodes:
    nodes = [node for node in lowered.graph.nodes if is_operator(node)]
    total = sum(map(_macs, nodes))
    return Nodes(
        nodes=tuple(_fact(program, node, total) for node in nodes if not _converts(node)),
        movements=tuple(movement_of(node) for node in nodes if turns_or_converts(node) and not _is_cmsis_nn(node)),
        notes=("CMSIS-NN computes on images whose channels are last: what turns them stands among the nodes.",),
    )


def _fact(program: QuantizedProgram, node: Node, total: int) -> NodeFacts:
    taken, moves = _is_cmsis_nn(node), operator_name(node) in MOVES | {"transpose", "pad"}
    why = Why()
    if not taken and not (moves and program.recipe.quantized):
        name = plain_name(operator_name(node))
        why = (
            Why("no-kernel", f"CMSIS-NN takes no {name} here; a portable kernel computes it")
            if program.recipe.quantized
            else Why("dtype", f"CMSIS-NN computes in int8, and this {name} is float")
        )
    fact = fact_of(
        node,
        runs="moves" if moves else "int8" if taken else "float",
        kernel=f"CMSIS-NN {operator_name(node)}" if taken else operator_name(node),
        delegated=taken,
        partition=None,
        total=total,
        why=why,
    )
    count = _macs(node)
    return replace(fact, macs=count, mac_share=share(count, total) if total else 0.0)


def _is_cmsis_nn(node: Node) -> bool:
    return getattr(node.target, "__name__", "").startswith("cortex_m.")


def _converts(node: Node) -> bool:
    return only_converts(node) or operator_name(node) in ("quantize_per_tensor", "dequantize_per_tensor")


def _macs(node: Node) -> int:
    """Multiply-accumulates of a node, CMSIS-NN's among them: their weights have the output's channels first or last."""
    name = operator_name(node)
    if not _is_cmsis_nn(node) or "conv2d" not in name:
        return macs(node)
    data, weight = (_shape(arg) for arg in node.args[:2])
    if "transpose" in name:
        return prod(data) * prod(weight[:3])
    per_output = prod(weight[1:3]) if "depthwise" in name else prod(weight[1:])
    return prod(_shape(node)) * per_output


def _shape(node: Any) -> tuple[int, ...]:  # noqa: ANN401  # an argument of a node
    return tuple(map(int, node.meta["val"].shape))
