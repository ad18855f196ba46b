"""Rewrites of an exported QDQ graph after which ONNX Runtime fuses every int8 layer.

One rewrite a file. Each takes the graph, changes it in place, and keeps what it computes.
"""

from __future__ import annotations

from edgeq.lower.onnx_rewrites.biases import quantize_biases
from edgeq.lower.onnx_rewrites.calls import compute_each_call
from edgeq.lower.onnx_rewrites.clamps import clamp_integers
from edgeq.lower.onnx_rewrites.hard_swish import multiply_hard_swish
from edgeq.lower.onnx_rewrites.image_bytes import read_bytes_as_they_are
from edgeq.lower.onnx_rewrites.kept_float import keep_in_float
from edgeq.lower.onnx_rewrites.metadata import strip_metadata
from edgeq.lower.onnx_rewrites.padding import pad_inside_convolutions
from edgeq.lower.onnx_rewrites.pool_padding import protect_padding_of_pools
from edgeq.lower.onnx_rewrites.pooling import pool_globally
from edgeq.lower.onnx_rewrites.products import multiply_as_gemm
from edgeq.lower.onnx_rewrites.stems import read_blocks_as_channels
from edgeq.lower.onnx_rewrites.unsigned import use_unsigned_activations
from edgeq.lower.onnx_rewrites.weights import transpose_weights

__all__ = [
    "clamp_integers",
    "compute_each_call",
    "keep_in_float",
    "multiply_as_gemm",
    "multiply_hard_swish",
    "pad_inside_convolutions",
    "pool_globally",
    "protect_padding_of_pools",
    "quantize_biases",
    "read_blocks_as_channels",
    "read_bytes_as_they_are",
    "strip_metadata",
    "transpose_weights",
    "use_unsigned_activations",
]
