"""The files whose speed is compared: edgeq's own and its peers', all of one network and one calibration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from accuracy.built import SkippedError
from accuracy.cases import Case
from accuracy.flows import nncf, onnx_runtime, own_cache, stock
from onnxruntime.quantization import CalibrationMethod, QuantType

from edgeq.lower import lower
from edgeq.model import Dataset, Model
from edgeq.progress import SILENT
from edgeq.project import InputSpec
from edgeq.quantize import FloatGraph, quantize
from edgeq.recipe import named
from edgeq.records import Format
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from accuracy.built import Built


Form = Literal["", "S8", "U8"]
"""The dtype of activations in an .onnx; "" where a format has only one."""

CALIBRATION = 8
"""Samples; ranges have no bearing on speed."""

FLOAT = "edgeq fp32"
OURS = "edgeq int8-static"
STOCK = "stock PT2E"
ORT = "ONNX Runtime"
NNCF = "nncf.quantize"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to time, or why there is none."""

    flow: str
    path: Path | None = None
    format: Format | Literal[""] = ""
    activations: Form = ""
    int8_mac_share: float = 0.0
    partitions: int | None = None
    problem: str = ""


def case_of(name: str, network: torch.nn.Module, rows: np.ndarray) -> Case:
    """What the flows of the accuracy table take; nothing is scored here."""
    labels = np.zeros(1, np.int64)
    return Case(name=name, note="", network=network, calibration=rows, evaluation=rows[:1], labels=labels)


def files(case: Case, flows: Sequence[str], folder: Path) -> Iterator[File]:
    """Every file of ``flows``, written to ``folder``. What a peer raises is a row as well."""
    for flow in flows:
        try:
            yield from FLOWS[flow](case, folder)
        except ModuleNotFoundError as error:
            hint = "pip install --no-deps -r benchmarks/requirements.txt"
            yield File(flow=flow, problem=f"skipped: {error.name} is not installed; {hint}")
        except SkippedError as error:
            yield File(flow=flow, problem=f"skipped: {error}")
        except Exception as error:  # noqa: BLE001  # a flow that cannot do a model is a result
            first = (str(error).strip().splitlines() or [""])[0]
            yield File(flow=flow, problem=f"failed: {type(error).__name__}: {first[:160]}")


def _edgeq(recipe: str, case: Case, folder: Path) -> Iterator[File]:
    """The .pte, which is one for all processors, and the .onnx for ARM and for x86."""
    inputs = tuple(torch.from_numpy(array) for array in case.example())
    specs = tuple(InputSpec(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch.")) for t in inputs)

    def samples() -> Iterator[tuple[torch.Tensor, ...]]:
        return ((torch.from_numpy(row[None]),) for row in case.calibration)

    dataset = Dataset(samples, specs, where="calibration", labelled=False)
    model = Model(name=case.name, module=case.network, example_inputs=inputs)
    with own_cache(folder):
        program = quantize(FloatGraph(model, dataset, progress=SILENT), named(recipe), progress=SILENT)
    made: tuple[tuple[Format, str, Form], ...] = (("pte", "rpi4", ""), ("onnx", "rpi4", "S8"), ("onnx", "host", "U8"))
    if not program.recipe.quantized:
        made = (("pte", "rpi4", ""), ("onnx", "rpi4", ""))
    for form, target, activations in made:
        path = folder / f"edgeq-{recipe}{activations}.{form}"
        covered = lower(program, form, load_target(target), path)
        yield File(
            flow=f"edgeq {recipe}",
            path=path,
            format=form,
            activations=activations,
            int8_mac_share=covered.int8_mac_share,
            partitions=covered.partitions if form == "pte" else None,
        )


def _peer(
    flow: str, activations: Form, make: Callable[[Case, Path], list[Built]], case: Case, folder: Path
) -> Iterator[File]:
    for built in make(case, folder):
        yield File(
            flow=flow, path=built.path, format=built.form, activations=activations, int8_mac_share=built.int8_share
        )


def _onnx_runtime(case: Case, folder: Path) -> Iterator[File]:
    """Its default, S8 activations, and the U8 that its documentation recommends on x86."""
    minmax = partial(onnx_runtime, CalibrationMethod.MinMax)
    yield from _peer(ORT, "S8", minmax, case, folder)
    yield from _peer(ORT, "U8", partial(minmax, activations=QuantType.QUInt8), case, folder)


FLOWS: dict[str, Callable[[Case, Path], Iterator[File]]] = {
    FLOAT: partial(_edgeq, "fp32"),
    OURS: partial(_edgeq, "int8-static"),
    STOCK: partial(_peer, STOCK, "", stock),
    ORT: _onnx_runtime,
    NNCF: partial(_peer, NNCF, "", nncf),
}
