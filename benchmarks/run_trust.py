"""Print whether verdicts of `edgeq compare` can be trusted: what it says where the truth is known.

    python benchmarks/run_trust.py [--model NAME] [--trials N] [--changed N] [--only CONDITION]... [--out FOLDER]

Each trial holds an artifact against itself, with the runner that tests can
make slow on both sides: as it is, on a quiet machine and beside a program
that keeps one processor busy; and with one side spinning for 5 or 1 % of
each execution's own time. All artifacts of a build share a session, as users
would have it. For contrast every trial also does what is usual: as many runs
of one side, then as many of the other, and "changed" if the means differ by
more than 5 %. Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # libraries read it when they are loaded

from machine import machine
from projects import write_project

import edgeq
from edgeq import runner, stats
from edgeq.device.local import LocalTransport
from edgeq.files import write_text
from edgeq.progress import SILENT
from edgeq.stages.bench import Settings, settings
from edgeq.stages.bench.place import Place
from edgeq.stages.bench.timing import Entrant, Visit
from edgeq.stages.compare import Contender, Pair, compare, pair_up
from edgeq.stages.deploy import deploy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.runner import Engine

HERE = Path(__file__).parent / "trust" / "timing"
MODEL = "mobilenet-v3-small"
TRIALS, CHANGED = 200, 50
USUAL_RULE = 0.05
SLOW = "slowed"
"""What the path of the side that spins contains."""

ENGINES: tuple[Engine, ...] = ("executorch", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is done to a trial: ``percent`` that the candidate is slowed by, and whether one processor is kept busy."""

    name: str
    percent: int = 0
    busy: bool = False

    @property
    def truth(self) -> float:
        """The true ratio of the medians, reference over candidate."""
        return 1 / (1 + self.percent / 100)


CONDITIONS = (
    Condition(name="A/A"),
    Condition(name="A/A beside a busy processor", busy=True),
    Condition(name="5 % slower", percent=5),
    Condition(name="1 % slower", percent=1),
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one pair of a session came to, and ``means_ratio``, what the usual way gave."""

    condition: str
    session: int
    artifact: str
    ratio: float
    low: float
    high: float
    verdict: str
    smallest_effect: float
    means_ratio: float


@dataclass(frozen=True, kw_only=True)
class Bed:
    """The two sides as they lie on this machine."""

    contenders: tuple[Contender, ...]
    pairs: tuple[Pair, ...]
    transport: LocalTransport
    how: Settings


def main() -> None:
    """Build, try, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", default=MODEL, metavar="NAME", help="a network of the zoo")
    options.add_argument("--trials", type=int, default=TRIALS, help="of each condition without a change")
    options.add_argument("--changed", type=int, default=CHANGED, help="of each condition with one")
    options.add_argument("--repeats", type=int, help="timed runs of each side in a trial")
    options.add_argument("--only", action="append", choices=[one.name for one in CONDITIONS], default=[])
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bed = prepare(chosen.model, Path(folder), repeats=chosen.repeats)
        trials = []
        for condition in CONDITIONS:
            if not chosen.only or condition.name in chosen.only:
                count = chosen.changed if condition.percent else chosen.trials
                trials += run(bed, condition, sessions=math.ceil(count / len(bed.pairs)))
    write(chosen.out, chosen.model, bed.how, trials)
    print((chosen.out / "results.md").read_text())


def prepare(name: str, folder: Path, *, repeats: int | None = None) -> Bed:
    """Build the network for this machine, and deploy it twice: once under a name that can be told to spin."""
    write_project(name, folder / "project", target="host")
    built = edgeq.build(folder / "project", out=folder / "build")
    transport = LocalTransport(folder)
    triple = f"{platform.machine()}-linux-gnu"
    bundles = {engine: runner.bundle(engine, triple, progress=SILENT, test_faults=True) for engine in ENGINES}
    contenders = []
    for side in ("plain", SLOW):
        manifest = replace(built.manifest, model=f"{built.manifest.model}-{side}")
        done = deploy(built.path, manifest, built.target, transport, bundles, device="local", progress=SILENT)
        # A folder's name is a hash; that of a link beside it says which side it is.
        link = folder / side
        link.symlink_to(folder / done.deployment.root)
        deployment = replace(done.deployment, root=side)
        contenders.append(Contender(build=built.path, manifest=manifest, deployment=deployment))
    pairs = pair_up([(one.build, one.manifest) for one in contenders], ()).pairs
    how = settings(built.target, contenders[0].deployment, threads=(1,), repeats=repeats, force=True)
    return Bed(contenders=tuple(contenders), pairs=pairs, transport=transport, how=how)


def run(bed: Bed, condition: Condition, *, sessions: int) -> Iterator[Trial]:
    """All trials of one condition."""
    with _busy() if condition.busy else contextlib.nullcontext(), _slowed(condition.percent):
        for session in range(sessions):
            how = replace(bed.how, seed=session)
            found = compare(bed.contenders, bed.pairs, bed.transport, how, progress=SILENT)
            for pair, one in zip(bed.pairs, found, strict=True):
                if one.ratio is None or one.low is None or one.high is None or one.smallest_effect is None:
                    raise ValueError(f"{one.artifact}: {one.reason}")
                yield Trial(
                    condition=condition.name,
                    session=session,
                    artifact=one.artifact,
                    ratio=one.ratio,
                    low=one.low,
                    high=one.high,
                    verdict=one.verdict,
                    smallest_effect=one.smallest_effect,
                    means_ratio=_means_ratio(bed, pair),
                )
            print(f"{condition.name}: session {session + 1} of {sessions}", file=sys.stderr)


def _means_ratio(bed: Bed, pair: Pair) -> float:
    """The usual way: one process of each side, one after the other, and the ratio of the means."""
    means = []
    for side in (pair.reference, pair.candidate):
        contender = bed.contenders[side.of]
        place = Place.of(contender.build, contender.manifest, contender.deployment, bed.transport, bed.how)
        seen = Visit(Entrant(place=place, artifact=side.artifact, threads=1)).run(
            warmup=bed.how.warmup, repeats=bed.how.repeats
        )
        means.append(statistics.fmean(one.ns for one in seen.runs))
    return means[0] / means[1]


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """A program that keeps one processor busy while the block runs."""
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    program = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        program.kill()
        program.wait()


@contextlib.contextmanager
def _slowed(percent: int) -> Iterator[None]:
    """Let the runner spin on the side that is to be slow while the block runs."""
    os.environ.update(EDGEQ_TEST_SPIN_PERCENT=str(percent), EDGEQ_TEST_MODEL=SLOW)
    try:
        yield
    finally:
        del os.environ["EDGEQ_TEST_SPIN_PERCENT"], os.environ["EDGEQ_TEST_MODEL"]


def write(folder: Path, model: str, how: Settings, trials: Sequence[Trial]) -> None:
    """Both files of results."""
    found = {
        "created_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "model": model,
        "repeats": how.repeats,
        "rounds": len(how.rounds),
        "trials": [asdict(one) for one in trials],
    }
    write_text(folder / "results.json", json.dumps(found, indent=1) + "\n")
    write_text(folder / "results.md", table(trials))


def table(trials: Sequence[Trial]) -> str:
    """One row a condition, as Markdown."""
    columns = (
        "condition",
        "trials",
        "95 % interval holds the truth",
        "faster",
        "slower",
        "same within 1 %",
        "cannot tell",
    )
    told = (*columns, "would have shown (median)", "means of N differ by 5 %")
    lines = [f"| {' | '.join(told)} |", f"| --- |{' ---: |' * (len(told) - 1)}"]
    for condition in CONDITIONS:
        mine = [one for one in trials if one.condition == condition.name]
        if not mine:
            continue
        verdicts = Counter(one.verdict for one in mine)
        holds = sum(one.low <= condition.truth <= one.high for one in mine)
        changed = sum(abs(one.means_ratio - 1) > USUAL_RULE for one in mine)
        shown = statistics.median(one.smallest_effect for one in mine)
        counts = [str(verdicts[name]) for name in ("faster", "slower", "same", "cannot tell")]
        cells = [condition.name, str(len(mine)), _share(holds, len(mine)), *counts, f"{100 * shown:.1f} %"]
        lines.append("| " + " | ".join([*cells, _share(changed, len(mine))]) + " |")
    return "\n".join(lines) + "\n"


def _share(part: int, total: int) -> str:
    low, high = stats.wilson_interval(part, total)
    return f"{100 * part / total:.1f} % ({100 * low:.0f} to {100 * high:.0f})"


if __name__ == "__main__":
    main()
