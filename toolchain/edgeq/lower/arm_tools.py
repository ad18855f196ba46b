"""What edgeq uses of what ExecuTorch's backends for Arm share. Importing it takes nothing but ExecuTorch."""

from __future__ import annotations

from edgeq.quiet import quietly

with quietly():
    from executorch.backends.arm.common.annotation_meta import ArmAnnotationInfo
    from executorch.backends.transforms.utils import create_constant_placeholder, delete_constant_placeholder

__all__ = ["MARK", "create_constant_placeholder", "delete_constant_placeholder"]

MARK = {ArmAnnotationInfo.CUSTOM_META_KEY: ArmAnnotationInfo(quantized=True)}
"""What Arm's own quantizer writes under ``meta["custom"]`` of a node that it made int8."""
