"""Where the history of a build is (EDGEQ_HISTORY, [history] url, or a file in the project), and what to ask it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.project import FILE_NAME, HISTORY_FILE, load_project
from edgeq.stages.origin import read_origin

if TYPE_CHECKING:
    from edgeq.project import Project

VARIABLE = "EDGEQ_HISTORY"
OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A database's ``url``, or why there is none, which somebody may have wanted (``off``).

    A URL without a scheme is the path of an SQLite file.
    """

    url: str = ""
    why_not: str = ""
    off: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which observations to read: those of a model, and further what is named."""

    model: str
    target: str | None = None
    artifact: str | None = None
    device: str | None = None
    session: str | None = None
    """The beginning of a session's id."""
    newest: int | None = None
    """So many of each artifact, device and target; None for all."""


def place_of_build(build: Path) -> Place:
    """The history that a build's measurements go to. Raises ConfigError if its project's edgeq.toml is wrong."""
    if (named := _named()) is not None:
        return named
    origin = read_origin(build)
    if origin is None:
        return Place(why_not=f"{build} does not say which project it is of; set {VARIABLE}, or run edgeq build again")
    project = Path(origin.project)
    if not (project / FILE_NAME).is_file():
        return Place(why_not=f"the project of {build} is no longer in {project}; set {VARIABLE}")
    return place_of_project(load_project(project))


def place_of_project(project: Project) -> Place:
    """The history of a project's builds."""
    return _named() or Place(url=project.history.url or str(Path(project.root) / HISTORY_FILE))


def _named() -> Place | None:
    value = os.environ.get(VARIABLE, "")
    if value == OFF:
        return Place(why_not=f"{VARIABLE} is {OFF}", off=True)
    return Place(url=value) if value else None
