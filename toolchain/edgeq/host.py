"""An artifact in its own runtime on this machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from edgeq.errors import ArtifactError
from edgeq.installed import EXTRA_OF, require
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from edgeq.records import Format

Arrays = tuple[np.ndarray, ...]


class HostRuntime:
    """Loads the artifact at ``path`` and runs it with numpy arrays.

    ``threads`` is what its kernels use. Every .pte of a process shares one
    pool of threads, so that the number asked for last holds for all of
    them. ``left_out`` names optimizations that ONNX Runtime is not to apply;
    it reads an .ort as an .onnx. ArtifactError if the runtime does not take
    the file or an input, MissingExtraError if it is not installed.
    """

    def __init__(self, path: Path, form: Format, threads: int = 1, *, left_out: Sequence[str] = ()) -> None:
        require(EXTRA_OF[form], needed_for=f"running {path.name} on this machine")
        self._path = path
        self._proven = False
        if not path.is_file():
            raise ArtifactError(path, "the file does not exist")
        with _native_messages() as messages:
            try:
                self._engine: _ExecuTorch | _OnnxRuntime = (
                    _ExecuTorch(path, threads) if form == "pte" else _OnnxRuntime(path, threads, left_out)
                )
            except Exception as error:  # both runtimes raise types of their own, RuntimeError among them
                raise ArtifactError(path, _first_line(error), detail=messages()) from error

    def run(self, inputs: Arrays) -> Arrays:
        """One inference. Inputs in the order and shapes of the model; outputs are copies."""
        # Arrays that are mapped from a file cannot be written to; torch warns of those, so they are copied.
        own = tuple(np.require(array, requirements=("C", "W")) for array in inputs)
        # Native code explains a failure on stderr alone; a file that ran once is trusted to go on.
        with contextlib.nullcontext(str) if self._proven else _native_messages() as messages:
            try:
                outputs = self._engine.run(own)
            except Exception as error:
                shapes = ", ".join(f"{array.dtype} {list(array.shape)}" for array in inputs)
                raise ArtifactError(
                    self._path, f"{_first_line(error)} (inputs: {shapes})", detail=messages()
                ) from error
        self._proven = True
        return outputs


class _ExecuTorch:
    def __init__(self, path: Path, threads: int) -> None:
        with quietly():
            from executorch.runtime import Runtime  # noqa: I001, PLC0415  # must be first: it loads torch, which _C needs
            from executorch.extension.pybindings import _C  # noqa: PLC0415  # a second of loading
            import executorch.kernels.quantized  # noqa: F401, PLC0415  # registers what makes floats of an image's bytes

        if _C._threadpool_get_thread_count() != threads:  # noqa: SLF001  # ExecuTorch has no other name for it
            _C._unsafe_reset_threadpool(threads)  # noqa: SLF001  # the same
        # The path of a file would be mapped: a file replaced while it is open would crash the process.
        self._program = Runtime.get().load_program(path.read_bytes())
        method = self._program.load_method("forward")
        if method is None:
            raise ValueError("it has no method 'forward'")
        self._method = method

    def run(self, inputs: Arrays) -> Arrays:
        import torch  # noqa: PLC0415  # an onnx artifact runs without it

        outputs = self._method.execute([torch.from_numpy(array) for array in inputs])
        return tuple(output.numpy().copy() for output in outputs)


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int, left_out: Sequence[str]) -> None:
        import onnxruntime as ort  # noqa: PLC0415  # a .pte runs without it

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # On x86 the runtime would compute int8 activations in float; integer kernels give what a board gives.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        self._session = ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(left_out)
        )
        self._names = [one.name for one in self._session.get_inputs()]

    def run(self, inputs: Arrays) -> Arrays:
        outputs = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
        return tuple(np.asarray(output) for output in outputs)


@contextlib.contextmanager
def _native_messages() -> Iterator[Callable[[], str]]:
    """Catch what native code writes to stderr, be it Python's or the process's; the value yielded gives it as text."""
    with tempfile.TemporaryFile("w+", errors="replace", buffering=1) as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)

        def text() -> str:
            file.flush()
            file.seek(0)
            return file.read()

        try:
            with contextlib.redirect_stderr(file):
                yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
