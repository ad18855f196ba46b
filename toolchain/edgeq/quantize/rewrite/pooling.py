"""Global average pooling by any name becomes a mean over the two spatial dimensions of a 4-D tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_PLANE = (2, 3)


def pool_globally_by_mean(graph: GraphModule) -> None:
    """Write global average pooling as ``mean(dim=(2, 3), keepdim=True)``, reshaped before and after where needed.

    XNNPACK has an int8 kernel for that form alone; ``x.mean((2, 3))``,
    a pooling window of the whole plane, and the mean over the length of a
    1-D signal would run in float outside it.

    Before: any graph. After: every mean over all of a plane or a signal has
    this form.
    """
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and _pools_globally(node):
            _rewrite(graph, node)


def _pools_globally(node: Node) -> bool:
    value, source = node.meta.get("val"), node.args[0] if node.args else None
    if not isinstance(value, torch.Tensor) or not isinstance(source, torch.fx.Node):
        return False
    if not isinstance(source.meta.get("val"), torch.Tensor):
        return False
    shape = source.meta["val"].shape
    if node.target == _ATEN.mean.dim:
        spatial = tuple(range(2, len(shape)))
        return not node.kwargs.get("dtype") and bool(node.args[1]) and _dims(node) == spatial and len(shape) in (3, 4)
    if node.target in (_ATEN.adaptive_avg_pool1d.default, _ATEN.adaptive_avg_pool2d.default):
        return len(shape) == value.dim() and all(size == 1 for size in value.shape[2:]) and len(shape) in (3, 4)
    if node.target in (_ATEN.avg_pool1d.default, _ATEN.avg_pool2d.default):
        return _window_is_everything(node, shape)
    return False


def _window_is_everything(node: Node, shape: torch.Size) -> bool:
    kernel: Any = node.args[1]
    spatial = tuple(shape[2:])
    kernel = tuple(kernel) * len(spatial) if len(kernel) == 1 else tuple(kernel)
    padding: Any = node.args[3] if len(node.args) > 3 else (0,)  # noqa: PLR2004  # input, kernel, stride, padding
    unusual = any(arg is not None for arg in node.args[6:])
    return len(shape) in (3, 4) and kernel == spatial and not any(padding) and not unusual


def _dims(node: Node) -> tuple[int, ...]:
    rank = node.args[0].meta["val"].dim()  # type: ignore[union-attr]  # checked by the caller
    return tuple(sorted(dim % rank for dim in node.args[1]))  # type: ignore[union-attr]


def _rewrite(graph: GraphModule, node: Node) -> None:
    source: Any = node.args[0]
    batch, channels, *plane = source.meta["val"].shape
    if len(plane) == 1:
        source = call(graph, node, _ATEN.reshape.default, source, [batch, channels, 1, *plane])
    mean = call(graph, node, _ATEN.mean.dim, source, list(_PLANE), True)
    shape = list(node.meta["val"].shape)
    replace(
        node, mean if list(mean.meta["val"].shape) == shape else call(graph, node, _ATEN.reshape.default, mean, shape)
    )
