"""The files whose speed is compared: edgeq's own and its peers', all of one network and one calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


Variant = Literal["", "S8", "U8", "x86"]
"""What tells files of one flow and format: the dtype of activations; the processor, where .pte differ by it."""

CALIBRATION = 8
"""Samples; ranges have no bearing on speed."""

ARM, X86 = "rpi4", "host"
"""The targets that files are made for."""

FLOAT = "edgeq fp32"
OURS = "edgeq int8-static"
STOCK = "stock PT2E"
ORT = "ONNX Runtime"
NNCF = "nncf.quantize"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to measure, or why there is none.

    ``timed`` says whether it is for this machine's kind of processor.
    """

    flow: str
    path: Path = Path()
    format: Format | Literal[""] = ""
    variant: Variant = ""
    int8_mac_share: float = 0.0
    partitions: int | None = None
    timed: bool = True
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
    """Both formats for ARM and for x86; one file where both are the same. What is for ARM alone is not timed here."""
    inputs = tuple(torch.from_numpy(array) for array in case.example())
    specs = tuple(InputSpec(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch.")) for t in inputs)

    def samples() -> Iterator[tuple[torch.Tensor, ...]]:
        return ((torch.from_numpy(row[None]),) for row in case.calibration)

    dataset = Dataset(samples, specs, where="calibration", labelled=False)
    model = Model(name=case.name, module=case.network, example_inputs=inputs)
    with own_cache(folder):
        program = quantize(FloatGraph(model, dataset, progress=SILENT), named(recipe), progress=SILENT)
    variants: tuple[tuple[Format, Variant, Variant], ...] = (("pte", "", "x86"), ("onnx", "S8", "U8"))
    for form, arm, x86 in variants if program.recipe.quantized else (("pte", "", ""), ("onnx", "", "")):
        made = []
        for target, variant in ((ARM, arm), (X86, x86)) if arm != x86 else ((ARM, ""),):
            path = folder / f"edgeq-{recipe}-{target}{variant}.{form}"
            covered = lower(program, form, load_target(target), path)
            made.append(
                File(
                    flow=f"edgeq {recipe}",
                    path=path,
                    format=form,
                    variant=variant,
                    int8_mac_share=covered.int8_mac_share,
                    partitions=covered.partitions if form == "pte" else None,
                )
            )
        for_arm, for_x86 = made[0], made[-1]
        if for_arm.path.read_bytes() == for_x86.path.read_bytes():
            yield for_arm
        else:
            yield from (replace(for_arm, timed=False), for_x86)


def _peer(
    flow: str, variant: Variant, make: Callable[[Case, Path], list[Built]], case: Case, folder: Path
) -> Iterator[File]:
    for built in make(case, folder):
        yield File(flow=flow, path=built.path, format=built.form, variant=variant, int8_mac_share=built.int8_share)


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
