"""From a quantized program to a file for a runtime, and what that file covers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import ArtifactError
from edgeq.host import HostRuntime
from edgeq.lower.coverage import Coverage
from edgeq.lower.refusal import RefusedError, refused
from edgeq.quantize.threads import torch_threads
from edgeq.records import FORMATS

if TYPE_CHECKING:
    from edgeq.quantize import QuantizedProgram
    from edgeq.records import Format
    from edgeq.target import Target

__all__ = ["Coverage", "lower"]


def lower(program: QuantizedProgram, form: Format, target: Target, path: Path) -> Coverage:
    """Write ``program`` for the runtime of ``form`` to ``path`` and run the file once on this machine.

    A file that does not run is no artifact: it is removed. LoweringError if
    it cannot be written or does not run; it says which format would.
    """
    try:
        return _written(program, form, target, path)
    except (RefusedError, ArtifactError) as error:
        path.unlink(missing_ok=True)
        others = (
            other for other in FORMATS if other != form and other in target.formats and _takes(program, other, target)
        )
        raise refused(program, form, error, alternative=next(others, None)) from error


def _written(program: QuantizedProgram, form: Format, target: Target, path: Path) -> Coverage:
    with torch_threads(1):
        if form == "onnx":
            from edgeq.lower.onnx import lower_onnx  # noqa: PLC0415  # a build of .pte files needs no ONNX

            return lower_onnx(
                program,
                path,
                activations=target.runtimes.onnxruntime.activations,
                # On x86 AVX2 stands for it, which all have had since 2013; the target "host" promises less than that.
                dot_product=target.triple.startswith("x86_64") or "asimddp" in target.features,
                triple=target.triple,
            )
        from edgeq.lower.executorch import lower_executorch  # noqa: PLC0415  # nor the other way round

        coverage = lower_executorch(program, path, float_filters=target.triple.startswith("x86_64"))
    HostRuntime(path, form).run(tuple(tensor.numpy() for tensor in program.example_inputs))
    return coverage


def _takes(program: QuantizedProgram, form: Format, target: Target) -> bool:
    """Whether the runtime of ``form`` takes the program, found by trying."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _written(program, form, target, Path(folder) / f"tried.{form}")
        except (RefusedError, ArtifactError):
            return False
    return True
