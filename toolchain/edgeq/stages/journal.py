"""What searches tried, on disk: a search that was killed goes on where it stopped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgeq.errors import ConfigError
from edgeq.files import append_line, cache_dir
from edgeq.records import Trial
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from edgeq.recipe import Recipe


class Journal:
    """Trials by recipe, one JSON line each, for one ``fingerprint`` of model, data, target and versions."""

    def __init__(self, fingerprint: str) -> None:
        self._path = cache_dir() / "search" / f"{fingerprint}.jsonl"
        self._known: dict[tuple[str, tuple[str, ...]], Trial] = {}
        for line in self._path.read_text().splitlines() if self._path.is_file() else ():
            try:
                trial = from_json(Trial, line, where=str(self._path))
            except ConfigError:  # cut short by a crash; that trial is made again
                continue
            self._known[trial.recipe, trial.keep_float] = trial

    def recall(self, recipe: Recipe) -> Trial | None:
        """The trial of ``recipe`` if it was ever finished."""
        return self._known.get((recipe.name, recipe.keep_float))

    def add(self, trial: Trial) -> None:
        """Keep a finished trial; it is marked as resumed for whoever recalls it."""
        append_line(self._path, to_json(dataclasses.replace(trial, resumed=True)))
