"""Hold a build against the limits of its project and against a baseline; nothing is measured here.

Every figure gets an outcome, and "cannot tell" is one: it passes, unless the
check is strict, and it is always shown with its reason.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import HistoryDriverError, HistoryError, NoHistoryError, NothingToCheckError, UnknownNameError
from edgeq.project import check_tolerances
from edgeq.records import Change, CheckResult, Comparison, Observation, Tolerances
from edgeq.stages.bench import read_measurements
from edgeq.stages.change import (
    all_observations,
    between_sessions,
    in_one_session,
    observations,
    of_the_file,
    on_the_device,
    read_comparisons,
)
from edgeq.stages.check import baseline
from edgeq.stages.check.items import failures
from edgeq.stages.check.writing import CheckFormat, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Check, Manifest, Measurement
    from edgeq.stages.check.baseline import Against

__all__ = ["CheckFormat", "Request", "check", "failures", "write"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to hold a build against, and how; no ``devices`` are all that it was measured on.

    ``against`` is a BUILD, a saved file, "history" or "history:SESSION"; empty for the limits alone.
    """

    against: str = ""
    devices: tuple[str, ...] = ()
    tolerances: Mapping[str, float] = field(default_factory=dict)
    """By their names in ``[check]``, instead of the project's."""
    strict: bool = False
    save: Path | None = None


def check(build: Path, manifest: Manifest, limits: Sequence[Check], asked: Request) -> CheckResult:
    """The outcome of each limit and each figure of the newest measurements of a build.

    ``limits`` are the outcomes of the project's limits, on any device.
    Raises NothingToCheckError, NoBaselineError, HistoryError, and
    UnknownNameError for a device that nothing was measured on.
    """
    rows = read_measurements(build)
    now = _on(asked.devices, observations(build, manifest, rows), {row.device for row in rows})
    kept = [one for one in limits if not asked.devices or one.device in {None, *asked.devices}]
    tolerances = replace(manifest.tolerances or Tolerances(), **asked.tolerances)
    check_tolerances(tolerances, where="--tolerance")
    if not (asked.against or asked.save or kept):
        raise NothingToCheckError(build)
    changes: list[Change] = []
    notes: list[str] = []
    shown = ""
    if asked.against:
        against = baseline.find(asked.against, build, now)
        shown = against.shown
        judge = _Judge(
            past=(*all_observations(build, manifest, rows), *against.observations, *_history(build, now, notes)),
            comparisons=read_comparisons(build),
            tolerances=tolerances,
        )
        changes = list(_changes(against, now, judge, asked.devices))
    if asked.save:
        baseline.save(asked.save, now)
    failed = failures(kept, changes, strict=asked.strict)
    return CheckResult(
        build=str(build),
        model=manifest.model,
        target=manifest.target,
        against=shown,
        checked_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        strict=asked.strict,
        passed=not failed,
        limits=tuple(kept),
        changes=tuple(changes),
        notes=tuple(notes),
    )


def _on(devices: Sequence[str], found: Sequence[Observation], measured: set[str]) -> tuple[Observation, ...]:
    for device in devices:
        if device not in measured:
            raise UnknownNameError("device", device, measured, where="what was measured")
    return tuple(one for one in found if not devices or (one.measured and one.measured.device in devices))


def _history(build: Path, now: Sequence[Observation], notes: list[str]) -> tuple[Observation, ...]:
    """Earlier sessions, which tell how far two of them differ; a history that fails is a note: it only helps."""
    if all(one.measured is None or one.measured.timing == "emulated" for one in now):
        return ()  # no clock to compare
    try:
        return baseline.earlier(build, now)
    except (HistoryError, HistoryDriverError, NoHistoryError) as error:
        notes.append(f"{error.message}; latencies are compared without it")
        return ()


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """What helps to tell a change: sessions before, comparisons in one session, and tolerances."""

    past: tuple[Observation, ...]
    comparisons: tuple[Comparison, ...]
    tolerances: Tolerances

    def on_the_device(self, before: Observation, now: Observation, row: Measurement) -> Iterator[Change]:
        """The figures of two observations on one device, of which ``row`` is the later one's."""
        spread = between_sessions(self.past, row)
        paired = in_one_session(self.comparisons, before, now, row.device)
        return on_the_device(before, now, self.tolerances, spread, paired)


def _changes(against: Against, now: Sequence[Observation], judge: _Judge, devices: Sequence[str]) -> Iterator[Change]:
    """Each artifact's file once, then each device; what is missing on one side is a change that nobody can tell."""
    for name in dict.fromkeys(one.artifact for one in now):
        mine = [one for one in now if one.artifact == name]
        theirs = [one for one in against.observations if one.artifact == name]
        if not theirs:
            yield _untold(name, None, "file", "it is new: the baseline does not have it")
            continue
        yield from of_the_file(theirs[-1], mine[-1], judge.tolerances)
        before = {one.measured.device: one for one in theirs if one.measured}
        for one in mine:
            row = one.measured
            if row and row.device in before:
                yield from judge.on_the_device(before[row.device], one, row)
            elif row:
                yield _untold(name, row.device, "measurement", "the baseline was not measured there")
        measured = {one.measured.device for one in mine if one.measured}
        for device in before:
            if device not in measured and (not devices or device in devices):
                yield _untold(name, device, "measurement", "the baseline was measured there, this build was not")
    names = {one.artifact for one in now}
    for name in dict.fromkeys(one.artifact for one in against.observations):
        if name not in names:
            yield _untold(name, None, "file", "the baseline has it, this build has not")


def _untold(artifact: str, device: str | None, figure: str, text: str) -> Change:
    return Change(
        artifact=artifact,
        device=device,
        figure=figure,
        before=None,
        now=None,
        difference=None,
        tolerance=0.0,
        outcome="cannot tell",
        text=text,
    )
