"""From a quantized program to a file for a runtime, and what that file covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.errors import ArtifactError
from edgeq.host import HostRuntime
from edgeq.lower.coverage import Coverage
from edgeq.lower.executorch import lower_executorch
from edgeq.lower.onnx import lower_onnx
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.quantize import QuantizedProgram
    from edgeq.records import Format
    from edgeq.target import Target

__all__ = ["Coverage", "lower"]


def lower(program: QuantizedProgram, form: Format, target: Target, path: Path) -> Coverage:
    """Write ``program`` for the runtime of ``form`` to ``path`` and run the file once on this machine.

    A file that does not run is no artifact: it is removed. LoweringError if
    it cannot be written, ArtifactError if it does not run.
    """
    with torch_threads(1):
        coverage = (
            lower_executorch(program, path)
            if form == "pte"
            else lower_onnx(
                program,
                path,
                activations=target.runtimes.onnxruntime.activations,
                # On x86 AVX2 stands for it, which all have had since 2013; the target "host" promises less than that.
                dot_product=target.triple.startswith("x86_64") or "asimddp" in target.features,
            )
        )
    try:
        HostRuntime(path, form).run(tuple(tensor.numpy() for tensor in program.example_inputs))
    except ArtifactError:
        path.unlink(missing_ok=True)
        raise
    return coverage
