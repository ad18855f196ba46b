"""Which releases of a runtime's package an app can get: a list that was read once, and what to do beyond it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.records import Dependency

if TYPE_CHECKING:
    from edgeq.records import Requires


@dataclass(frozen=True, kw_only=True)
class Releases:
    """A package in a registry: its versions, the newest last, as far as they were known on that day.

    ``rule`` says which other version will do.
    """

    name: str
    registry: str
    versions: tuple[str, ...]
    seen_on: str
    rule: str


def dependency(requires: Requires, releases: Releases) -> Dependency:
    """The package at exactly the version that the artifact was made with, and whether it is there."""
    published: bool | None = requires.version in releases.versions
    if published:
        return Dependency(name=releases.name, version=requires.version, published=True)
    newest, near = releases.versions[-1], _nearest(requires.version, releases.versions)
    if _key(requires.version) > _key(newest):
        published = None
        said = f"the newest version known to be on {releases.registry} on {releases.seen_on} was {newest}"
        step = f"If {requires.version} is not there, write {near} or another that will do into the build file"
    else:
        said = f"on {releases.seen_on} {requires.version} was not known to be on {releases.registry}"
        step = f"Write {near} or another that will do into the build file"
    note = f"{said}. {step}, and run the golden test: {releases.rule}"
    return Dependency(name=releases.name, version=requires.version, published=published, note=note)


def _nearest(version: str, known: tuple[str, ...]) -> str:
    """Of the same minor release, else the next newer one, else the newest."""
    minor = _key(version)[:2]
    alike = [one for one in known if _key(one)[:2] == minor]
    newer = [one for one in known if _key(one) > _key(version)]
    return alike[-1] if alike else (newer or known[-1:])[0]


def _key(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
