"""The four stock flows, one a process as their documentation has it: each loads only what it needs itself.

python benchmarks/build_time/stock.py FLOW FOLDER

FOLDER is a project of ``projects.py``. Prints the seconds after loading.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


def model(folder: Path) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], np.ndarray]:
    """The project's network, one sample's inputs, and all calibration samples."""
    import torch  # noqa: PLC0415  # each flow loads what it needs

    sys.path.insert(0, str(folder))
    import project  # noqa: PLC0415  # the user's own

    rows = np.load(folder / "calibration.npy", mmap_mode="r")
    return project.network(), (torch.from_numpy(rows[:1].copy()),), rows


def pte_fp32(folder: Path) -> None:
    """The float model as ExecuTorch's XNNPACK guide lowers it."""
    import torch  # noqa: PLC0415  # as above
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # noqa: PLC0415
    from executorch.exir import to_edge_transform_and_lower  # noqa: PLC0415

    network, example, _ = model(folder)
    edge = to_edge_transform_and_lower(torch.export.export(network, example), partitioner=[XnnpackPartitioner()])
    (folder / "stock.fp32.pte").write_bytes(edge.to_executorch().buffer)


def pte_int8(folder: Path) -> None:
    """XNNPACKQuantizer and PT2E, one scale a channel."""
    import torch  # noqa: PLC0415  # as above
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # noqa: PLC0415
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (  # noqa: PLC0415
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower  # noqa: PLC0415
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: PLC0415

    network, example, rows = model(folder)
    with torch.no_grad():
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        prepared = prepare_pt2e(torch.export.export(network, example).module(), quantizer)
        for row in rows:
            prepared(torch.from_numpy(row[None].copy()))
        converted = convert_pt2e(prepared)
        edge = to_edge_transform_and_lower(torch.export.export(converted, example), partitioner=[XnnpackPartitioner()])
        (folder / "stock.int8.pte").write_bytes(edge.to_executorch().buffer)


def onnx_fp32(folder: Path, name: str = "stock.fp32.onnx") -> np.ndarray:
    """The float model as PyTorch exports it."""
    import torch  # noqa: PLC0415  # as above

    network, example, rows = model(folder)
    torch.onnx.export(network, example, dynamo=True, opset_version=20, input_names=["input"], verbose=False).save(
        folder / name
    )
    return rows


def onnx_int8(folder: Path) -> None:
    """``quantize_static`` behind ``quant_pre_process``: QDQ, MinMax, one scale a channel."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Samples(CalibrationDataReader):
        def __init__(self, rows: np.ndarray) -> None:
            self._rows = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self._rows, None)
            return None if row is None else {"input": row[None]}

    rows = onnx_fp32(folder, "plain.onnx")
    quant_pre_process(folder / "plain.onnx", folder / "prepared.onnx")
    quantize_static(folder / "prepared.onnx", folder / "stock.int8.onnx", Samples(rows), per_channel=True)


FLOWS: dict[str, Callable[[Path], object]] = {
    "fp32 .pte": pte_fp32,
    "PT2E int8 .pte": pte_int8,
    "fp32 .onnx": onnx_fp32,
    "quantize_static int8 .onnx": onnx_int8,
}

if __name__ == "__main__":
    start = time.monotonic()
    FLOWS[sys.argv[1]](Path(sys.argv[2]))
    print(f"{time.monotonic() - start:.2f}")
