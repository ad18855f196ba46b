"""An image whose channels lie side by side, given to XNNPACK as it lies.

XNNPACK computes images channels last, ExecuTorch's graphs name channels
first. An artifact that takes bytes as (1, height, width, channels) turns them
first, and ExecuTorch turns them back in front of the convolution: two
transposes of the whole image that cancel. ExecuTorch removes two such copies
of its own making only, so that is done here, when its passes over a partition
are through. Where the pattern is not found, both stay, and the file computes
the same.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from edgeq.lower.xnnpack import PassManager, is_dequant, is_quant
from edgeq.quantize.macs import operator_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

_TO_CHANNELS_FIRST = [0, 3, 1, 2]
_LIES_CHANNELS_LAST = "XNN_NHWC_NODE"
"""ExecuTorch's word for a value whose shape names channels first and whose numbers lie channels last."""


@contextlib.contextmanager
def images_as_they_lie() -> Iterator[None]:
    """Lower without such pairs inside the block. It replaces a method of ExecuTorch: one thread at a time."""
    before = PassManager.transform

    def transform(manager: PassManager) -> ExportedProgram:
        program: ExportedProgram = before(manager)
        _cancel(program.graph_module, frozenset(map(str, program.graph_signature.user_inputs)))
        return program

    PassManager.transform = transform
    try:
        yield
    finally:
        PassManager.transform = before


def _cancel(module: GraphModule, inputs: frozenset[str]) -> None:
    for turned in [node for node in module.graph.nodes if _turns_to_channels_first(node)]:
        image: Node = turned.args[0]
        path = _to_the_copy_back(turned)
        integers = bool(is_dequant(image))
        first, last = (
            _result(node, integers=integers) if node else None for node in (turned, path[-1] if path else None)
        )
        if first is None or last is None or len(image.users) != 1 or not _is_an_image(image, inputs):
            continue
        between = [node for node in path[:-1] if node not in (first, first.args[0])]
        first.replace_all_uses_with(image)
        last.replace_all_uses_with(path[-1].args[0])  # type: ignore[arg-type]  # a copy reads a node
        for end, start in ((last, path[-1]), (first, turned)):
            for node in (end, end.args[0], start) if integers else (start,):
                module.graph.erase_node(node)  # type: ignore[arg-type]  # a dequantize node reads a node
        for value in (image, image.args[0]) if integers else (image,):
            value.meta["val"] = value.meta["val"].permute(_TO_CHANNELS_FIRST)  # type: ignore[union-attr]  # both are nodes
            value.meta[_LIES_CHANNELS_LAST] = True  # type: ignore[union-attr]  # the same
        for node in between:
            node.meta[_LIES_CHANNELS_LAST] = True
    module.recompile()


def _is_an_image(value: Node, inputs: frozenset[str]) -> bool:
    """Whether ``value`` is an input of the partition, at most normalised and quantized: none writes a shape down."""
    if is_dequant(value):
        if not is_quant(value.args[0]):
            return False
        value = value.args[0].args[0]  # type: ignore[union-attr, assignment]  # a quantize node reads a node
    while value.op == "call_function" and operator_name(value) in ("sub", "div"):
        value = value.args[0]  # type: ignore[assignment]  # arithmetic reads a node
    return value.op == "placeholder" and value.name in inputs


def _turns_to_channels_first(node: Node) -> bool:
    is_permute = node.op == "call_function" and operator_name(node) == "permute_copy"
    return is_permute and list(node.args[1]) == _TO_CHANNELS_FIRST and not node.meta.get(_LIES_CHANNELS_LAST)  # type: ignore[arg-type]  # a list


def _to_the_copy_back(turned: Node) -> list[Node]:
    """What reads ``turned``, each alone, as far as the copy back to channels last; nothing if another node comes first.

    Between the two may lie what does not ask where a number lies, and a
    padding, which ExecuTorch writes for both.
    """
    path, node = [], turned
    while len(node.users) == 1:
        node = next(iter(node.users))
        path.append(node)
        if operator_name(node) == "_to_copy":
            return path if node.kwargs.get("memory_format") == torch.channels_last else []
        if not (is_quant(node) or is_dequant(node) or operator_name(node) == "constant_pad_nd"):
            return []
    return []


def _result(node: Node, *, integers: bool) -> Node | None:
    """What stands for the result of ``node``: behind quantize and dequantize if it is stored as ``integers``."""
    for kind in (is_quant, is_dequant) if integers else ():
        node, *others = node.users
        if others or not kind(node):
            return None
    return node
