"""How long files take on this machine, and how many instructions on emulated boards, by edgeq's own runner."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeq import runner
from edgeq.device.inventory import BOARD, open_device
from edgeq.device.local import LocalTransport
from edgeq.device.transport import Transport
from edgeq.progress import SILENT
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeq.runner import Engine, Execution, RunnerBundle

BOARDS = ("rpi4", "rpi5")
"""Targets whose emulated core counts instructions: a Cortex-A72, and a Cortex-A76, which has the int8 dot product."""

ROUNDS = 10
WARMUP = 3
VISIT_NS = 150_000_000
"""How long the timed executions of one visit should take together."""

FEWEST, MOST = 3, 30
ENGINES: dict[str, Engine] = {"pte": "executorch", "onnx": "onnxruntime"}
_FOLDER = "edgeq-speed"
_SILENCE_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """A device with the runners of both engines in one folder of it."""

    transport: Transport
    folder: str
    runners: Mapping[str, str]

    def run(self, path: Path, sample: bytes, *, warmup: int, repeats: int, count: bool = False) -> Execution:
        """One process of a runner, one thread; the file lies in the folder already."""
        return runner.execute(
            self.transport,
            folder=self.folder,
            executable=self.runners[ENGINES[path.suffix.removeprefix(".")]],
            model=path.name,
            threads=1,
            warmup=warmup,
            repeats=repeats,
            count_instructions=count,
            samples=[sample],
            on_outputs=lambda *_: None,
            timeout_s=_SILENCE_S,
        )


@dataclass(kw_only=True)
class Timed:
    """Nanoseconds of each execution, round by round."""

    rounds: list[list[int]] = field(default_factory=list)


def time_in_turn(paths: Sequence[Path], sample: bytes, *, rounds: int = ROUNDS) -> dict[Path, Timed]:
    """Time each of ``paths`` once a round, in an order that each round draws anew; all of one folder.

    One thread, on the one processor that :func:`pinned` leaves. How often a
    visit executes a file is settled by a first visit that does not count.
    """
    folder = paths[0].parent
    place = Place(transport=LocalTransport(folder), folder=str(folder), runners=_linked(folder))
    repeats = {path: _fitting(place.run(path, sample, warmup=1, repeats=FEWEST)) for path in paths}
    timed = {path: Timed() for path in paths}
    order = random.Random(0)  # noqa: S311  # nobody gains from guessing it
    for _ in range(rounds):
        for path in order.sample(list(paths), k=len(paths)):
            seen = place.run(path, sample, warmup=WARMUP, repeats=repeats[path])
            timed[path].rounds.append([run.ns for run in seen.runs])
    return timed


def _fitting(seen: Execution) -> int:
    return min(MOST, max(FEWEST, round(VISIT_NS / statistics.median(run.ns for run in seen.runs))))


def _linked(folder: Path) -> dict[str, str]:
    """The runners of this machine, linked into ``folder``; names by engine."""
    found = {}
    for bundle in _bundles(f"{platform.machine()}-linux-gnu"):
        found[bundle.engine] = bundle.executable
        for name, local in bundle.files.items():
            with contextlib.suppress(FileExistsError):
                (folder / name).symlink_to(local)
    return found


def _bundles(triple: str) -> list[RunnerBundle]:
    return [runner.bundle(engine, triple, progress=SILENT) for engine in ENGINES.values()]


@contextlib.contextmanager
def pinned() -> Iterator[int]:
    """Keep this process, and those it starts, on one processor inside the block; yields which."""
    before = os.sched_getaffinity(0)
    chosen = max(before)
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def boards(names: Sequence[str] = BOARDS) -> Iterator[dict[str, Place]]:
    """The emulated boards with the runners on them, for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in names:
            target = load_target(name)
            transport = stack.enter_context(open_device(BOARD, target, progress=SILENT))
            bundles = _bundles(target.triple)
            for bundle in bundles:
                for file, local in bundle.files.items():
                    mode = 0o755 if file == bundle.executable else 0o644
                    transport.put(local, f"{_FOLDER}/{file}", mode=mode)
            runners = {bundle.engine: bundle.executable for bundle in bundles}
            found[name] = Place(transport=transport, folder=_FOLDER, runners=runners)
        yield found


def count_instructions(
    places: Mapping[str, Place], paths: Sequence[Path], sample: bytes
) -> dict[Path, dict[str, int | None]]:
    """Instructions that one inference retires, by file and board. The boards run side by side: a count is no time."""
    with ThreadPoolExecutor(max_workers=max(1, len(places))) as pool:
        counted = {name: pool.submit(_count_all, place, paths, sample) for name, place in places.items()}
        return {path: {name: future.result()[path] for name, future in counted.items()} for path in paths}


def _count_all(place: Place, paths: Sequence[Path], sample: bytes) -> dict[Path, int | None]:
    """The third execution of a process; the first two count more, the later ones the same."""
    counts = {}
    for path in paths:
        place.transport.put(path, f"{place.folder}/{path.name}")  # one at a time: a board keeps its files in RAM
        seen = place.run(path, sample, warmup=1, repeats=1, count=True)
        place.transport.run(["rm", f"{place.folder}/{path.name}"])
        counts[path] = seen.runs[-1].instructions
    return counts
