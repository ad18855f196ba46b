"""The AARs of the runtimes on Maven Central."""

from __future__ import annotations

from dataclasses import replace

from edgeq.mobile.releases import Releases

EXECUTORCH = Releases(
    name="org.pytorch:executorch-android",
    registry="Maven Central",
    versions=("0.7.0", "1.0.0", "1.0.1", "1.2.0", "1.3.0", "1.3.1", "1.4.0", "1.4.1", "1.5.1"),
    seen_on="2026-11-25",
    rule="the runtime of the same or of the next minor release reads the file (ExecuTorch's compatibility policy), an "
    "older one need not",
)
EXECUTORCH_VULKAN = replace(EXECUTORCH, name="org.pytorch:executorch-android-vulkan", versions=("1.1.0", "1.5.1"))
"""The same runtime with Vulkan beside XNNPACK, in the place of the other; the list has the releases that were seen."""
ONNXRUNTIME = Releases(
    name="com.microsoft.onnxruntime:onnxruntime-android",
    registry="Maven Central",
    versions=(
        "1.18.0", "1.19.0", "1.19.2", "1.20.0", "1.21.0", "1.21.1", "1.22.0", "1.23.0", "1.23.1", "1.23.2", "1.24.2",
        "1.24.3", "1.25.0", "1.25.1", "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0", "1.31.0",
    ),
    seen_on="2026-11-25",
    rule="another patch of the same minor release or any newer release reads the file; an older one does if it knows "
    "the model's operator sets, and says so when it loads if not",
)  # fmt: skip
