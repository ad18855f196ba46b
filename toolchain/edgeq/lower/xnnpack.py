"""What edgeq uses of ExecuTorch's exporter: lowering to XNNPACK. Importing it warns of its own deprecations."""

from __future__ import annotations

from edgeq.quiet import quietly

with quietly():
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant, is_qparam, is_quant
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.backend.utils import WhyNoPartition
    from executorch.exir.lowered_backend_module import LoweredBackendModule

__all__ = [
    "ALL_PARTITIONER_CONFIGS",
    "ConfigPrecisionType",
    "LoweredBackendModule",
    "WhyNoPartition",
    "XnnpackPartitioner",
    "is_dequant",
    "is_qparam",
    "is_quant",
    "to_edge_transform_and_lower",
]
