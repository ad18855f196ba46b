"""The history: every measurement of a project's builds, kept beyond the builds themselves.

SQLAlchemy is imported only where a history is really opened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeq.errors import EdgeqError, NoHistoryError, UnknownNameError
from edgeq.records import Observation
from edgeq.stages.change import all_observations
from edgeq.stages.history.place import Place, Wanted, place_of_build, place_of_project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.records import Manifest, Measurement

__all__ = ["Past", "Place", "Remembered", "Wanted", "place_of_build", "place_of_project", "read", "remember"]


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """How many rows went into which history, or why none could; ``off`` if that is what somebody wanted."""

    place: str = ""
    added: int = 0
    why_not: str = ""
    off: bool = False


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a history holds of what was asked for, oldest first; ``place`` shows no password."""

    place: str
    observations: tuple[Observation, ...]


def remember(build: Path, manifest: Manifest, rows: Sequence[Measurement]) -> Remembered:
    """Bring the history up to the rows of a build, those of earlier sessions that are missing there too.

    Rows of files that are no longer in the build are left out. Nothing is
    raised: the rows themselves are safe in the build, and the next call
    catches up with what this one could not do.
    """
    from edgeq.stages.history.database import Database  # noqa: PLC0415  # brings SQLAlchemy

    try:
        place = place_of_build(build)
        if not place.url:
            return Remembered(why_not=place.why_not, off=place.off)
        with Database(place.url, writes=True) as database:
            return Remembered(place=database.shown, added=database.append(all_observations(build, manifest, rows)))
    except EdgeqError as error:
        return Remembered(why_not=f"{error.message}; {error.hint}" if error.hint else error.message)


def read(place: Place, wanted: Wanted) -> Past:
    """What the history there has of what is wanted; nothing from one that is still to be made.

    Raises NoHistoryError without a place, HistoryError if the database
    fails, and UnknownNameError for an artifact or a device that it has
    nothing of, while it has others.
    """
    from edgeq.stages.history.database import Database  # noqa: PLC0415  # brings SQLAlchemy

    if not place.url:
        raise NoHistoryError(place.why_not)
    with Database(place.url, writes=False) as database:
        found = database.read(wanted)
        if not found and (wanted.artifact or wanted.device):
            _check_names(wanted, database.read(replace(wanted, artifact=None, device=None, newest=1)))
        return Past(place=database.shown, observations=found)


def _check_names(wanted: Wanted, there: Sequence[Observation]) -> None:
    names = {
        "artifact": (wanted.artifact, {one.artifact for one in there}),
        "device": (wanted.device, {one.measured.device for one in there if one.measured}),
    }
    for kind, (name, known) in names.items():
        if name and known and name not in known:
            raise UnknownNameError(kind, name, known, where="the history")
