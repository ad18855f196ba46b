"""Whether a build's artifacts compute on devices what they compute on the build machine, and with each other.

Every artifact runs its golden input and some samples of the evaluation set
on every device. Where its outputs diverge, probes of it (the same program
with its layers' results as further outputs) say which layer is the first to
differ.
"""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import EdgeqError
from edgeq.files import write_text
from edgeq.records import Parity, ParityDevice
from edgeq.schema import from_json, to_json
from edgeq.stages.parity.golden import GoldenSet
from edgeq.stages.parity.on_device import BUILD_MACHINE, Place, Seen, row_of, see
from edgeq.stages.parity.probing import Probes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeq.records import Artifact, Manifest, ParityRow
    from edgeq.stages.fleet import Outcome

__all__ = [
    "BUILD_MACHINE",
    "SAMPLES",
    "Compared",
    "GoldenSet",
    "Place",
    "Probes",
    "Seen",
    "compared",
    "read_parity",
    "see",
]

SAMPLES = 8
"""Samples beside the golden input, unless somebody says another number: an emulated board is slow."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The record of a comparison, and the error of each device that failed."""

    parity: Parity
    errors: dict[str, Exception]


def compared(
    build: Path,
    manifest: Manifest,
    artifacts: Sequence[Artifact],
    golden: GoldenSet,
    outcomes: Sequence[Outcome[Seen]],
) -> Compared:
    """Hold the devices against each other as well, and write BUILD/parity.json."""
    seen = [outcome.result for outcome in outcomes if outcome.result is not None]
    rows = [row for one in seen for row in one.rows]
    rows += _between(artifacts, seen)
    found = Parity(
        model=manifest.model,
        target=manifest.target,
        created_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        samples=tuple(sample for sample in golden.samples if sample is not None),
        devices=tuple(map(_device, outcomes)),
        rows=tuple(rows),
    )
    write_text(_path(build), to_json(found, indent=2) + "\n")
    return Compared(
        parity=found, errors={outcome.device: outcome.error for outcome in outcomes if outcome.error is not None}
    )


def read_parity(build: Path) -> Parity | None:
    """What was compared last; None if nothing was, ConfigError if the record is damaged."""
    path = _path(build)
    return from_json(Parity, path.read_bytes(), where=str(path)) if path.is_file() else None


def _path(build: Path) -> Path:
    return build / "parity.json"


def _between(artifacts: Sequence[Artifact], seen: Sequence[Seen]) -> Iterator[ParityRow]:
    for artifact in artifacts:
        having = [one for one in seen if artifact.name in one.answers]
        for one, other in itertools.combinations(having, 2):
            yield row_of(artifact, other.device, one.device, one.answers[artifact.name], other.answers[artifact.name])


def _device(outcome: Outcome[Seen]) -> ParityDevice:
    error, seen = outcome.error, outcome.result
    if seen is not None:
        return ParityDevice(device=outcome.device, timing=seen.timing, facts=seen.facts)
    if isinstance(error, EdgeqError):
        return ParityDevice(device=outcome.device, error=error.message, hint=error.hint)
    return ParityDevice(device=outcome.device, error=f"{type(error).__name__}: {error}")
