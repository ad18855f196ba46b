"""What edgeq uses of ExecuTorch's exporter: lowering to XNNPACK. Importing it warns of its own deprecations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.quiet import quietly

with quietly():
    import executorch.kernels.quantized  # noqa: F401  # the dequantize that a file calls outside of a partition
    from executorch.backends.xnnpack import xnnpack_preprocess
    from executorch.backends.xnnpack._passes import XNNPACKPassManager as PassManager
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config import generic_node_configs as generic
    from executorch.backends.xnnpack.partition.config.node_configs import MaxDimConfig
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant, is_qparam, is_quant
    from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
    from executorch.exir.backend.canonical_partitioners.config_partitioner import format_target_name
    from executorch.exir.backend.utils import WhyNoPartition
    from executorch.exir.lowered_backend_module import LoweredBackendModule
    from executorch.exir.pass_base import PassResult

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

__all__ = [
    "CONFIGS",
    "INT8_KERNELS",
    "EdgeProgramManager",
    "LoweredBackendModule",
    "PassManager",
    "PassResult",
    "WhyNoPartition",
    "XnnpackPartitioner",
    "format_target_name",
    "is_dequant",
    "is_qparam",
    "is_quant",
    "to_edge_transform_and_lower",
    "xnnpack_preprocess",
]


class _Elu(generic.EluConfig):  # type: ignore[misc]  # ExecuTorch is not typed
    """ELU, which ExecuTorch knows but does not hand over, and whose further scales it would drop."""

    def check_constraints(self, node: Node, ep: ExportedProgram) -> bool:
        plain = len(node.args) == 2 and not node.kwargs  # noqa: PLR2004  # input and alpha
        if not plain:
            generic.why(node, reason="elu with scales of its own")
        return plain and bool(super().check_constraints(node, ep))


class _Max(MaxDimConfig):  # type: ignore[misc]  # ExecuTorch is not typed
    """The largest values along an axis, which ExecuTorch hands over for any axis and then can write for two alone."""

    def check_constraints(self, node: Node, ep: ExportedProgram) -> bool:
        taken = list(node.args[1:]) in ([2, True], [3, True])
        if not taken:
            generic.why(node, reason="max along another axis than height or width, or without keepdim")
        return taken and bool(super().check_constraints(node, ep))


class _Pad(generic.ConstantPadConfig):  # type: ignore[misc]  # ExecuTorch is not typed
    """A padding with a constant.

    Behind an int8 tensor ExecuTorch makes any padding with zeros one of
    integers, but hands them over only where a convolution reads them: in
    front of anything else the file would not load.
    """

    def check_constraints(self, node: Node, ep: ExportedProgram) -> bool:
        zeros = len(node.args) < 3 or node.args[2] == 0  # noqa: PLR2004  # input, amounts, value
        read_as_integers = all(is_quant(user) or _is_int8_convolution(user) for user in node.users)
        taken = read_as_integers or not zeros or not _is_read_from_int8(node.args[0])
        if not taken:
            generic.why(node, reason="zeros around an int8 tensor that an operator in float reads")
        return taken and bool(super().check_constraints(node, ep))


def _is_read_from_int8(node: Any) -> bool:  # noqa: ANN401  # what an operator reads
    """Whether a partition may hold the integers of ``node``; it holds none of the bytes that a file takes."""
    return bool(is_dequant(node)) and torch.uint8 not in node.args


def _is_int8_convolution(node: Node) -> bool:
    return node.op == "call_function" and "convolution" in str(node.target) and bool(is_dequant(node.args[1]))


def _in_int8_too(config: type[Any]) -> type[Any]:
    """The ``config`` of an operator that ExecuTorch hands to XNNPACK in float alone, for int8 as well.

    XNNPACK evaluates it for all 256 integers and looks each value up. (In
    float between two conversions XNNPACK fuses the three into such a table
    itself, but the version in ExecuTorch 1.5 may crash on that.)
    """
    both = [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]
    return type(f"{config.__name__}InInt8Too", (config,), {"supported_precision_types": lambda _: both})


_FUNCTIONS = [
    generic.HardswishConfig,
    generic.SigmoidConfig,
    generic.TanhConfig,
    generic.GeluConfig,
    generic.LeakyReLUConfig,
]
_MENDED: dict[type[Any], type[Any]] = {
    MaxDimConfig: _Max,
    generic.ConstantPadConfig: _Pad,
    **{config: _in_int8_too(config) for config in _FUNCTIONS},
}
CONFIGS = [*(_MENDED.get(config, config) for config in ALL_PARTITIONER_CONFIGS), _Elu]
"""All that XNNPACK has kernels for."""

INT8_KERNELS = frozenset(
    config.target_name.split(".")[0]
    for config in CONFIGS
    if ConfigPrecisionType.STATIC_QUANT in config().supported_precision_types()
)
"""Operators that the partitioner gives XNNPACK in int8; it runs all others in float."""
