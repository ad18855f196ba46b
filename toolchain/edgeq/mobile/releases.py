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
    """A package in a registry: its versions as ``seen_on`` that day, the newest last.

    ``rule`` says which other version will do.
    """

    name: str
    registry: str
    versions: tuple[str, ...]
    seen_on: str
    rule: str


def dependency(requires: Requires, releases: Releases) -> Dependency:
    """The package at exactly the version that the artifact was made with, and whether it is there."""
    if requires.version in releases.versions:
        return Dependency(name=releases.name, version=requires.version, published=True)
    newest = releases.versions[-1]
    if _key(requires.version) > _key(newest):
        return Dependency(
            name=releases.name,
            version=requires.version,
            published=None,
            note=f"nobody looked whether {releases.registry} has {requires.version}: the newest seen there on "
            f"{releases.seen_on} was {newest}. If it is not there: {releases.rule}",
        )
    return Dependency(
        name=releases.name,
        version=requires.version,
        published=False,
        note=f"{releases.registry} had no {requires.version} on {releases.seen_on}. Write another version into the "
        f"build file: {releases.rule}",
    )


def _key(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
