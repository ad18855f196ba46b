"""BUILD/measurements.jsonl: one row for each artifact measured, only ever appended to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import ConfigError
from edgeq.files import append_line
from edgeq.records import Measurement
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What could be read, and what was passed over and why."""

    measurements: tuple[Measurement, ...]
    findings: tuple[str, ...]


def measurements_path(build: Path) -> Path:
    """Where the rows of a build are."""
    return build / "measurements.jsonl"


def append(build: Path, row: Measurement) -> None:
    """Write one row; it is on the disk when this returns."""
    append_line(measurements_path(build), to_json(row))


def read_measurements(build: Path) -> tuple[Measurement, ...]:
    """The rows of a build that can be read; none if nothing was measured."""
    return read_rows(build).measurements


def read_rows(build: Path) -> Rows:
    """The rows of a build, and a finding for each line that a crash cut short or that is no row."""
    path = measurements_path(build)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Rows(measurements=(), findings=())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    measurements, findings = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            measurements.append(from_json(Measurement, line, where=f"{path}:{number}"))
        except ConfigError as error:
            torn = number == len(lines)  # the last line has no end: a crash came while it was written
            findings.append(f"{path}:{number} was cut short by a crash and is left out" if torn else error.message)
    return Rows(measurements=tuple(measurements), findings=tuple(findings))
