"""The flows that are compared: edgeq's own and its peers, each as its documentation has it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from accuracy.built import Built, SkippedError, onnx_int8_share, pte_int8_share, stopwatch
from accuracy.cases import Case
from accuracy.searching import searched
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from edgeq.lower import lower
from edgeq.model import Dataset, Model
from edgeq.progress import Silent
from edgeq.project import InputSpec
from edgeq.quantize import FloatGraph, quantize
from edgeq.recipe import named
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET = "rpi4"
"""The board the files are made for: int8 activations in both formats."""

MAX_DROP_PP = 0.5


def fp32(case: Case, folder: Path) -> list[Built]:
    """The float model as PyTorch exports it to ONNX: what every drop is a drop from."""
    clock = stopwatch()
    path = exported_onnx(case, folder / "fp32.onnx")
    return [Built(path=path, form="onnx", time=clock(), int8_share=0.0)]


def edgeq(recipe: str, case: Case, folder: Path) -> list[Built]:
    """Both files of an edgeq recipe. The seconds of each count the quantizing that they share."""
    inputs = tuple(torch.from_numpy(array) for array in case.example())
    specs = tuple(InputSpec(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch.")) for t in inputs)

    def samples() -> Iterator[tuple[torch.Tensor, ...]]:
        return ((torch.from_numpy(row[None]),) for row in case.calibration)

    clock = stopwatch()
    dataset = Dataset(samples, specs, where="calibration", labelled=False)
    model = Model(name=case.name, module=case.network, example_inputs=inputs)
    with own_cache(folder):
        program = quantize(FloatGraph(model, dataset, progress=Silent()), named(recipe), progress=Silent())
    quantizing = clock()
    built = []
    for form in ("pte", "onnx"):
        clock = stopwatch()
        path = folder / f"edgeq-{recipe}.{form}"
        coverage = lower(program, form, load_target(TARGET), path)
        elapsed = quantizing + clock()
        built.append(Built(path=path, form=form, time=elapsed, int8_share=coverage.int8_mac_share))
    return built


def auto(case: Case, folder: Path) -> list[Built]:
    """What the search of ``auto`` settles on within 0.5 pp, on samples that are not those of the table."""
    clock = stopwatch()
    with own_cache(folder):
        made = searched(case, folder, "auto", target=TARGET, max_drop_pp=MAX_DROP_PP)
    elapsed = clock()
    artifact = next(one for one in made.manifest.artifacts if one.recipe == "auto")
    chosen = made.manifest.searches[0].chosen
    path = made.path / artifact.name
    return [Built(path=path, form="pte", time=elapsed, int8_share=artifact.int8_mac_share, detail=chosen)]


def stock(case: Case, folder: Path) -> list[Built]:
    """XNNPACKQuantizer and PT2E with the settings of ExecuTorch's documentation, one scale a channel."""
    example = tuple(torch.from_numpy(array) for array in case.example())
    clock = stopwatch()
    with silence(), torch.no_grad():
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        prepared = prepare_pt2e(torch.export.export(case.network, example).module(), quantizer)
        for row in case.calibration:
            prepared(torch.from_numpy(row[None]))
        converted = convert_pt2e(prepared)
        edge = to_edge_transform_and_lower(torch.export.export(converted, example), partitioner=[XnnpackPartitioner()])
        lowered = edge.exported_program()
        path = folder / "stock.pte"
        path.write_bytes(edge.to_executorch().buffer)
    elapsed = clock()
    return [Built(path=path, form="pte", time=elapsed, int8_share=pte_int8_share(lowered))]


def onnx_runtime(
    method: CalibrationMethod, case: Case, folder: Path, *, activations: QuantType = QuantType.QInt8
) -> list[Built]:
    """``quantize_static`` behind ``quant_pre_process``: QDQ, per channel; S8 for both is its default."""
    clock = stopwatch()
    with silence():
        plain = exported_onnx(case, folder / "plain.onnx")
        quant_pre_process(plain, folder / "prepared.onnx")
        path = folder / f"onnxruntime-{method.name}-{activations.name}.onnx"
        quantize_static(
            folder / "prepared.onnx",
            path,
            Samples(case.calibration),
            per_channel=True,
            activation_type=activations,
            calibrate_method=method,
        )
    elapsed = clock()
    return [Built(path=path, form="onnx", time=elapsed, int8_share=onnx_int8_share(path))]


def nncf(case: Case, folder: Path) -> list[Built]:
    """``nncf.quantize`` of the ONNX file, transformers told of as its documentation asks.

    One setting is not the default: no activation gets a scale for each
    channel, which ONNX Runtime would compute in float.
    """
    import nncf  # noqa: PLC0415  # the one peer that a user may not have
    from nncf.quantization.advanced_parameters import QuantizationParameters  # noqa: PLC0415  # the same

    clock = stopwatch()
    with silence():
        plain = exported_onnx(case, folder / "plain.onnx")
        quant_pre_process(plain, folder / "prepared.onnx")
        name = onnx.load(folder / "prepared.onnx").graph.input[0].name
        quantized = nncf.quantize(
            onnx.load(folder / "prepared.onnx"),
            nncf.Dataset(case.calibration, lambda row: {name: row[None]}),
            subset_size=len(case.calibration),
            model_type=nncf.ModelType.TRANSFORMER if case.transformer else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_quantization_params=QuantizationParameters(per_channel=False)
            ),
        )
        path = folder / "nncf.onnx"
        onnx.save(quantized, path)
    elapsed = clock()
    return [Built(path=path, form="onnx", time=elapsed, int8_share=onnx_int8_share(path))]


@contextlib.contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Give edgeq an empty cache: a calibration that an earlier run kept there would not be timed."""
    before = os.environ.get("EDGEQ_CACHE")
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        os.environ["EDGEQ_CACHE"] = empty
        try:
            yield
        finally:
            del os.environ["EDGEQ_CACHE"]
            if before is not None:
                os.environ["EDGEQ_CACHE"] = before


class Samples(CalibrationDataReader):
    """Calibration samples as ONNX Runtime asks for them."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = iter(rows)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        """One sample, None after the last."""
        row = next(self._rows, None)
        return None if row is None else {"input": row[None]}


def exported_onnx(case: Case, path: Path) -> Path:
    """The float model as a file of one sample's shape whose input is called ``input``."""
    with silence():
        example = tuple(torch.from_numpy(array) for array in case.example())
        program = torch.onnx.export(
            case.network, example, dynamo=True, opset_version=20, input_names=["input"], verbose=False
        )
        program.save(path)
    return path


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the chatter of exporters and quantizers from the table."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)


def warm_up() -> None:
    """Build a network of one layer with each flow, so that none of them pays for loading what all of them use."""
    rows = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    labels = np.zeros(2, np.int64)
    case = Case(name="warm-up", note="", network=network, calibration=rows, evaluation=rows, labels=labels)
    with tempfile.TemporaryDirectory() as folder:
        for flow in FLOWS.values():
            with contextlib.suppress(ModuleNotFoundError, SkippedError):
                flow(case, Path(folder))


FLOWS: dict[str, Callable[[Case, Path], list[Built]]] = {
    "fp32": fp32,
    "stock PT2E": stock,
    "ONNX Runtime MinMax": partial(onnx_runtime, CalibrationMethod.MinMax),
    "ONNX Runtime Percentile": partial(onnx_runtime, CalibrationMethod.Percentile),
    "ONNX Runtime Entropy": partial(onnx_runtime, CalibrationMethod.Entropy),
    "nncf.quantize": nncf,
    "edgeq int8-static": partial(edgeq, "int8-static"),
    "edgeq auto": auto,
}
