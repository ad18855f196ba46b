"""The AARs of the runtimes on Maven Central."""

from __future__ import annotations

from edgeq.mobile.releases import Releases

EXECUTORCH = Releases(
    name="org.pytorch:executorch-android",
    registry="Maven Central",
    versions=("0.7.0", "1.0.0", "1.0.1", "1.1.0", "1.2.0", "1.3.0", "1.3.1"),
    seen_on="2026-06-30",
    rule="take the nearest newer one of the same major version (a runtime reads the .pte of older exporters, not of "
    "newer ones) and run the golden test",
)
ONNXRUNTIME = Releases(
    name="com.microsoft.onnxruntime:onnxruntime-android",
    registry="Maven Central",
    versions=(
        "1.18.0", "1.19.0", "1.19.2", "1.20.0", "1.21.0", "1.21.1", "1.22.0", "1.23.0", "1.23.1", "1.23.2", "1.24.2",
        "1.24.3", "1.25.0", "1.25.1", "1.26.0", "1.27.0",
    ),
    seen_on="2026-06-30",
    rule="take the nearest newer one, or the newest older one whose operator sets the model does not exceed (it says "
    "so when it loads), and run the golden test",
)  # fmt: skip
