"""From a quantized program to a file for a runtime, and what that file covers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import ArtifactError, NoOnnxError
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


def lower(
    program: QuantizedProgram, form: Format, target: Target, path: Path, *, stand_in: Path | None = None
) -> Coverage:
    """Write ``program`` for the runtime of ``form`` to ``path`` and run the file once on this machine.

    A file that does not run is no artifact: it is removed. LoweringError if
    it cannot be written or does not run; it says which format would.

    A file for a microcontroller runs nowhere but there: the same program for XNNPACK,
    written to ``stand_in``, is run in its place.
    """
    try:
        return _written(program, form, target, path, stand_in)
    except (RefusedError, ArtifactError) as error:
        path.unlink(missing_ok=True)
        others = (
            other for other in FORMATS if other != form and other in target.formats and _takes(program, other, target)
        )
        raise refused(program, form, error, alternative=next(others, None)) from error


def _written(program: QuantizedProgram, form: Format, target: Target, path: Path, stand_in: Path | None) -> Coverage:
    with torch_threads(1):
        if target.bare_metal:
            return _for_microcontroller(program, target, path, stand_in)
        if form == "onnx":
            from edgeq.lower.onnx import lower_onnx  # noqa: PLC0415  # a build of .pte files needs no ONNX

            if target.runtimes.onnxruntime is None:
                raise NoOnnxError(target.name)
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
    _run_once(program, path, form)
    return coverage


def _for_microcontroller(program: QuantizedProgram, target: Target, path: Path, stand_in: Path | None) -> Coverage:
    # Importing any of these takes packages that others do not need.
    from edgeq.lower.executorch import lower_executorch  # noqa: PLC0415

    if target.npu is not None:
        from edgeq.lower.ethos_u import lower_ethos_u  # noqa: PLC0415

        coverage = lower_ethos_u(program, target.npu, path)
    else:
        from edgeq.lower.cortex_m import lower_cortex_m  # noqa: PLC0415

        assert target.cmsis_nn is not None  # noqa: S101  # a target's file has one of the two
        coverage = lower_cortex_m(program, target.cmsis_nn, path)
    if stand_in is not None:
        lower_executorch(program, stand_in)
        _run_once(program, stand_in, "pte")
    return coverage


def _run_once(program: QuantizedProgram, path: Path, form: Format) -> None:
    HostRuntime(path, form).run(tuple(tensor.numpy() for tensor in program.example_inputs))


def _takes(program: QuantizedProgram, form: Format, target: Target) -> bool:
    """Whether the runtime of ``form`` takes the program, found by trying; a microcontroller has one runtime."""
    if target.bare_metal:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            _written(program, form, target, Path(folder) / f"tried.{form}", None)
        except (RefusedError, ArtifactError):
            return False
    return True
