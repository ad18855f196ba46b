"""Print the accuracy table: edgeq and its peers on the same models, calibration and evaluation data, in one run.

    python benchmarks/run.py [--models NAME ...] [--flows NAME ...] [--samples N] [--out FOLDER]

Each file runs in its own runtime on this machine. Writes ``results.json``
and ``results.md``; what could not be run is in both, with the reason.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

# One thread, so that the seconds of the flows compare; libraries read it when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NNCF_CI", "1")  # else nncf tells its makers of each run

import torch
from accuracy.built import SkippedError
from accuracy.cases import CASES, Case
from accuracy.flows import FLOWS, warm_up
from accuracy.scoring import Row, outputs, scored
from accuracy.table import FLOAT, markdown, verdicts

from edgeq.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

HERE = Path(__file__).parent / "accuracy"
SAMPLES = 2000
TOOLS = ("edgeq", "torch", "torchao", "executorch", "onnx", "onnxruntime", "nncf")


def main() -> None:
    """Run what was asked for, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    options.add_argument("--flows", nargs="+", choices=FLOWS, default=list(FLOWS), metavar="NAME")
    options.add_argument("--samples", type=int, default=SAMPLES, help="evaluate at most so many")
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    print("loading every tool once, so that no flow pays for it", flush=True)
    warm_up()
    for name in chosen.models:
        note, rows = model_rows(name, [FLOAT, *(flow for flow in chosen.flows if flow != FLOAT)], chosen.samples)
        write(chosen.out, name, note, rows)
    print((chosen.out / "results.md").read_text())


def model_rows(name: str, flows: Sequence[str], samples: int) -> tuple[str, list[Row]]:
    """The note of the model, and a row for each file of each flow."""
    try:
        case = CASES[name](samples)
    except (ImportError, FileNotFoundError) as error:  # data or a package that a user may not have
        return "", [Row(model=name, flow="all", problem=f"skipped: {error}")]
    rows: list[Row] = []
    reference: np.ndarray | None = None
    with tempfile.TemporaryDirectory() as folder:
        for flow in flows:
            print(f"{name}: {flow}", flush=True)
            for row, own in flow_rows(case, flow, Path(folder), reference):
                reference = own if reference is None else reference
                rows.append(row)
    return case.note, rows


def flow_rows(
    case: Case, flow: str, folder: Path, reference: np.ndarray | None
) -> Iterator[tuple[Row, np.ndarray | None]]:
    """The rows of one flow, with the outputs they are made of. What a peer raises is a row as well."""
    try:
        for built in FLOWS[flow](case, folder):
            own = outputs(built, case)
            yield scored(case, flow, built, own, own if reference is None else reference), own
    except ModuleNotFoundError as error:
        hint = "pip install --no-deps -r benchmarks/requirements.txt"
        yield Row(model=case.name, flow=flow, problem=f"skipped: {error.name} is not installed; {hint}"), None
    except SkippedError as error:
        yield Row(model=case.name, flow=flow, problem=f"skipped: {error}"), None
    except Exception as error:  # noqa: BLE001  # a flow that cannot do a model is a result
        first = (str(error).strip().splitlines() or [""])[0]
        yield Row(model=case.name, flow=flow, problem=f"failed: {type(error).__name__}: {first[:160]}"), None


def write(folder: Path, name: str, note: str, rows: Sequence[Row]) -> None:
    """Put the rows of a model into both files; what they hold of other models, from this run or an earlier, stays."""
    path = folder / "results.json"
    models = json.loads(path.read_text()) if path.is_file() else {}
    models[name] = {
        "note": note,
        "created_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "tools": {tool: version(tool) for tool in TOOLS},
        "rows": [asdict(row) for row in rows],
    }
    models = {known: models[known] for known in CASES if known in models}
    write_text(path, json.dumps(models, indent=2) + "\n")
    write_text(folder / "results.md", report(models))


def report(models: Mapping[str, Any]) -> str:
    """The table, what each model is, and what edgeq's rows fall short of."""
    rows = [Row(**row) for model in models.values() for row in model["rows"]]
    tools = {", ".join(f"{tool} {found}" for tool, found in model["tools"].items()) for model in models.values()}
    notes = [f"* {name}: {model['note']}" for name, model in models.items() if model["note"]]
    parts = (
        markdown(rows),
        "\n".join(notes),
        "\n".join(sorted(tools)),
        "\n".join(f"* {one}" for one in verdicts(rows)),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def version(tool: str) -> str:
    """The installed version, or a word that it is not."""
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
