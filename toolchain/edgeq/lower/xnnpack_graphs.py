"""What ExecuTorch hands to XNNPACK for each partition, seen on its way into the file.

The order of the nodes there is the order in which XNNPACK runs what it makes
of them; it tells names of its own and no more.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeq.quiet import quietly

with quietly():
    from executorch.backends.xnnpack import xnnpack_preprocess
    from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNDatatype

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True)
class XnnpackNode:
    """A node as XNNPACK gets it: its type (``XNNConv2d``) and the handle of the node it was made of.

    ``elements`` is the number of its result's; ``makes_integers`` is None
    where it does not convert between floats and integers.
    """

    type: str
    handle: int
    elements: int
    makes_integers: bool | None


@contextlib.contextmanager
def seen_graphs() -> Iterator[list[tuple[XnnpackNode, ...]]]:
    """The nodes of each partition that is lowered inside the block, in the order of lowering. One thread at a time."""
    seen: list[tuple[XnnpackNode, ...]] = []
    serialize = xnnpack_preprocess.serialize_xnnpack_binary

    def look(graph: Any, data: Any) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
        values = {_tensor(value).id_out: _tensor(value) for value in graph.xvalues}
        seen.append(tuple(_node(node, values) for node in graph.xnodes))
        return serialize(graph, data)

    xnnpack_preprocess.serialize_xnnpack_binary = look
    try:
        yield seen
    finally:
        xnnpack_preprocess.serialize_xnnpack_binary = serialize


def _tensor(value: Any) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
    union = value.xvalue_union
    return getattr(union, "tensor_value", union)


def _node(node: Any, values: dict[int, Any]) -> XnnpackNode:  # noqa: ANN401  # ExecuTorch is not typed
    does = node.xnode_union
    result = values[does.output_id]
    kind = type(does).__name__
    makes_integers = None
    if kind == "XNNConvert":
        makes_integers = values[does.input_id].datatype == XNNDatatype.xnn_datatype_fp32
    return XnnpackNode(
        type=kind, handle=node.debug_handle, elements=math.prod(result.dims), makes_integers=makes_integers
    )
