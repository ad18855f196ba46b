"""Print what the runner adds to an inference: beside a loop that hands over the input, executes, and does nothing else.

    python benchmarks/run_overhead.py [--model NAME] [--visits N] [--pairs N] [--out FOLDER]

Both loops are in one process, a runner built for tests: every other block
of its timed executions runs bare, so that a pair of blocks shares the
memory, the processor's clock and what else runs on the machine. A visit is
a process; visits to the files are in an order of its own in each round. A
block's time is from the start of its first execution to the start of the
next block's. Writes ``results.json``, with every pair, and ``results.md``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
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
VISITS = 5
PAIRS = 200
BLOCK = 4
"""Executions in a block: short, as what else a machine does comes in bursts. Of what the runner does before an
execution, one fourth counts for the wrong side."""
WARMUP = 20
LIMIT = 0.01
"""The overhead is to be below this share of an inference."""

_ENGINES: dict[str, Engine] = {".pte": "executorch", ".onnx": "onnxruntime"}
_BARE = "EDGEQ_TEST_BARE_LOOP"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Nanoseconds of an inference in two neighbouring blocks: as the runner does it, and in the bare loop."""

    file: str
    visit: int
    runner_ns: int
    bare_ns: int


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Of one file: the runner's time over the bare loop's, less 1, with a 95 % interval over the pairs."""

    file: str
    share: float
    low: float
    high: float
    runner_ms: float
    bare_ms: float


def main() -> None:
    """Make the files, measure, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", default=MODEL, metavar="NAME", help="a network of the zoo")
    options.add_argument("--visits", type=int, default=VISITS, metavar="N")
    options.add_argument("--pairs", type=int, default=PAIRS, metavar="N", help="pairs of blocks in a visit")
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths, sample = zoo_files(chosen.model, Path(folder))
        pairs = measure(paths, sample, visits=chosen.visits, pairs=chosen.pairs)
    write(chosen.out, pairs)
    print((chosen.out / "results.md").read_text())


def zoo_files(name: str, folder: Path) -> tuple[list[Path], bytes]:
    """The fp32 and int8 files of a network for this machine, and one sample."""
    from speed.files import CALIBRATION, case_of, files  # noqa: PLC0415  # brings torch, which measuring does without
    from zoo import ZOO, samples  # noqa: PLC0415

    entry = ZOO[name]
    case = case_of(name, entry.network(), samples(entry.shape, CALIBRATION, seed=2))
    made = files(case, ["edgeq fp32", "edgeq int8-static"], folder)
    return [file.path for file in made if file.timed and not file.problem], samples(entry.shape, 1, seed=3).tobytes()


def measure(paths: Sequence[Path], sample: bytes, *, visits: int = VISITS, pairs: int = PAIRS) -> list[Pair]:
    """So many visits to each file, in an order that each round of visits draws anew."""
    cpu = max(os.sched_getaffinity(0))
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = _folder(Path(scratch), paths)
        for number in range(visits):
            order = random.Random(number)  # noqa: S311  # an order, no secret
            for path in order.sample(list(paths), k=len(paths)):
                found += _pairs(path.name, number, _run(folder, path, sample, cpu, pairs=pairs))
    return found


def overheads(pairs: Sequence[Pair]) -> list[Overhead]:
    """The overhead of each file; ValueError for fewer pairs than an interval takes."""
    found = []
    for file in dict.fromkeys(pair.file for pair in pairs):
        mine = [pair for pair in pairs if pair.file == file]
        ratio = stats.median_ratio([(one.runner_ns,) for one in mine], [(one.bare_ns,) for one in mine])
        if ratio.low is None or ratio.high is None:
            raise ValueError(f"{len(mine)} pairs are too few; {stats.MIN_ROUNDS} are needed")
        found.append(
            Overhead(
                file=file,
                share=ratio.ratio - 1,
                low=ratio.low - 1,
                high=ratio.high - 1,
                runner_ms=statistics.median(one.runner_ns for one in mine) / 1e6,
                bare_ms=statistics.median(one.bare_ns for one in mine) / 1e6,
            )
        )
    return found


def write(folder: Path, pairs: Sequence[Pair]) -> None:
    """Both files of results."""
    found = {
        "created_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "overheads": [asdict(one) for one in overheads(pairs)],
        "pairs": [asdict(one) for one in pairs],
    }
    write_text(folder / "results.json", json.dumps(found) + "\n")
    lines = ["| file | bare loop ms | runner ms | runner adds | 95 % interval | below 1 % |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | --- |"]
    for one in overheads(pairs):
        verdict = "yes" if one.high < LIMIT else "no" if one.low > LIMIT else "cannot tell"
        interval = f"{100 * one.low:+.2f} to {100 * one.high:+.2f} %"
        figures = f"{one.bare_ms:.3f} | {one.runner_ms:.3f} | {100 * one.share:+.2f} % | {interval}"
        lines.append(f"| {one.file} | {figures} | {verdict} |")
    write_text(folder / "results.md", "\n".join(lines) + "\n")


def _pairs(file: str, visit: int, seen: Execution) -> list[Pair]:
    starts = [run.at_ns for run in seen.runs[::BLOCK]]  # of each block, and one for where the last ended
    if None in starts:
        raise ValueError("this runner does not say when its executions began")
    each = [(end - start) // BLOCK for start, end in itertools.pairwise(starts)]
    return [
        Pair(file=file, visit=visit, runner_ns=runner_ns, bare_ns=bare_ns)
        for runner_ns, bare_ns in zip(each[::2], each[1::2], strict=True)
    ]


def _folder(folder: Path, paths: Sequence[Path]) -> Path:
    """A folder with the models and the runners that can run bare."""
    for path in paths:
        (folder / path.name).symlink_to(path.resolve())
    for engine in sorted({_ENGINES[path.suffix] for path in paths}):
        built = runner.bundle(engine, f"{platform.machine()}-linux-gnu", progress=SILENT, test_faults=True)
        for name, local in built.files.items():
            (folder / name).symlink_to(local)
    return folder


def _run(folder: Path, path: Path, sample: bytes, cpu: int, *, pairs: int) -> Execution:
    os.environ[_BARE] = str(BLOCK)
    try:
        return runner.execute(
            LocalTransport(folder),
            folder=str(folder),
            executable=f"edgeq-runner-{_ENGINES[path.suffix]}",
            model=path.name,
            threads=1,
            warmup=WARMUP,
            repeats=2 * BLOCK * pairs + 1,
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
