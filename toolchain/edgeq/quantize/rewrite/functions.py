"""Functions of each value alone, however they are spelled: compared by their values, not by their operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten

_ELEMENTWISE = frozenset(
    (
        _ATEN.add.Tensor, _ATEN.sub.Tensor, _ATEN.mul.Tensor, _ATEN.div.Tensor, _ATEN.neg.default, _ATEN.abs.default,
        _ATEN.pow.Tensor_Scalar, _ATEN.exp.default, _ATEN.log.default, _ATEN.log1p.default, _ATEN.erf.default,
        _ATEN.sqrt.default, _ATEN.rsqrt.default, _ATEN.reciprocal.default,
        _ATEN.relu.default, _ATEN.relu6.default, _ATEN.hardtanh.default, _ATEN.clamp.default, _ATEN.clamp_min.default,
        _ATEN.clamp_max.default, _ATEN.hardsigmoid.default, _ATEN.hardswish.default, _ATEN.sigmoid.default,
        _ATEN.silu.default, _ATEN.tanh.default, _ATEN.gelu.default, _ATEN.leaky_relu.default, _ATEN.elu.default,
        _ATEN.softplus.default, _ATEN.mish.default,
    )
)  # fmt: skip

_LONGEST = 10
"""More operators than anybody spells one activation with."""

_POINTS = torch.linspace(-19.9, 20.1, 401, dtype=torch.float64)
_TOLERANCE = 1e-6

_NAMED: tuple[tuple[Any, dict[str, str]], ...] = (
    (_ATEN.hardsigmoid.default, {}),
    (_ATEN.hardswish.default, {}),
    (_ATEN.gelu.default, {}),
    (_ATEN.gelu.default, {"approximate": "tanh"}),
)


def name_functions(graph: GraphModule) -> None:
    """Write hard-sigmoid, hard-swish and GELU that are spelled out, as ``x * relu6(x + 3) / 6``, by their names.

    Both runtimes have kernels for them; spelled out each step would be one
    of its own, rounded to int8 or in float.

    Before: in-place forms are gone. After: a chain of pointwise operators
    that equals one of these functions everywhere is a single node.
    """
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    for node in list(order):
        for source in _sources(node, order):
            found = _named(node, source)
            if found is not None:
                target, options = found
                named = call(graph, node, target, source, **options)
                order[named] = order[node]
                replace(node, named)
                break


def values(result: Node, source: Node, points: torch.Tensor) -> torch.Tensor:
    """What ``result``, which depends on ``source`` alone, is where ``source`` is each of ``points``; in float64."""
    known = {source: points.double()}

    def of(node: Node) -> torch.Tensor:
        if node not in known:
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), of)
            known[node] = node.target(*args, **kwargs)  # type: ignore[operator]  # an ATen operator
        return known[node]

    return of(result)


def is_elementwise(node: Node) -> bool:
    """Whether each value that ``node`` gives depends on the values at the same place of what it reads."""
    value = node.meta.get("val")
    return (
        node.target in _ELEMENTWISE
        and isinstance(value, torch.Tensor)
        and value.dtype == torch.float32
        and all(_alike(value, source.meta.get("val")) for source in node.all_input_nodes)
    )


def _alike(value: torch.Tensor, other: object) -> bool:
    return isinstance(other, torch.Tensor) and other.dtype == value.dtype and other.shape == value.shape


def _sources(node: Node, order: Mapping[Node, int]) -> Iterator[Node]:
    """The tensors, near ones first, of each of which alone ``node`` is a function."""
    pending = {node}
    for _ in range(_LONGEST):
        latest = max(pending, key=order.__getitem__)
        if not is_elementwise(latest):
            return
        pending.remove(latest)
        pending.update(latest.all_input_nodes)
        if len(pending) == 1:
            yield next(iter(pending))


def _named(result: Node, source: Node) -> tuple[Any, dict[str, str]] | None:
    if source in result.all_input_nodes and len(set(result.all_input_nodes)) == 1 and result.target in dict(_NAMED):
        return None  # that is its name
    given = values(result, source, _POINTS)
    for target, options in _NAMED:
        error = given - target(_POINTS, **options)
        if bool((error.abs() <= _TOLERANCE * (1 + _POINTS.abs())).all()):
            return target, options
    return None
