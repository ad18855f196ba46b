"""Rewrites of the float graph that change no result and let both runtimes see the patterns they fuse.

One rewrite a file. Each takes a functional graph of ATen operators, changes
it in place and keeps its outputs equal up to float rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.quantize.rewrite.activations import name_clamps_alike
from edgeq.quantize.rewrite.batch_norm import fold_batch_norms
from edgeq.quantize.rewrite.batches import multiply_in_batches
from edgeq.quantize.rewrite.constants import fold_constants
from edgeq.quantize.rewrite.contiguous import make_constants_contiguous
from edgeq.quantize.rewrite.copies import drop_copies
from edgeq.quantize.rewrite.functions import name_functions
from edgeq.quantize.rewrite.maximum import pool_to_one_maximum
from edgeq.quantize.rewrite.padding import fold_padding
from edgeq.quantize.rewrite.permutations import turn_few_axes
from edgeq.quantize.rewrite.pooling import pool_globally_by_mean
from edgeq.quantize.rewrite.products import name_linear_layers
from edgeq.quantize.rewrite.scalars import make_scalars_float
from edgeq.quantize.rewrite.scales import fold_scales
from edgeq.quantize.rewrite.shapes import reduce_to_reshapes_and_slices
from edgeq.quantize.rewrite.signals import pool_signals_as_planes
from edgeq.quantize.rewrite.spelling import spell_out
from edgeq.quantize.rewrite.thin_inputs import widen_thin_inputs

if TYPE_CHECKING:
    from torch.fx import GraphModule

BEFORE_CONSTANTS = (drop_copies, name_functions, spell_out, fold_scales)
"""The rewrites after which constants are still computed from the module's own parameters."""

REWRITES = (
    *BEFORE_CONSTANTS,
    fold_constants,
    make_constants_contiguous,
    fold_batch_norms,
    fold_padding,
    widen_thin_inputs,
    pool_globally_by_mean,
    pool_signals_as_planes,
    pool_to_one_maximum,
    make_scalars_float,
    name_clamps_alike,
    name_linear_layers,
    multiply_in_batches,
    reduce_to_reshapes_and_slices,
    turn_few_axes,
)


def simplify(graph: GraphModule) -> None:
    """Apply every rewrite in order."""
    for rewrite in REWRITES:
        rewrite(graph)
        graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
