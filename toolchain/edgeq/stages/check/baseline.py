"""What a build is held against: another build, a saved file, or the history."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import ConfigError, NoBaselineError
from edgeq.files import write_text
from edgeq.records import Baseline, Manifest, Observation
from edgeq.schema import from_json, to_json
from edgeq.stages import history
from edgeq.stages.bench import read_measurements
from edgeq.stages.change import observations

if TYPE_CHECKING:
    from collections.abc import Sequence


HISTORY = "history"
_SESSION = "history:"
_KEPT = 200
"""Sessions of an artifact and a device that are looked at."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """A baseline: its name for people, and one observation of each artifact and device at most."""

    shown: str
    observations: tuple[Observation, ...]


def find(against: str, build: Path, now: Sequence[Observation]) -> Against:
    """The baseline that ``against`` names. NoBaselineError if it names none, HistoryError if the history fails."""
    if against == HISTORY or against.startswith(_SESSION):
        found = _of_history(against, build, now)
    else:
        path = Path(against)
        if (path / "manifest.json").is_file():
            found = _of_build(path)
        elif path.is_file():
            found = _of_file(path)
        else:
            reason = "it has no manifest.json" if path.is_dir() else "there is no such file or folder"
            raise NoBaselineError(against, reason)
    names = {one.artifact for one in now}
    if found.observations and not names & {one.artifact for one in found.observations}:
        theirs = ", ".join(sorted({one.artifact for one in found.observations}))
        raise NoBaselineError(against, f"it holds none of {', '.join(sorted(names))}, but {theirs}")
    return found


def save(path: Path, now: Sequence[Observation]) -> None:
    """Write a baseline that can be kept beside the project's code: without what no later check reads."""
    kept = tuple(
        replace(
            one,
            measured=one.measured
            and replace(
                one.measured, predictions=(), ops=(), profiled_ns=(), states=(), before_ns=(), steady_search_ns=()
            ),
        )
        for one in now
    )
    saved_at = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    write_text(path, to_json(Baseline(saved_at=saved_at, observations=kept), indent=1) + "\n")


def earlier(build: Path, now: Sequence[Observation]) -> tuple[Observation, ...]:
    """What the history knows of these artifacts: how far sessions differ is told by it."""
    if not now:
        return ()
    wanted = history.Wanted(model=now[0].model, target=now[0].target, newest=_KEPT)
    return history.read(history.place_of_build(build), wanted).observations


def _of_build(path: Path) -> Against:
    manifest = from_json(Manifest, (path / "manifest.json").read_bytes(), where=str(path / "manifest.json"))
    return Against(shown=f"the build {path}", observations=observations(path, manifest, read_measurements(path)))


def _of_file(path: Path) -> Against:
    try:
        baseline = from_json(Baseline, path.read_bytes(), where="it")
    except ConfigError as error:
        raise NoBaselineError(str(path), error.message) from error
    except OSError as error:
        raise NoBaselineError(str(path), f"it cannot be read ({error.strerror})") from error
    return Against(shown=f"{path}, saved {baseline.saved_at}", observations=baseline.observations)


def _of_history(against: str, build: Path, now: Sequence[Observation]) -> Against:
    """The newest of each artifact and device from before what is checked, or one session."""
    place = history.place_of_build(build)
    if not place.url:
        raise NoBaselineError(against, place.why_not)
    session = against.removeprefix(_SESSION) if against.startswith(_SESSION) else None
    if session == "":
        raise NoBaselineError(against, "no session is named after the colon")
    wanted = history.Wanted(model=now[0].model, target=now[0].target, session=session, newest=_KEPT)
    past = history.read(place, wanted)
    if session is None:
        found = _before(past.observations, now)  # none of a first session: nothing to compare, and no mistake
        what = "the sessions before" if found else "the history, where there is no session before"
        return Against(shown=f"{what}, in {past.place}", observations=found)
    named = sorted({one.measured.session for one in past.observations if one.measured})
    if len(named) != 1:
        reason = f"several sessions begin so: {', '.join(named)}" if named else f"no session of {past.place} begins so"
        raise NoBaselineError(against, reason)
    return Against(shown=f"session {named[0]}, in {past.place}", observations=past.observations)


def _before(past: Sequence[Observation], now: Sequence[Observation]) -> tuple[Observation, ...]:
    """The last of ``past`` on each device that is older than what is checked, and of another session."""
    found: list[Observation] = []
    for one in now:
        row = one.measured
        older = [
            other
            for other in past
            if row
            and other.measured
            and (other.artifact, other.measured.device) == (one.artifact, row.device)
            and other.measured.session != row.session
            and other.measured.started_at <= row.started_at
        ]
        found += older[-1:]
    return tuple(found)
