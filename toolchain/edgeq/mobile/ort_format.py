"""An .onnx in ONNX Runtime's own format, and the list of operators that a runtime built for it alone needs.

A runtime with few operators ("minimal build") optimizes nothing when it loads
a file and reads no ONNX. What it reads has to be optimized beforehand, with
care for where it is to run:

* every optimization is applied at once ("fixed" style). The other style
  keeps some for the runtime to apply, which it does for execution providers
  that compile parts of a graph, NNAPI or Core ML; on the CPU it would only
  lose them.
* ``NchwcTransformer`` stays off: it lays images out for the vector registers
  of the x86 that converts.
* signed activations stay signed (``session.qdqisint8allowed``), as ARM's
  kernels take them; by itself the runtime would make them unsigned for x86.

With these the operators are portable ones, which edgeq's tests run on an
emulated ARM board. What the runtime would do on ARM alone while it loads an
.onnx is lost: it can only cost time.

Sources: https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html and
https://onnxruntime.ai/docs/reference/operators/reduced-operator-config-file.html
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import ArtifactError
from edgeq.files import write_bytes, write_text
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ONLY_ON_X86 = ("NchwcTransformer",)
"""Optimizations that make a graph for the processor that converts."""

REQUIRED_OPERATORS = "required_operators.config"
REQUIRED_TYPES = "required_operators_and_types.config"

_ALIGNMENT = 16
"""Of tensors in the file, as ONNX Runtime writes it."""


def convert(onnx: Path, path: Path) -> None:
    """Write ``onnx``, optimized for the CPU of a phone, to ``path``; the same file gives the same bytes.

    ArtifactError if ONNX Runtime does not read or convert it.
    """
    import onnxruntime as ort  # noqa: PLC0415  # no other export needs it

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "model.ort"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(raw)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.save_model_format", "ORT")
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        try:
            ort.InferenceSession(
                str(onnx), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(ONLY_ON_X86)
            )
        except Exception as error:  # ONNX Runtime has types of its own
            raise ArtifactError(onnx, f"ONNX Runtime does not convert it: {error}") from error
        write_bytes(path, _in_settled_order(raw.read_bytes()))


def operators(path: Path) -> tuple[str, ...]:
    """What the kernels of a file are called, ``DOMAIN;OPSET;NAME``; sorted."""
    found: dict[str, dict[int, set[str]]] = {}
    with quietly():  # it leaves its file to Python to close, which warns of that
        _ort_format().OrtFormatModelProcessor(str(path), found, None).process()
    return _lines(found)


def write_config(models: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """Write what a runtime for these .ort files alone has to have into ``folder``, without and with types.

    Gives the operators of the written list, read back as the build of ONNX
    Runtime reads it (``--include_ops_by_config``).
    """
    from onnxruntime.tools.reduced_build_config_parser import parse_config  # noqa: PLC0415  # as below

    head = f"# Generated from: {', '.join(path.name for path in models)}\n"
    for name, types in ((REQUIRED_OPERATORS, False), (REQUIRED_TYPES, True)):
        path = folder / name
        with quietly():
            _ort_format().create_config_from_models(list(models), path, types)
        said = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        write_text(path, head + "\n".join(said) + "\n")
    found, _ = parse_config(str(folder / REQUIRED_OPERATORS))
    return _lines(found)


def _lines(found: dict[str, dict[int, set[str]]]) -> tuple[str, ...]:
    return tuple(
        sorted(
            f"{domain};{opset};{name}"
            for domain, sets in found.items()
            for opset, names in sets.items()
            for name in names
        )
    )


def _ort_format() -> Any:  # noqa: ANN401  # ONNX Runtime's tools are not typed
    """ONNX Runtime's own reader of the format; where torch is installed its package imports that.

    It leaves a folder of its own where Python looks for modules, which
    would make every build that this process looks at another one.
    """
    before = list(sys.path)
    try:
        from onnxruntime.tools import ort_format_model  # noqa: PLC0415  # may take seconds
    finally:
        sys.path[:] = before
    return ort_format_model


def _in_settled_order(data: bytes) -> bytes:
    """The same model with the table of argument types in the order of its keys.

    ONNX Runtime writes that table in the order of a hash table, another one
    in each process. It lies in front of the model, as flatbuffers are
    written from their end: what lies behind is kept byte for byte.
    """
    _ort_format()  # loads the package of the line after the next, which lies inside of it
    from flatbuffers import Builder  # noqa: PLC0415  # comes with ONNX Runtime
    from ort_flatbuffers_py import fbs  # noqa: PLC0415  # the same

    session = fbs.InferenceSession.InferenceSession.GetRootAs(data, 0)
    model = session.Model()._tab  # noqa: SLF001  # the position of a table has no public name
    layout = model.Pos - int.from_bytes(data[model.Pos : model.Pos + 4], "little", signed=True)
    start = min(model.Pos, layout)  # the table's layout stands right in front of it, or is one that was written before
    builder = Builder(2 * len(data))
    builder.head = len(builder.Bytes) - (len(data) - start)
    builder.Bytes[builder.head :] = data[start:]
    builder.minalign = _ALIGNMENT
    table = _Table(fbs, builder).write(session.KernelTypeStrResolver())
    version = builder.CreateString(session.OrtVersion())
    fbs.InferenceSession.Start(builder)
    fbs.InferenceSession.AddOrtVersion(builder, version)
    fbs.InferenceSession.AddModel(builder, len(data) - model.Pos)
    fbs.InferenceSession.AddKernelTypeStrResolver(builder, table)
    builder.Finish(fbs.InferenceSession.End(builder), file_identifier=b"ORTM")
    return bytes(builder.Output())


class _Table:
    """Writes the table that says which arguments of an operator settle its types, entries in the order of keys."""

    def __init__(self, fbs: Any, builder: Any) -> None:  # noqa: ANN401  # generated code
        self._fbs = fbs
        self._builder = builder

    def write(self, table: Any) -> int:  # noqa: ANN401  # the same
        """Where the table came to lie."""
        fbs = self._fbs
        rows = [table.OpKernelTypeStrArgs(index) for index in range(table.OpKernelTypeStrArgsLength())]
        offsets = [self._operator(row) for row in sorted(rows, key=lambda row: row.OpId())]
        listed = self._vector(fbs.KernelTypeStrResolver.StartOpKernelTypeStrArgsVector, offsets)
        fbs.KernelTypeStrResolver.Start(self._builder)
        fbs.KernelTypeStrResolver.AddOpKernelTypeStrArgs(self._builder, listed)
        return int(fbs.KernelTypeStrResolver.End(self._builder))

    def _operator(self, row: Any) -> int:  # noqa: ANN401  # the same
        entry = self._fbs.OpIdKernelTypeStrArgsEntry
        kinds = [row.KernelTypeStrArgs(index) for index in range(row.KernelTypeStrArgsLength())]
        offsets = [self._kind(kind) for kind in sorted(kinds, key=lambda kind: kind.KernelTypeStr())]
        listed = self._vector(entry.StartKernelTypeStrArgsVector, offsets)
        name = self._builder.CreateString(row.OpId())
        entry.Start(self._builder)
        entry.AddOpId(self._builder, name)
        entry.AddKernelTypeStrArgs(self._builder, listed)
        return int(entry.End(self._builder))

    def _kind(self, kind: Any) -> int:  # noqa: ANN401  # the same
        entry = self._fbs.KernelTypeStrArgsEntry
        listed = self._vector(entry.StartArgsVector, list(self._arguments(kind)))
        name = self._builder.CreateString(kind.KernelTypeStr())
        entry.Start(self._builder)
        entry.AddKernelTypeStr(self._builder, name)
        entry.AddArgs(self._builder, listed)
        return int(entry.End(self._builder))

    def _arguments(self, kind: Any) -> Iterator[int]:  # noqa: ANN401  # the same
        entry = self._fbs.ArgTypeAndIndex
        for index in range(kind.ArgsLength()):
            argument = kind.Args(index)
            entry.Start(self._builder)
            entry.AddArgType(self._builder, argument.ArgType())
            entry.AddIndex(self._builder, argument.Index())
            yield int(entry.End(self._builder))

    def _vector(self, start: Any, offsets: list[int]) -> int:  # noqa: ANN401  # the same
        start(self._builder, len(offsets))
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())
