"""Probes of a .pte, lowered from the program that the build kept of its recipe.

A result that is stored as int8 becomes an output behind a dequantize node of
its own, the way XNNPACK hands int8 results out anyway: its layer stays fused
and stays inside of its partition.
"""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING

import torch
from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument
from torch.utils import _pytree as pytree

from edgeq.errors import ArtifactError, CorruptArtifactError
from edgeq.files import write_bytes
from edgeq.lower.executorch import lowering, suit_xnnpack, to_edge
from edgeq.lower.executorch_nodes import only_moves_values
from edgeq.lower.executorch_watch import Watched
from edgeq.lower.exported import READ, STORE, state_names
from edgeq.lower.probes import Point, Points
from edgeq.quantize.macs import operator_name
from edgeq.quantize.rewrite.activations import CLAMPS
from edgeq.quantize.source import module_of, origin_of, source_of
from edgeq.quiet import quietly
from edgeq.records import Layer, NotProbed

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.quantize import QuantizedProgram


def keep_program(program: QuantizedProgram, path: Path) -> None:
    """Write what a .pte is lowered from to ``path``; of weights that no layer reads any more one number is kept.

    ArtifactError if torch does not write it.
    """
    kept = copy.copy(program.program)  # the graph is shared: nothing of it is changed
    names = state_names(kept)
    read = {names.get(node.name) for node in kept.graph.nodes if node.op == "placeholder" and node.users}
    kept._state_dict = {  # noqa: SLF001  # no public way
        name: tensor
        if name in read or tensor.ndim <= 1
        else _one_number(tensor)  # vectors go into the .pte all the same
        for name, tensor in kept.state_dict.items()
    }
    kept._example_inputs = None  # noqa: SLF001  # the same
    buffer = io.BytesIO()
    try:
        with quietly():
            torch.export.save(kept, buffer)
    except Exception as error:  # torch raises what its writers raise
        raise ArtifactError(path, f"torch does not write it: {error}") from error
    write_bytes(path, buffer.getvalue())


def _one_number(tensor: torch.Tensor) -> torch.Tensor:
    """Something of the same shape and kind that takes no room."""
    empty = tensor.detach().new_zeros(()).expand(tensor.shape)
    return torch.nn.Parameter(empty, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else empty


def kept_program(path: Path) -> ExportedProgram:
    """The program that :func:`keep_program` wrote; its nodes still say where in the user's model they come from.

    CorruptArtifactError if torch does not read it.
    """
    try:
        with quietly():
            return torch.export.load(path)
    except Exception as error:  # torch raises what its parsers raise
        raise CorruptArtifactError(path, f"is not read by torch: {error}") from error


def points_of(program: ExportedProgram) -> Points:
    """What can be looked at: the int8 tensors, and float results that no neighbour is fused with.

    Of the nodes that one operator of the user's model became, the last counts.
    """
    points: dict[str, Point] = {}
    fused: dict[str, NotProbed] = {}
    for node in _computed(program):
        stored = [user for user in node.users if user.target == STORE]
        layer = _layer(node)
        if only_moves_values(node) and not stored:
            continue
        if len(node.users) == 1 and stored:
            points[layer.node] = Point(layer=layer, value=stored[0].name)
        elif len(node.users) == 1 and next(iter(node.users)).target in CLAMPS:
            reader = next(iter(node.users))
            fused[layer.node] = NotProbed(layer=layer, reason=f"computed in one with {operator_name(reader)} behind it")
        else:
            points.pop(layer.node, None)
            points[layer.node] = Point(layer=layer, value=node.name)
    return Points(
        outputs=tuple(map(str, program.graph_signature.user_outputs)),
        points=tuple(points.values()),
        not_probed=tuple(one for name, one in fused.items() if name not in points),
    )


def write_probe(program: ExportedProgram, values: Collection[str], path: Path, *, float_filters: bool) -> None:
    """Lower ``program``, which is consumed, with the nodes ``values`` as further outputs in their order in the graph.

    Without ``values`` this is how the artifact was lowered. ArtifactError if
    ExecuTorch refuses it.
    """
    watched = Watched()
    try:
        with lowering(watched):
            suit_xnnpack(program, float_filters=float_filters)
            _add_outputs(program, values)
            executable = to_edge(program, watched).to_executorch()
    except Exception as error:  # the passes of ExecuTorch raise whatever they raise
        raise ArtifactError(path, f"ExecuTorch does not lower it with these outputs: {error}") from error
    write_bytes(path, executable.buffer)


def _computed(program: ExportedProgram) -> list[Node]:
    """The nodes whose float results depend on the model's input, conversions aside."""
    inputs = set(program.graph_signature.user_inputs)
    found: list[Node] = []
    depending: set[Node] = set()
    for node in program.graph.nodes:
        if node.name in inputs:
            depending.add(node)
        if node.op != "call_function" or depending.isdisjoint(node.all_input_nodes):
            continue
        depending.add(node)
        value = node.meta.get("val")
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        if is_float and origin_of(node) and "quantize" not in operator_name(node):
            found.append(node)
    return found


def _layer(node: Node) -> Layer:
    return Layer(node=origin_of(node), op=operator_name(node), module=module_of(node), source=source_of(node))


def _add_outputs(program: ExportedProgram, values: Collection[str]) -> None:
    """Let the program give those of these nodes as well that it does not give, int8 ones in float."""
    graph = program.graph
    given_anyway = program.graph_signature.user_outputs
    (output,) = (node for node in graph.nodes if node.op == "output")
    added = []
    for node in list(graph.nodes):
        if node.name not in values or node.name in given_anyway:
            continue
        given = node
        if node.target == STORE:
            with graph.inserting_before(output):
                given = graph.call_function(READ, (node, *node.args[1:]))
            given.meta = dict(node.args[0].meta)
        added.append(given)
    if not added:
        return
    output.args = ((*output.args[0], *added),)
    signature = program.graph_signature
    signature.output_specs += [
        OutputSpec(kind=OutputKind.USER_OUTPUT, arg=TensorArgument(name=node.name), target=None) for node in added
    ]
    call = program.module_call_graph[0].signature
    if call is not None:
        call.out_spec = pytree.tree_structure(tuple(range(len(signature.user_outputs))))
    program.graph_module.recompile()
