"""The exporter's notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def strip_metadata(model: ir.Model) -> None:
    """Remove the exporter's notes: source lines and paths of the machine it ran on have no place in a product.

    Before: the source lines have been read. After: neither the model nor
    anything in it has metadata or a doc string.
    """
    for holder in (model, model.graph, *model.graph, *model.graph.inputs, *model.graph.outputs):
        holder.metadata_props.clear()
        holder.meta.clear()
    for node in model.graph:
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
