"""Observations as sessions give them: one artifact, on an emulated board, a real one, or this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import Observation
from edgeq.testing import sample_artifact, sample_measurement

if TYPE_CHECKING:
    from collections.abc import Callable

RIGHT = "1" * 900 + "0" * 100


def observed(*, emulated: bool = False, session: str = "one", ms: float = 4.0, right: str = RIGHT, **row: Any) -> Any:
    """An observation of ``tiny.int8-static.pte``; ``row`` changes its measurement."""
    artifact = sample_artifact("int8-static", "pte")
    measured = replace(
        sample_measurement(artifact, emulated=emulated, session=session),
        latencies_ns=(int(ms * 1e6),) * 30,
        correct=right.count("1"),
        labelled=len(right),
        total=len(right),
    )
    return Observation(
        model="tiny",
        target="rpi4",
        artifact=artifact.name,
        format=artifact.format,
        recipe=artifact.recipe,
        artifact_sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        int8_mac_share=artifact.int8_mac_share,
        delegated_mac_share=artifact.delegated_mac_share,
        tools={},
        labels_sha256="labels",
        right=right,
        measured=replace(measured, **row),
    )


@pytest.fixture
def observe() -> Callable[..., Observation]:
    return observed
