"""What a long pass over samples has gathered so far, kept in the cache until the pass is finished or begun again."""

from __future__ import annotations

import contextlib
import json
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.files import atomic_file, cache_dir

_KEPT = 8
"""Files that stay in the cache; the oldest go."""

_ABANDONED_SECONDS = 3600
"""An unfinished file of this age belongs to no process any more."""


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """How far a pass came: ``samples`` were taken into account, whose fingerprint is ``sha256``.

    ``arrays`` holds everything that was gathered, by name.
    """

    samples: int
    sha256: str
    arrays: Mapping[str, np.ndarray]


class Checkpoint:
    """A file of the cache named by ``key``, which covers everything that the gathered values depend on but the data."""

    def __init__(self, key: str) -> None:
        self._folder = cache_dir() / "calibration"
        self._path = self._folder / f"{key}.npz"

    def load(self) -> Progressed | None:
        """What was saved last; None if nothing was, or if the file cannot be read any more."""
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            told = json.loads(arrays.pop("told").tobytes())
            progressed = Progressed(**told, arrays=arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            self._path.unlink(missing_ok=True)
            return None
        os.utime(self._path)
        return progressed

    def save(self, progressed: Progressed) -> None:
        """Keep ``progressed`` in place of what was saved before; DiskFullError if there is no room."""
        told = json.dumps({"samples": progressed.samples, "sha256": progressed.sha256})
        arrays: dict[str, Any] = {**progressed.arrays, "told": np.frombuffer(told.encode(), dtype=np.uint8)}
        with atomic_file(self._path, durable=False) as file:  # a file damaged by a power cut is not loaded
            np.savez(file, **arrays)
        self._drop_old()

    def _drop_old(self) -> None:
        ages = {}
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process drops them too
                ages[path] = path.stat().st_mtime
        finished = sorted((path for path in ages if path.suffix == ".npz"), key=ages.__getitem__, reverse=True)
        abandoned = [path for path in ages if path.suffix != ".npz" and time.time() - ages[path] > _ABANDONED_SECONDS]
        for path in (*finished[_KEPT:], *abandoned):
            path.unlink(missing_ok=True)
