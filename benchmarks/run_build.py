"""Print how long `edgeq build` takes beside the four stock flows that make the same files.

    python benchmarks/run_build.py [--models NAME ...] [--rounds N] [--calibration N] [--evaluation N] [--out FOLDER]

Each flow is a process of its own, the stock ones one after the other, in
turn with edgeq's. Wall and processor time are those of the process and of
all that it started. Writes ``results.json``, with every run, and
``results.md``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from build_time.stock import FLOWS
from machine import machine
from projects import write_project
from zoo import ZOO, samples

from edgeq.files import write_text

HERE = Path(__file__).parent / "build_time"
MODELS = ("efficientnet-lite0", "mobilenet-v2", "resnet-18")
SCORED, LEAST, AGAIN = "edgeq build", "edgeq build, two samples scored", "edgeq build again"

_DATA = """

def calibration():
    for row in np.load(HERE / "calibration.npy", mmap_mode="r"):
        yield (torch.from_numpy(row[None].copy()),)


def evaluation():
    for index, row in enumerate(np.load(HERE / "evaluation.npy", mmap_mode="r")):
        yield (torch.from_numpy(row[None].copy()),), index % 2
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One flow of one model, once: seconds from its start to its end, and of processor time."""

    model: str
    flow: str
    round: int
    wall_s: float
    cpu_s: float


def main() -> None:
    """Run what was asked for, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--models", nargs="+", choices=ZOO, default=list(MODELS), metavar="NAME")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--calibration", type=int, default=64, metavar="N")
    options.add_argument("--evaluation", type=int, default=200, metavar="N")
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in chosen.models:
            project = Path(folder) / model
            _write(project, model, chosen.calibration, chosen.evaluation)
            _write(project.with_name(f"{model}-least"), model, chosen.calibration, 2)
            for number in range(chosen.rounds):
                runs += _round(project, model, number)
                write(chosen.out, runs, {name: value for name, value in vars(chosen).items() if name != "out"})
    print((chosen.out / "results.md").read_text())


def _write(project: Path, model: str, calibration: int, evaluation: int) -> None:
    """A project of the zoo whose samples are read from files, as the stock flows read them."""
    write_project(model, project)
    source = (project / "project.py").read_text().partition("def calibration")[0].rstrip()
    head = "import sys\nfrom pathlib import Path\n\nimport numpy as np\n\nHERE = Path(__file__).parent\n"
    (project / "project.py").write_text(head + source.removeprefix("import sys\n") + "\n" + _DATA)
    for name, count, seed in (("calibration", calibration, 2), ("evaluation", evaluation, 3)):
        np.save(project / f"{name}.npy", samples(ZOO[model].shape, count, seed=seed))


def _round(project: Path, model: str, number: int) -> list[Run]:
    """Every flow once. edgeq's cache is empty for what is built, as its calibration would be taken from there."""
    runs = [
        _timed(model, flow, number, [str(HERE / "stock.py"), flow, str(project)], project / "no-cache")
        for flow in FLOWS
    ]
    cache = project / f"cache-{number}"
    for flow, source, again in ((LEAST, f"{project}-least", ""), (SCORED, project, "--rebuild"), (AGAIN, project, "")):
        command = ["-m", "edgeq", "build", str(source), "--out", f"{source}-build", *([again] if again else [])]
        if flow == LEAST:
            command.append("--rebuild")
        runs.append(_timed(model, flow, number, command, cache / flow))
    return runs


def _timed(model: str, flow: str, number: int, command: list[str], cache: Path) -> Run:
    started = time.monotonic()
    process = subprocess.Popen(  # the benchmark's own commands
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "EDGEQ_CACHE": str(cache)},
    )
    assert process.stderr is not None  # noqa: S101  # it was opened with a pipe
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    if status:
        sys.exit(f"{flow} of {model} failed:\n{said.decode()}")
    run = Run(model=model, flow=flow, round=number, wall_s=wall, cpu_s=used.ru_utime + used.ru_stime)
    print(f"{model:20} {flow:34} {run.wall_s:7.1f} s wall {run.cpu_s:7.1f} s processor", flush=True)
    return run


def write(out: Path, runs: list[Run], settings: dict[str, object]) -> None:
    """Write every run and the table of their medians."""
    document = {
        "measured_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "settings": {key: str(value) for key, value in settings.items()},
        "runs": [asdict(run) for run in runs],
    }
    write_text(out / "results.json", json.dumps(document, indent=1) + "\n")
    write_text(out / "results.md", markdown(runs) + "\n")


def markdown(runs: list[Run]) -> str:
    """Medians over the rounds, wall and processor seconds, and edgeq's part of what the stock flows take together."""
    lines = [
        "| model | flow | wall, s | processor, s | wall of stock | processor of stock |",
        "| --- | --- | " + "--: | " * 4,
    ]
    for model in dict.fromkeys(run.model for run in runs):
        stock = [
            tuple(sum(value) for value in zip(*((run.wall_s, run.cpu_s) for run in some), strict=True))
            for some in _rounds(runs, model, set(FLOWS))
        ]
        wall, cpu = (statistics.median(column) for column in zip(*stock, strict=True))
        for flow in (*FLOWS, SCORED, LEAST, AGAIN):
            some = [run for (run,) in _rounds(runs, model, {flow})]
            seconds = statistics.median(run.wall_s for run in some), statistics.median(run.cpu_s for run in some)
            share = ("", "") if flow in FLOWS else (f"{seconds[0] / wall:.2f}", f"{seconds[1] / cpu:.2f}")
            lines.append(f"| {model} | {flow} | {seconds[0]:.1f} | {seconds[1]:.1f} | {share[0]} | {share[1]} |")
        lines.append(f"| {model} | the four stock flows | {wall:.1f} | {cpu:.1f} | 1 | 1 |")
    return "\n".join(lines)


def _rounds(runs: list[Run], model: str, flows: set[str]) -> list[list[Run]]:
    """The runs of those flows, round by round."""
    numbers = sorted({run.round for run in runs if run.model == model})
    return [[run for run in runs if (run.model, run.round) == (model, one) and run.flow in flows] for one in numbers]


if __name__ == "__main__":
    main()
