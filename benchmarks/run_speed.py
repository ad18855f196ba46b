"""Print the speed table: edgeq and its peers on the networks of the zoo, timed in turn, one thread on one processor.

    python benchmarks/run_speed.py [--models NAME ...] [--flows NAME ...] [--boards NAME ...] [--rounds N]
                                     [--out FOLDER]

Milliseconds are of this machine, by edgeq's native runner; instructions are
what the same files retire on emulated cores. Writes ``results.json``, with
every sample, and ``results.md``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # libraries read it when they are loaded
os.environ.setdefault("NNCF_CI", "1")  # else nncf tells its makers of each run

import torch
from run import TOOLS, version
from speed.files import CALIBRATION, FLOWS, NNCF, case_of, files
from speed.measuring import BOARDS, ROUNDS, boards, count_instructions, pinned, time_in_turn
from speed.table import Row, markdown, verdicts
from zoo import ZOO, samples

from edgeq.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


HERE = Path(__file__).parent / "speed"


def main() -> None:
    """Run what was asked for, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--models", nargs="+", choices=ZOO, default=list(ZOO), metavar="NAME")
    options.add_argument(
        "--flows", nargs="+", choices=FLOWS, default=[flow for flow in FLOWS if flow != NNCF], metavar="NAME"
    )
    options.add_argument("--boards", nargs="*", choices=BOARDS, default=BOARDS, metavar="NAME")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="0: count instructions only")
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    for name in chosen.models:
        write(chosen.out, name, model_rows(name, chosen.flows, chosen.boards, rounds=chosen.rounds))
    print((chosen.out / "results.md").read_text())


def model_rows(name: str, flows: Sequence[str], counters: Sequence[str], *, rounds: int) -> list[Row]:
    """A row for each file of each flow."""
    entry = ZOO[name]
    case = case_of(name, entry.network(), samples(entry.shape, CALIBRATION, seed=2))
    sample = samples(entry.shape, 1, seed=3).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{name}: making the files", flush=True)
        made = list(files(case, flows, Path(folder)))
        found = [file for file in made if not file.problem]
        paths = [file.path for file in found if file.timed]
        print(f"{name}: timing {len(paths)} files in turn", flush=True)
        with pinned():
            timed = time_in_turn(paths, sample, rounds=rounds) if rounds else {}
        print(f"{name}: counting instructions on {len(counters)} emulated boards", flush=True)
        with boards(counters) as places:  # not before: they would keep the processor from what is timed
            counted = count_instructions(places, [file.path for file in found], sample)
        return [
            Row(
                model=name,
                flow=file.flow,
                format=file.format,
                variant=file.variant,
                size_bytes=0 if file.problem else file.path.stat().st_size,
                int8_mac_share=file.int8_mac_share,
                partitions=file.partitions,
                rounds_ns=timed[file.path].rounds if file.path in timed else [],
                instructions=counted.get(file.path, {}),
                problem=file.problem,
            )
            for file in made
        ]


def write(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Put the rows of a model into both files; what they hold of other models, from this run or an earlier, stays."""
    path = folder / "results.json"
    models = json.loads(path.read_text()) if path.is_file() else {}
    models[name] = {
        "created_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "tools": {tool: version(tool) for tool in TOOLS},
        "rows": [asdict(row) for row in rows],
    }
    models = {known: models[known] for known in ZOO if known in models}
    write_text(path, _compact(models))
    write_text(folder / "results.md", report(models))


def _compact(models: Mapping[str, Any]) -> str:
    """JSON with a line for each row: every sample on a line of its own would be thousands of lines."""
    parts = []
    for name, model in models.items():
        rows = ",\n".join(json.dumps(row) for row in model["rows"])
        head = json.dumps({key: value for key, value in model.items() if key != "rows"})[:-1]
        parts.append(f'{json.dumps(name)}: {head}, "rows": [\n{rows}\n]}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def report(models: Mapping[str, Any]) -> str:
    """The table, what it was measured with, and how edgeq's rows stand to the bars."""
    rows = [Row(**row) for model in models.values() for row in model["rows"]]
    where = sorted({model["machine"] for model in models.values()})
    tools = {", ".join(f"{tool} {found}" for tool, found in model["tools"].items()) for model in models.values()}
    parts = (
        markdown(rows),
        "\n".join(where),
        "\n".join(sorted(tools)),
        "\n".join(f"* {one}" for one in verdicts(rows)),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def machine() -> str:
    """The processor, and what of it matters to int8."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    words = facts.get("flags", "").split()
    int8 = [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if flag in words]
    return f"{facts.get('model name', platform.machine())} ({', '.join(int8) or 'no dot product of bytes'})"


if __name__ == "__main__":
    main()
