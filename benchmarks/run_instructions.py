"""Print how well counts of instructions repeat from boot to boot of an emulated board, and whether 1 % of work shows.

    python benchmarks/run_instructions.py [--targets NAME ...] [--files NAME ...] [--boots N]
                                          [--work FOLDER] [--out FOLDER]

Every board is booted anew for each count, without a snapshot, under a name
of its own. Counted are the files of the two example projects, and two files
of one network of which one has a layer that is a little wider. Files are kept
in ``--work`` and made only if they are not there. Writes
``instructions.json``, with every count, and ``instructions.md``; what they
hold of other targets and files stays.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import secrets
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accuracy.zoo.mobile import convolution
from machine import machine
from speed.files import OURS, case_of, files
from torch import nn
from zoo import PICTURE, ZOO, Entry, samples

import edgeq
from edgeq import runner
from edgeq.device.board import Listening, boot, image, registry
from edgeq.device.board.qemu import emulation_of
from edgeq.device.ssh import SshTransport
from edgeq.device.ssh_connection import Address
from edgeq.files import folder_lock, write_text
from edgeq.integrity import read_golden
from edgeq.progress import SILENT
from edgeq.target import Target, load_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent / "trust"
PROJECTS = Path(__file__).parents[1] / "examples"
TARGETS = ("rpi3", "rpi4", "rpi5", "graviton2")
"""A Cortex-A53, A72, A76, and a Neoverse-N1."""

EXAMPLES = ("fashion_mnist", "efficientnet_lite0")
MOST_SPREAD = 0.001
WARMUP = 2
"""The first two counts of a process differ; from the third on they are equal."""

WIDER = 176
"""Channels that the wider network has more of in its last convolution: whole tiles of every kernel."""

ORIGINAL, WIDENED = "mobilenet-v2", "mobilenet-v2, 1 % wider"
_ENGINES: dict[str, runner.Engine] = {"pte": "executorch", "onnx": "onnxruntime"}
_SILENCE_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A file to be counted, and the one sample it runs; ``work`` is set where two files are held against each other."""

    name: str
    path: Path
    sample: bytes
    work: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The instructions of one inference of a file, a count for each boot of the board."""

    target: str
    name: str
    work: str
    macs: int | None
    counts: tuple[int, ...]

    @property
    def spread(self) -> float:
        """Largest over smallest count, less one."""
        return max(self.counts) / min(self.counts) - 1


def main() -> None:
    """Make the files, boot, count, print the tables; exit 1 if a bar is missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--targets", nargs="+", default=TARGETS, metavar="NAME")
    options.add_argument("--files", nargs="+", metavar="NAME", help="all of them unless given")
    options.add_argument("--boots", type=int, default=10, metavar="N")
    options.add_argument("--work", type=Path, help="where the files are made and kept; a temporary folder unless given")
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        work = chosen.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        counted = [one for one in (*example_files(work), *pair(work)) if not chosen.files or one.name in chosen.files]
        rows = [row for name in chosen.targets for row in counts_of(load_target(name), counted, chosen.boots)]
    write(chosen.out, rows)
    print((chosen.out / "instructions.md").read_text())
    if missed := list(bars_missed(rows)):
        sys.exit("\n".join(missed))


def example_files(work: Path) -> Iterator[Counted]:
    """Every artifact of the example projects, each with its golden input."""
    for project in EXAMPLES:
        built = edgeq.build(PROJECTS / project, target="rpi4", out=work / project)
        for artifact in built.manifest.artifacts:
            sample = read_golden(built.path, artifact)[0]
            yield Counted(name=artifact.name, path=built.path / artifact.name, sample=sample)


def pair(work: Path) -> Iterator[Counted]:
    """The int8 files of a network, and of the same with a last convolution that is a little wider."""
    sample = samples(PICTURE, 1, seed=3).tobytes()
    for name, entry in ((ORIGINAL, ZOO[ORIGINAL]), (WIDENED, Entry(make=widened, shape=PICTURE, source=""))):
        folder = work / name
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=work) as unfinished:
                case = case_of("pair", entry.network(), samples(PICTURE, 8, seed=2))
                for file in files(case, [OURS], Path(unfinished)):
                    if file.problem:
                        sys.exit(f"{name}: {file.problem}")
                folder.mkdir()
                for form in _ENGINES:
                    (Path(unfinished) / f"edgeq-int8-static-rpi4{'S8' if form == 'onnx' else ''}.{form}").rename(
                        folder / f"{name}.{form}"
                    )
        for form in _ENGINES:
            yield Counted(name=f"{name}.{form}", path=folder / f"{name}.{form}", sample=sample, work=name)


def widened() -> nn.Module:
    """MobileNetV2 with so many more channels before it pools."""
    network = ZOO[ORIGINAL].make()
    *body, _last, pool, flat, head = network
    return nn.Sequential(
        *body,
        convolution(320, 1280 + WIDER, 1, 1, nn.ReLU6),
        pool,
        flat,
        nn.Linear(1280 + WIDER, head.out_features),
    )


def macs(network: nn.Module) -> int:
    """Multiply-accumulates of its convolutions and linear layers."""
    seen: list[int] = []

    def note(layer: nn.Module, _given: object, result: torch.Tensor) -> None:
        seen.append(layer.weight[0].numel() * (result.numel() if isinstance(layer, nn.Conv2d) else layer.out_features))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note)
    with torch.no_grad():
        network.eval()(torch.zeros(1, *PICTURE))
    return sum(seen)


def counts_of(target: Target, counted: Sequence[Counted], boots: int) -> list[Row]:
    """Count every file after each of ``boots`` boots of the target's board."""
    counts: dict[str, list[int]] = {one.name: [] for one in counted}
    for number in range(1, boots + 1):
        print(f"{target.name}: boot {number} of {boots}", file=sys.stderr, flush=True)
        with fresh_board(target) as device:
            for engine in _ENGINES.values():
                for name, local in runner.bundle(engine, target.triple, progress=SILENT).files.items():
                    device.put(local, f"trust/{name}", mode=0o755)
            for one in counted:
                counts[one.name].append(count(device, one))
    work = {name: macs(make()) for name, make in ((ORIGINAL, ZOO[ORIGINAL].make), (WIDENED, widened))}
    return [
        Row(target=target.name, name=one.name, work=one.work, macs=work.get(one.work), counts=tuple(counts[one.name]))
        for one in counted
    ]


@contextlib.contextmanager
def fresh_board(target: Target) -> Iterator[SshTransport]:
    """A board that was booted for this block, and ends with it."""
    folder = registry.board_folder(f"trust-{secrets.token_hex(4)}")
    emulation = emulation_of(target)
    with folder_lock(folder):
        plan = boot.Plan(
            folder=folder,
            target=target.name,
            emulation=emulation,
            image=image.board_image(emulation.system, progress=SILENT),
            listening=Listening(),
            ends_with_caller=True,
        )
        board = boot.boot(plan, snapshot=None, progress=SILENT)
    address = Address(
        name=board.name,
        host=board.host,
        port=board.port,
        user=board.user,
        key_path=board.key_path,
        host_key=board.host_key,
    )
    try:
        with contextlib.closing(SshTransport.connect(address)) as device:
            yield device
    finally:
        with folder_lock(folder):
            registry.destroy(folder)


def count(device: SshTransport, one: Counted) -> int:
    """The third inference of a process; the file is there only while it runs, as a board keeps its files in RAM."""
    device.put(one.path, "trust/model")
    seen = runner.execute(
        device,
        folder="trust",
        executable=f"edgeq-runner-{_ENGINES[one.path.suffix.removeprefix('.')]}",
        model="model",
        threads=1,
        warmup=WARMUP,
        repeats=1,
        count_instructions=True,
        samples=[one.sample],
        on_outputs=lambda *_: None,
        timeout_s=_SILENCE_S,
    )
    device.run(["rm", "trust/model"])
    instructions = seen.runs[-1].instructions
    if instructions is None:
        sys.exit(f"{device.name} counts no instructions")
    return instructions


def pairs_of(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """The rows of each format and target that are held against each other: the original, and the wider one."""
    found: Mapping[tuple[str, str], Row] = {(row.target, row.name): row for row in rows}
    for row in rows:
        other = found.get((row.target, row.name.replace(ORIGINAL, WIDENED)))
        if row.work == ORIGINAL and other is not None:
            yield row, other


def bars_missed(rows: Sequence[Row]) -> Iterator[str]:
    """What does not repeat well enough, and work that was added and not seen."""
    for row in rows:
        if row.spread > MOST_SPREAD:
            yield f"MISSED: {row.name} on {row.target} spreads by {row.spread:.3%}, to be {MOST_SPREAD:.1%} at most"
    for one, other in pairs_of(rows):
        if min(other.counts) <= max(one.counts) * (1 + MOST_SPREAD):
            yield f"MISSED: {other.name} on {one.target} is not told from {one.name} by every pair of boots"


def table(rows: Sequence[Row]) -> str:
    """Both tables as Markdown."""
    lines = [
        "Millions of instructions of an inference, median over fresh boots; spread: largest count over smallest.",
        "",
        "| file | target | boots | instructions | spread |",
        "| --- | --- | --: | --: | --: |",
    ]
    lines += [
        f"| {row.name} | {row.target} | {len(row.counts)} | {statistics.median(row.counts) / 1e6:,.3f} | "
        f"{100 * row.spread:.4f} % |"
        for row in rows
    ]
    lines += [
        "",
        "One percent more work: what the wider network counts over the other, in all pairs of boots.",
        "",
        "| files | target | more MACs | more instructions | found |",
        "| --- | --- | --: | --: | --: |",
    ]
    for one, other in pairs_of(rows):
        ratios = [100 * (b / a - 1) for a, b in itertools.product(one.counts, other.counts)]
        found = sum(ratio > 100 * MOST_SPREAD for ratio in ratios)
        more = 100 * ((other.macs or 0) / (one.macs or 1) - 1)
        lines.append(
            f"| {one.name} | {one.target} | {more:.2f} % | {min(ratios):.3f} to {max(ratios):.3f} % | "
            f"{found} of {len(ratios)} |"
        )
    where = machine()
    lines += ["", f"{where['processor']}; edgeq {version('edgeq')}."]
    return "\n".join(lines) + "\n"


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Put the rows into both files, in the place of older ones of the same file and target."""
    path = folder / "instructions.json"
    kept = json.loads(path.read_text())["rows"] if path.is_file() else []
    old = [Row(**{**row, "counts": tuple(row["counts"])}) for row in kept]
    new = {(row.target, row.name) for row in rows}
    both = sorted(
        [*(row for row in old if (row.target, row.name) not in new), *rows],
        key=lambda row: (TARGETS.index(row.target) if row.target in TARGETS else len(TARGETS), row.target),
    )
    write_text(path, as_json(both))
    write_text(folder / "instructions.md", table(both))


def as_json(rows: Sequence[Row]) -> str:
    """A row a line."""
    body = ",\n".join(json.dumps(asdict(row)) for row in rows)
    return f'{{"machine": {json.dumps(machine())}, "rows": [\n{body}\n]}}\n'


if __name__ == "__main__":
    main()
