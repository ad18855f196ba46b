"""Lower to ExecuTorch for an Arm Ethos-U: a .pte whose partitions Vela has compiled to commands of the NPU.

What the NPU does not take runs on the Cortex-M beside it, in ExecuTorch's
portable kernels. ``int8_mac_share`` and ``delegated_mac_share`` are alike:
the NPU computes in int8 and nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeq.files import write_bytes
from edgeq.lower.arm_words import BY_ETHOS_U, speak_arm
from edgeq.lower.coverage import share
from edgeq.lower.ethos_u_tools import AskedPartitioner, EthosUCompileSpec, ethos_u_backend, to_edge_transform_and_lower
from edgeq.lower.executorch import coverage_of, quiet_exporter, requirements
from edgeq.lower.executorch_nodes import (
    MOVES,
    called,
    delegates,
    fact_of,
    is_operator,
    movement_of,
    only_converts,
    size_of,
    turns_or_converts,
)
from edgeq.lower.executorch_watch import plain_name
from edgeq.lower.reasons import Why, for_recipe
from edgeq.lower.refusal import RefusedError
from edgeq.quantize.macs import macs, operator_name, total_macs
from edgeq.quantize.source import earlier_names
from edgeq.records import Nodes, Partition
from edgeq.vela import estimate, listening

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.lower.coverage import Coverage
    from edgeq.lower.xnnpack import LoweredBackendModule
    from edgeq.quantize import QuantizedProgram
    from edgeq.records import NodeFacts
    from edgeq.target import Npu


def lower_ethos_u(program: QuantizedProgram, npu: Npu, path: Path) -> Coverage:
    """Write ``program`` to ``path`` as a .pte for ``npu``; RefusedError if ExecuTorch or Vela refuses it.

    The file does not run on this machine.
    """
    spec = EthosUCompileSpec(npu.accelerator, system_config=npu.system_config, memory_mode=npu.memory_mode)
    partitioner = AskedPartitioner(spec)
    try:
        with quiet_exporter(), listening(ethos_u_backend) as summaries:
            copied = program.copy_to_lower()
            means = speak_arm(copied, BY_ETHOS_U) if program.recipe.quantized else 0
            # Nothing of a float program could be taken; asking about each of its nodes takes as long as lowering it.
            edge = to_edge_transform_and_lower(copied, partitioner=[partitioner] if program.recipe.quantized else None)
            nodes = _nodes_of(program, edge.exported_program(), partitioner.refusals, means)
            executable = edge.to_executorch()
    except Exception as error:  # the passes of ExecuTorch raise whatever they raise
        raise RefusedError from error
    write_bytes(path, executable.buffer)
    expected = estimate(summaries, npu, outside=sum(not node.delegated for node in nodes.nodes))
    return coverage_of(program, nodes, requirements(executable.executorch_program), estimate=expected)


def _nodes_of(program: QuantizedProgram, lowered: ExportedProgram, refusals: Mapping[str, str], means: int) -> Nodes:
    """What became of every node, from the graphs that went to Vela and what the partitioner says of the rest.

    ``means`` of the model are convolutions in ``lowered``.
    """
    parts = [_inside(module) for module in delegates(lowered)]
    outside = [node for node in lowered.graph.nodes if is_operator(node)]
    total = sum(map(total_macs, parts)) + total_macs(outside)
    facts = [_left_out(program, node, refusals, total) for node in outside if not only_converts(node)]
    for index, part in enumerate(parts):
        facts += [_taken(node, index, total) for node in part]
    return Nodes(
        nodes=tuple(facts),
        partitions=tuple(
            replace(_edges(module), index=index, mac_share=share(total_macs(part), total) if total else 0.0)
            for index, (module, part) in enumerate(zip(delegates(lowered), parts, strict=True))
        ),
        movements=tuple(movement_of(node) for node in outside if turns_or_converts(node)),
        notes=(
            "What Vela makes of the operators of a partition is not in here, but for its estimate of the whole.",
            *((f"{means} of the convolutions are means over a plane, written so for the NPU.",) if means else ()),
        ),
    )


def _inside(module: LoweredBackendModule) -> list[Node]:
    return [node for node in module.original_module.graph.nodes if is_operator(node) and not only_converts(node)]


def _edges(module: LoweredBackendModule) -> Partition:
    """What a partition holds and what crosses its edges; its place and share are the caller's to say."""
    held: ExportedProgram = module.original_module
    given = set(held.graph_signature.user_inputs)
    inputs = [node for node in held.graph.nodes if node.op == "placeholder" and node.name in given]
    outputs = next(node for node in held.graph.nodes if node.op == "output").all_input_nodes
    return Partition(
        index=0,
        operators=dict(Counter(map(operator_name, _inside(module))).most_common()),
        mac_share=0.0,
        bytes_in=sum(map(size_of, inputs)),
        bytes_out=sum(map(size_of, outputs)),
    )


def _taken(node: Node, partition: int, total: int) -> NodeFacts:
    moves = operator_name(node) in MOVES
    return fact_of(
        node,
        runs="moves" if moves else "int8",
        kernel="Ethos-U",
        delegated=True,
        partition=partition,
        total=total,
        why=Why(),
    )


def _left_out(program: QuantizedProgram, node: Node, refusals: Mapping[str, str], total: int) -> NodeFacts:
    moves = operator_name(node) in MOVES
    return fact_of(
        node,
        runs="moves" if moves else "float",
        kernel=operator_name(node),
        delegated=False,
        partition=None,
        total=total,
        why=_why_left(program, node, refusals.get(node.name, "")),
    )


_WORDS = (
    ("no-kernel", ("Not included in", "is not supported on U55")),
    ("dtype", ("dtype", "int64", "float64", "input type")),
    ("dynamic-shape", ("ymbolic", "resolved")),
)
"""Which code the words of Arm's backend come to."""

_NOT_INT8 = ("not marked as quantized", "were not quantized", "had fp dtype")
"""Its words for a node between floats."""


def _why_left(program: QuantizedProgram, node: Node, said: str) -> Why:
    name = plain_name(operator_name(node))
    if not program.recipe.quantized:
        return Why("dtype", f"an Ethos-U computes in int8, and this {name} is float")
    if said and not any(words in said for words in _NOT_INT8):
        return _as_said(name, said)
    layer = bool(macs(node)) and len(node.args) > 1
    chosen = for_recipe(program.recipe, names=earlier_names(node), is_layer=layer, is_product=False)
    if chosen is not None:
        return chosen
    floats = [near for near in node.all_input_nodes if not only_converts(near) and near.op == "call_function"]
    if floats:
        return Why("float-operands", f"it reads {called(floats[0])}, which is float")
    readers = [user for user in node.users if not only_converts(user)]
    if readers:
        what = called(readers[0]) if readers[0].op == "call_function" else "the model's output"
        return Why("float-operands", f"its result goes to {what} in float")
    return Why("no-kernel", f"edgeq hands the Ethos-U no int8 {name} of this form")


def _as_said(name: str, said: str) -> Why:
    code = next((code for code, words in _WORDS if any(word in said for word in words)), "constraint")
    if code == "no-kernel":  # Arm's words name a list of its own source code
        return Why(code, f"the Ethos-U has nothing for {name}")
    return Why(code, f"the Ethos-U does not take this {name}: {said.strip().rstrip('.')}")
