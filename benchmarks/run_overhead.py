"""Print what the runner adds to an inference: beside a loop that hands over the input, executes, and does nothing else.

    python benchmarks/run_overhead.py [--model NAME] [--rounds N] [--visit-ms N] [--out FOLDER]

Both are programs of the same sources, on the same files, one thread, pinned
to one processor. Each round visits the runner and the bare loop once for
each file, in an order of its own; each visit is a process. The runner's
figures are its wall time for an inference, from the first one's start to
the last one's end, and what it reports as the latency. Writes
``results.json``, with every visit, and ``results.md``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import random
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # libraries read it when they are loaded

from machine import machine

from edgeq import runner, stats
from edgeq.device.local import LocalTransport
from edgeq.files import write_text
from edgeq.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.runner import Engine, Execution

HERE = Path(__file__).parent / "trust" / "overhead"
MODEL = "mobilenet-v2"
ROUNDS = 20
VISIT_MS = 500
WARMUP = 5
LIMIT = 0.01
"""The overhead is to be below this share of an inference."""

_ENGINES: dict[str, Engine] = {".pte": "executorch", ".onnx": "onnxruntime"}
_BARE = "EDGEQ_TEST_BARE_LOOP"


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Nanoseconds of an inference in one round: wall in the runner, what it reports (median), and in the bare loop."""

    file: str
    round: int
    wall_ns: int
    reported_ns: int
    bare_ns: int


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Of one file: the runner's wall time over the bare loop's, less 1, with a 95 % interval over the rounds."""

    file: str
    share: float
    low: float
    high: float
    bare_ms: float
    reported_ms: float


def main() -> None:
    """Make the files, measure, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", default=MODEL, metavar="NAME", help="a network of the zoo")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--visit-ms", type=int, default=VISIT_MS, metavar="N")
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths, sample = zoo_files(chosen.model, Path(folder))
        visits = measure(paths, sample, rounds=chosen.rounds, visit_ms=chosen.visit_ms)
    write(chosen.out, visits)
    print((chosen.out / "results.md").read_text())


def zoo_files(name: str, folder: Path) -> tuple[list[Path], bytes]:
    """The fp32 and int8 files of a network for this machine, and one sample."""
    from speed.files import CALIBRATION, case_of, files  # noqa: PLC0415  # brings torch, which measuring does without
    from zoo import ZOO, samples  # noqa: PLC0415

    entry = ZOO[name]
    case = case_of(name, entry.network(), samples(entry.shape, CALIBRATION, seed=2))
    made = files(case, ["edgeq fp32", "edgeq int8-static"], folder)
    return [file.path for file in made if file.timed and not file.problem], samples(entry.shape, 1, seed=3).tobytes()


def measure(paths: Sequence[Path], sample: bytes, *, rounds: int = ROUNDS, visit_ms: int = VISIT_MS) -> list[Visit]:
    """Visit the runner and the bare loop once a round for each file, all in an order that each round draws anew."""
    cpu = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        shipped, bare = (_folder(Path(scratch) / name, paths, bare=name == "bare") for name in ("shipped", "bare"))
        repeats = {path: _fitting(_run(shipped, path, sample, cpu, repeats=5), visit_ms) for path in paths}
        visits = []
        for number in range(rounds):
            order = random.Random(number)  # noqa: S311  # an order, no secret
            for path in order.sample(list(paths), k=len(paths)):
                seen: dict[Path, Execution] = {}
                for folder in order.sample([shipped, bare], k=2):
                    seen[folder] = _run(folder, path, sample, cpu, repeats=repeats[path])
                visits.append(_visit(path, number, seen[shipped], seen[bare]))
        return visits


def overheads(visits: Sequence[Visit]) -> list[Overhead]:
    """The overhead of each file; ValueError for fewer rounds than an interval takes."""
    found = []
    for file in dict.fromkeys(visit.file for visit in visits):
        mine = [visit for visit in visits if visit.file == file]
        ratio = stats.median_ratio([(one.wall_ns,) for one in mine], [(one.bare_ns,) for one in mine])
        if ratio.low is None or ratio.high is None:
            raise ValueError(f"{len(mine)} rounds are too few; {stats.MIN_ROUNDS} are needed")
        found.append(
            Overhead(
                file=file,
                share=ratio.ratio - 1,
                low=ratio.low - 1,
                high=ratio.high - 1,
                bare_ms=statistics.median(one.bare_ns for one in mine) / 1e6,
                reported_ms=statistics.median(one.reported_ns for one in mine) / 1e6,
            )
        )
    return found


def write(folder: Path, visits: Sequence[Visit]) -> None:
    """Both files of results."""
    found = {
        "created_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "overheads": [asdict(one) for one in overheads(visits)],
        "visits": [asdict(one) for one in visits],
    }
    write_text(folder / "results.json", json.dumps(found, indent=1) + "\n")
    lines = ["| file | bare loop ms | runner adds | 95 % interval | reported ms | below 1 % |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | --- |"]
    for one in overheads(visits):
        verdict = "yes" if one.high < LIMIT else "no" if one.low > LIMIT else "cannot tell"
        interval = f"{100 * one.low:+.2f} to {100 * one.high:+.2f} %"
        figures = f"{one.bare_ms:.3f} | {100 * one.share:+.2f} % | {interval} | {one.reported_ms:.3f}"
        lines.append(f"| {one.file} | {figures} | {verdict} |")
    write_text(folder / "results.md", "\n".join(lines) + "\n")


def _visit(path: Path, number: int, seen: Execution, bare: Execution) -> Visit:
    first, last = seen.runs[0], seen.runs[-1]
    if first.at_ns is None or last.at_ns is None:
        raise ValueError("this runner does not say when its executions began")
    # From start to start, so that what comes between two executions is counted as often as the executions are.
    wall = (last.at_ns - first.at_ns) // (len(seen.runs) - 1)
    reported = statistics.median_low(run.ns for run in seen.runs)
    return Visit(file=path.name, round=number, wall_ns=wall, reported_ns=reported, bare_ns=bare.runs[0].ns)


def _fitting(seen: Execution, visit_ms: int) -> int:
    return max(10, round(visit_ms * 1e6 / statistics.median(run.ns for run in seen.runs)))


def _folder(folder: Path, paths: Sequence[Path], *, bare: bool) -> Path:
    """A folder with the models and the runners, the shipped ones or those that can run bare."""
    folder.mkdir()
    for path in paths:
        (folder / path.name).symlink_to(path.resolve())
    for engine in sorted({_ENGINES[path.suffix] for path in paths}):
        built = runner.bundle(engine, f"{platform.machine()}-linux-gnu", progress=SILENT, test_faults=bare)
        for name, local in built.files.items():
            (folder / name).symlink_to(local)
    return folder


def _run(folder: Path, path: Path, sample: bytes, cpu: int, *, repeats: int) -> Execution:
    os.environ[_BARE] = "1"  # a runner that is shipped does not know it
    try:
        return runner.execute(
            LocalTransport(folder),
            folder=str(folder),
            executable=f"edgeq-runner-{_ENGINES[path.suffix]}",
            model=path.name,
            threads=1,
            warmup=WARMUP,
            repeats=repeats,
            count_instructions=False,
            samples=[sample],
            on_outputs=lambda *_: None,
            cpus=(cpu,),
            timeout_s=300,
        )
    finally:
        del os.environ[_BARE]


if __name__ == "__main__":
    main()
