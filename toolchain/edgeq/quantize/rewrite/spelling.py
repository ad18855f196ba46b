"""Activations without a kernel, in operators that have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant, is_constant
from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule

_ATEN = torch.ops.aten

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al., "Self-Normalizing Neural Networks" (NeurIPS 2017)."""

_NOT_IMAGES = (2, 3)
"""Dimensions of rows of features and of signals, channels second."""


def spell_out(graph: GraphModule) -> None:
    """Write what XNNPACK has no kernel for in operators that it has.

    Hard-sigmoid as a clamp of ``x / 6 + 1 / 2``, whose product and sum the
    layer before it takes in (:func:`edgeq.quantize.rewrite.scales.fold_scales`); ExecuTorch's
    decomposition has a conversion XNNPACK does not take. SiLU as
    ``x * sigmoid(x)``, SELU as a scaled ELU, PReLU with a single slope as
    leaky ReLU, with a slope for each channel on rows and signals as that of
    an image.

    Before: names are given
    (:func:`edgeq.quantize.rewrite.functions.name_functions`). After: no
    hardsigmoid, silu or selu is left, no prelu with a single slope, and
    none on rows or signals.
    """
    for node in list(graph.graph.nodes):
        match node.target:
            case _ATEN.hardsigmoid.default:
                product = call(graph, node, _ATEN.mul.Tensor, node.args[0], 1.0 / 6.0)
                raised = call(graph, node, _ATEN.add.Tensor, product, 0.5)
                replace(node, call(graph, node, _ATEN.hardtanh.default, raised, 0.0, 1.0))
            case _ATEN.silu.default:
                gate = call(graph, node, _ATEN.sigmoid.default, node.args[0])
                replace(node, call(graph, node, _ATEN.mul.Tensor, node.args[0], gate))
            case _ATEN.selu.default:
                curve = call(graph, node, _ATEN.elu.default, node.args[0], _SELU_ALPHA)
                replace(node, call(graph, node, _ATEN.mul.Tensor, curve, _SELU_SCALE))
            case _ATEN.elu.default if len(node.args) == 1:
                node.args = (node.args[0], 1.0)
            case _ATEN.prelu.default if is_constant(node.args[1]) and node.args[1].meta["val"].numel() == 1:
                slope = float(constant(graph, node.args[1]))
                replace(node, call(graph, node, _ATEN.leaky_relu.default, node.args[0], slope))
            case _ATEN.prelu.default if len(shape := list(node.args[0].meta["val"].shape)) in _NOT_IMAGES:
                # XNNPACK is handed a slope for each channel at any rank, and takes images only.
                image = call(graph, node, _ATEN.reshape.default, node.args[0], [*shape, *[1] * (4 - len(shape))])
                curve = call(graph, node, _ATEN.prelu.default, image, node.args[1])
                replace(node, call(graph, node, _ATEN.reshape.default, curve, shape))
