"""For tests, edgeq's own and yours: a device that is a folder, and a build small enough to read.

:class:`FakeTransport` has real files and a real shell, so what edgeq does to
a device really happens; the native runner alone is played, and faults
happen on request. Nothing here needs torch, a network or a board.
"""

from __future__ import annotations

from edgeq.testing.elf import sample_library
from edgeq.testing.fake import FakeTransport, Faults, identity
from edgeq.testing.samples import (
    CLASSES,
    LABELS,
    SAMPLES,
    sample_artifact,
    sample_bundle,
    sample_deployment,
    sample_facts,
    sample_manifest,
    sample_measurement,
    sample_target,
    tiny_build,
)

__all__ = [
    "CLASSES",
    "LABELS",
    "SAMPLES",
    "FakeTransport",
    "Faults",
    "identity",
    "sample_artifact",
    "sample_bundle",
    "sample_deployment",
    "sample_facts",
    "sample_library",
    "sample_manifest",
    "sample_measurement",
    "sample_target",
    "tiny_build",
]
