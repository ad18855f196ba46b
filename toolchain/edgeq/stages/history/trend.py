"""How the figures of a project moved from session to session."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from edgeq.records import Change, Measurement, Observation, Timing
from edgeq.stages.change import between_sessions, of_the_file, on_the_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Tolerances
    from edgeq.stages.history import Past


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement: what it was of, and its figures; None is not measured (an emulated board has no ``p50_ms``)."""

    session: str
    started_at: str
    commit: str
    dirty: bool
    artifact_sha256: str
    p50_ms: float | None
    instructions: int | None
    peak_rss_bytes: int | None
    size_bytes: int
    accuracy: float | None
    labelled: int


@dataclass(frozen=True, kw_only=True)
class Series:
    """One artifact on one device, oldest first; ``changes`` hold the last against the first."""

    target: str
    artifact: str
    device: str
    timing: Timing
    points: tuple[Point, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call of ``edgeq bench``; its ``id`` is what ``edgeq check --against history:ID`` takes."""

    id: str
    started_at: str
    target: str
    device: str
    commit: str
    dirty: bool
    artifacts: int


@dataclass(frozen=True, kw_only=True)
class Trend:
    """All of that, and where it was read."""

    schema: int = 1
    place: str
    model: str
    series: tuple[Series, ...]
    sessions: tuple[Session, ...]


_Measured: TypeAlias = tuple[Observation, Measurement]


def trend(past: Past, model: str, tolerances: Tolerances) -> Trend:
    """The series and sessions of what was read."""
    measured = [(one, one.measured) for one in past.observations if one.measured]
    groups: dict[tuple[str, str, str], list[_Measured]] = {}
    sessions: dict[str, list[_Measured]] = {}
    for one, row in measured:
        groups.setdefault((one.target, row.device, one.artifact), []).append((one, row))
        sessions.setdefault(row.session, []).append((one, row))
    return Trend(
        place=past.place,
        model=model,
        series=tuple(_series(group, tolerances) for _, group in sorted(groups.items())),
        sessions=tuple(_session(session) for session in sessions.values()),
    )


def _series(group: Sequence[_Measured], tolerances: Tolerances) -> Series:
    (first, _), (last, row) = group[0], group[-1]
    changes: tuple[Change, ...] = ()
    if len(group) > 1:
        spread = between_sessions([one for one, _ in group], row)
        changes = (*on_the_device(first, last, tolerances, spread), *of_the_file(first, last, tolerances))
    return Series(
        target=last.target,
        artifact=last.artifact,
        device=row.device,
        timing=row.timing,
        points=tuple(_point(*one) for one in group),
        changes=changes,
    )


def _point(one: Observation, row: Measurement) -> Point:
    timed = row.timing != "emulated" and row.latencies_ns
    return Point(
        session=row.session,
        started_at=row.started_at,
        commit=one.commit,
        dirty=one.dirty,
        artifact_sha256=one.artifact_sha256,
        p50_ms=statistics.median(row.latencies_ns) / 1e6 if timed else None,
        instructions=row.instructions,
        peak_rss_bytes=row.peak_rss_bytes,
        size_bytes=one.size_bytes,
        accuracy=row.correct / row.labelled if row.correct is not None and row.labelled else None,
        labelled=row.labelled,
    )


def _session(session: Sequence[_Measured]) -> Session:
    first, row = session[0]
    return Session(
        id=row.session,
        started_at=min(one.started_at for _, one in session),
        target=first.target,
        device=row.device,
        commit=first.commit,
        dirty=first.dirty,
        artifacts=len(session),
    )
