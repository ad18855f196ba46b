"""What an artifact gives where it lies on a device, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgeq.errors import RunnerProtocolError
from edgeq.stages.deployed import run_untimed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Deployment

Kind: TypeAlias = tuple[tuple[int, ...], str]
"""An output's shape, and numpy's name of its dtype."""

_SILENCE_S = 600.0
"""How long one inference may take before the device counts as dead: an emulated one computes floats in software."""


def run(  # noqa: PLR0913  # an artifact, where it lies, and what goes in and out
    transport: Transport,
    deployment: Deployment,
    artifact: Artifact,
    samples: Iterable[bytes],
    kinds: Sequence[Kind],
    *,
    progress: Progress,
) -> list[tuple[np.ndarray, ...]]:
    """The outputs of each sample, one thread; ``kinds`` says what they are.

    DeviceError if the device or its runner fails, RunnerProtocolError if it
    gives another number of bytes.
    """
    found: list[tuple[np.ndarray, ...]] = []

    def keep(_index: int, data: bytes) -> None:
        found.append(_arrays(data, kinds, device=transport.name, name=artifact.name))
        progress.advance(len(found))

    run_untimed(transport, deployment, artifact, samples, keep, timeout_s=_SILENCE_S)
    return found


def kinds_of(artifact: Artifact) -> tuple[Kind, ...]:
    """What the manifest says of the artifact's outputs."""
    return tuple((spec.shape, spec.dtype) for spec in artifact.outputs)


def arrays_of(data: bytes, artifact: Artifact) -> tuple[np.ndarray, ...]:
    """The artifact's outputs from the bytes that a build keeps of them."""
    return _arrays(data, kinds_of(artifact), device="the build machine", name=artifact.name)


def _arrays(data: bytes, kinds: Sequence[Kind], *, device: str, name: str) -> tuple[np.ndarray, ...]:
    sizes = [int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for shape, dtype in kinds]
    if sum(sizes) != len(data):
        raise RunnerProtocolError(device, f"{name} gave {len(data)} bytes where its outputs have {sum(sizes)}")
    found: list[np.ndarray] = []
    start = 0
    for (shape, dtype), size in zip(kinds, sizes, strict=True):
        found.append(np.frombuffer(data[start : start + size], dtype=dtype).reshape(shape))
        start += size
    return tuple(found)
