"""From the rows of a build to observations: each says by itself all that a later one is compared with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from edgeq.evaluation import UNLABELLED, spread
from edgeq.records import Observation
from edgeq.stages.origin import read_origin
from edgeq.stages.report.evidence import Labels, gather, is_current, is_sound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.records import Artifact, Manifest, Measurement, Origin


def observations(build: Path, manifest: Manifest, rows: Sequence[Measurement]) -> tuple[Observation, ...]:
    """The newest of each artifact and device; an artifact that was measured nowhere is there without a measurement."""
    observer = _Observer(build, manifest)
    return tuple(observer.observe(one.artifact, one.measured) for one in gather(manifest, rows).evidence)


def all_observations(build: Path, manifest: Manifest, rows: Sequence[Measurement]) -> tuple[Observation, ...]:
    """One for each row of a file that is in the build now, oldest first; those at another pace stay in the build."""
    observer = _Observer(build, manifest)
    artifacts = {artifact.name: artifact for artifact in manifest.artifacts}
    current = [row for row in rows if is_sound(row) and is_current(row, artifacts) and row.mode == "back-to-back"]
    return tuple(
        observer.observe(artifacts[row.artifact], row) for row in sorted(current, key=lambda row: row.started_at)
    )


class _Observer:
    """What all observations of one build share."""

    def __init__(self, build: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._labels = Labels.of(build, manifest)
        self._origin: Origin | None = read_origin(build)
        self._labels_sha256 = self._fingerprint()

    def observe(self, artifact: Artifact, measured: Measurement | None) -> Observation:
        """An artifact with one row of it."""
        return Observation(
            model=self._manifest.model,
            target=self._manifest.target,
            artifact=artifact.name,
            format=artifact.format,
            recipe=artifact.recipe,
            artifact_sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            int8_mac_share=artifact.int8_mac_share,
            delegated_mac_share=artifact.delegated_mac_share,
            tools=self._manifest.tools,
            labels_sha256=self._labels_sha256,
            right=self._right(measured),
            commit=self._origin.commit if self._origin else "",
            dirty=self._origin.dirty if self._origin else False,
            measured=measured,
        )

    def _fingerprint(self) -> str:
        values = self._labels.values
        return "" if values is None else hashlib.sha256(np.asarray(values, dtype="<i8").tobytes()).hexdigest()

    def _right(self, measured: Measurement | None) -> str:
        """Whether each labelled sample was right, in the order of ``spread``: labelled samples come first there."""
        values = self._labels.values
        if measured is None or values is None or self._labels.judge(measured) is None:
            return ""
        ran = spread(values, len(values))[: len(measured.predictions)]
        in_order_of_index = np.argsort(np.argsort(ran))
        answers, labels = np.asarray(measured.predictions)[in_order_of_index], values[ran]
        right = (answers == labels)[labels != UNLABELLED]
        return "".join("1" if one else "0" for one in right.tolist())
