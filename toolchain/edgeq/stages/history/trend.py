"""How the figures of a project moved from session to session."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.records import Change, Timing
from edgeq.stages.change import between_sessions, of_the_file, on_the_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Observation, Tolerances
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


def trend(past: Past, model: str, tolerances: Tolerances) -> Trend:
    """The series and sessions of what was read."""
    groups: dict[tuple[str, str, str], list[Observation]] = {}
    sessions: dict[str, list[Observation]] = {}
    for one in past.observations:
        if one.measured:
            groups.setdefault((one.target, one.measured.device, one.artifact), []).append(one)
            sessions.setdefault(one.measured.session, []).append(one)
    return Trend(
        place=past.place,
        model=model,
        series=tuple(_series(group, tolerances) for _, group in sorted(groups.items())),
        sessions=tuple(_session(session) for session in sessions.values()),
    )


def _series(group: Sequence[Observation], tolerances: Tolerances) -> Series:
    first, last = group[0], group[-1]
    assert last.measured is not None  # noqa: S101  # grouped by their device
    changes: tuple[Change, ...] = ()
    if len(group) > 1:
        spread = between_sessions(group, last.measured)
        changes = (*on_the_device(first, last, tolerances, spread), *of_the_file(first, last, tolerances))
    return Series(
        target=last.target,
        artifact=last.artifact,
        device=last.measured.device,
        timing=last.measured.timing,
        points=tuple(_point(one) for one in group),
        changes=changes,
    )


def _point(one: Observation) -> Point:
    row = one.measured
    assert row is not None  # noqa: S101  # as above
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


def _session(session: Sequence[Observation]) -> Session:
    first = session[0]
    assert first.measured is not None  # noqa: S101  # as above
    return Session(
        id=first.measured.session,
        started_at=min(one.measured.started_at for one in session if one.measured),
        target=first.target,
        device=first.measured.device,
        commit=first.commit,
        dirty=first.dirty,
        artifacts=len(session),
    )
