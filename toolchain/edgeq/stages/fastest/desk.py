"""Artifacts in the native runner on this machine, while a build is under way."""

from __future__ import annotations

import contextlib
import platform
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.device.local import LocalTransport
from edgeq.runner import bundle, execute
from edgeq.stages.bench.profile import profiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edgeq.progress import Progress
    from edgeq.records import FileOperator, Format
    from edgeq.runner import Execution
    from edgeq.stages.bench.profile import Profiled

_PROFILED_ROUNDS, _PROFILED_REPEATS = 5, 10
_WARMUP = 5
_VISIT_NS = 40_000_000
"""Visits are short and many: what else runs on the machine disturbs them by bursts."""
_FEWEST, _MOST = 5, 200
_SILENCE_S = 120.0
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where artifacts of one format are run with one sample; ``threads`` as a bench there would use."""

    root: Path
    executable: str
    sample: bytes
    threads: int

    def profile(self, artifacts: Mapping[str, tuple[Path, Sequence[FileOperator]]]) -> dict[str, Profiled]:
        """What the operators of artifacts take, in rounds that visit all of them."""
        visits: dict[str, list[Execution]] = {name: [] for name in artifacts}
        for _ in range(_PROFILED_ROUNDS):
            for name, (path, _operators) in artifacts.items():
                visits[name].append(self._run(path, repeats=_PROFILED_REPEATS, profile=True))
        return {name: profiled(seen, artifacts[name][1], device="local") for name, seen in visits.items()}

    def time(self, paths: Mapping[str, Path], *, count: int, progress: Progress) -> dict[str, list[tuple[int, ...]]]:
        """The timed inferences of each artifact, in ``count`` rounds that visit all of them in a changing order."""
        repeats = {}
        for name, path in paths.items():
            slowest = max(run.ns for run in self._run(path, repeats=_FEWEST).runs)
            repeats[name] = min(_MOST, max(_FEWEST, _VISIT_NS // max(slowest, 1)))
        order = random.Random(_SEED)  # noqa: S311  # nobody gains from guessing it
        rounds: dict[str, list[tuple[int, ...]]] = {name: [] for name in paths}
        progress.step(f"timing {len(paths)} artifacts on this machine in {count} rounds")
        for number in range(count):
            progress.advance(number, count)
            for name in order.sample(list(paths), k=len(paths)):
                seen = self._run(paths[name], repeats=repeats[name])
                rounds[name].append(tuple(run.ns for run in seen.runs))
        return rounds

    def _run(self, path: Path, *, repeats: int, profile: bool = False) -> Execution:
        there = self.root / path.name
        if not there.exists():
            there.symlink_to(path.resolve())
        return execute(
            LocalTransport(self.root.parent),
            folder=self.root.name,
            executable=self.executable,
            model=path.name,
            threads=self.threads,
            warmup=_WARMUP,
            repeats=repeats,
            count_instructions=False,
            samples=(self.sample,),
            on_outputs=lambda _index, _data: None,
            profile=profile,
            timeout_s=_SILENCE_S,
        )


@contextlib.contextmanager
def desk(form: Format, sample: bytes, threads: int, *, progress: Progress) -> Iterator[Desk]:
    """A folder with the runner of this machine; what building it raises."""
    engine = bundle(
        "executorch" if form == "pte" else "onnxruntime", f"{platform.machine()}-linux-gnu", progress=progress
    )
    with tempfile.TemporaryDirectory(prefix="edgeq-") as temporary:
        root = Path(temporary) / "d"
        root.mkdir()
        for name, path in engine.files.items():
            # The program finds the libraries beside the file that it is.
            shutil.copy2(path, root / name) if name == engine.executable else (root / name).symlink_to(path)
        yield Desk(root=root, executable=engine.executable, sample=sample, threads=threads)
