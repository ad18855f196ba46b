"""Layers by name: which ones a recipe leaves in float."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from edgeq.errors import RecipeError, did_you_mean
from edgeq.quantize.plan import LAYERS
from edgeq.quantize.source import module_of

if TYPE_CHECKING:
    from torch.fx import Graph, Node

    from edgeq.recipe import Recipe


def selected(graph: Graph, recipe: Recipe) -> frozenset[Node]:
    """The layers that the patterns of ``recipe.keep_float`` match, by the path of their module or the name of the node.

    The whole name of a node, no pattern, may be that of any other operation.

    RecipeError if a pattern matches none: a layer that silently becomes
    int8 after all is the worst answer to a typing error.
    """
    layers = [node for node in graph.nodes if node.target in LAYERS]
    others = {node.name: node for node in graph.nodes if node.op == "call_function" and node.target not in LAYERS}
    found: set[Node] = set()
    for pattern in recipe.keep_float:
        if pattern in others:
            found.add(others[pattern])
            continue
        matched = [layer for layer in layers if any(fnmatchcase(name, pattern) for name in names_of(layer))]
        if not matched:
            known = sorted({name for layer in layers for name in names_of(layer)})
            raise RecipeError(
                recipe.name,
                f"keep_float: no layer is called {pattern!r}",
                did_you_mean(pattern, known) or f"layers: {', '.join(known)}",
            )
        found.update(matched)
    return frozenset(found)


def names_of(layer: Node) -> tuple[str, ...]:
    """What a person may call a layer: its node's name, and its module's path in the user's model."""
    module = module_of(layer)
    return (layer.name, module) if module else (layer.name,)
