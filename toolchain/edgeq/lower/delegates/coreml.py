"""Core ML: CPU, GPU and neural engine of Apple's devices.

coremltools writes the model on any machine that it is published for; only
macOS can compile or run it, so a .pte carries it as written and the device
compiles it when it is first loaded. What ExecuTorch and coremltools draw at
random (a name, two identifiers) or take from the clock (a date) is set from
the content, so that the same program gives the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgeq.errors import MissingCoreMlError
from edgeq.lower.executorch_watch import plain_name, values_of
from edgeq.lower.reasons import Why
from edgeq.quantize.macs import operator_name
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.lower.delegates.reference import Handed

BACKEND = "CoreMLBackend"
NAME = "Core ML"
SYSTEM = "iOS 17 or macOS 14"
UNCHECKED: tuple[str, ...] = (
    "that Core ML compiles and runs it: that takes macOS or iOS, and nothing else has Core ML",
    "what it computes: its test vectors are those of the artifact for the CPU, which Core ML need not give bit for bit",
    "which of CPU, GPU and neural engine runs which operator: Core ML decides when it loads the model",
    "how fast it is",
)

_DATE = "com.github.apple.coremltools.conversion_date"


@contextlib.contextmanager
def lowering(program: ExportedProgram) -> Iterator[Handed]:
    """What stands around a lowering, see :class:`edgeq.lower.delegates.backend.Backend`.

    Without the shortcuts of :mod:`edgeq.lower.shortcuts`: which operators
    are left whole is another matter for Core ML than for XNNPACK.
    """
    del program
    exporter = _exporter()
    native = exporter.preprocess.executorchcoreml
    refuses = exporter.supported.should_override_support
    exporter.preprocess.executorchcoreml = _Settling(native)
    exporter.supported.should_override_support = lambda asked, node: _has_bytes(node) or refuses(asked, node)
    try:
        with quietly(), _no_bars():
            yield {}  # ML programs run nowhere else
    finally:
        exporter.preprocess.executorchcoreml = native
        exporter.supported.should_override_support = refuses


def partitioner(refusals: dict[str, Why], *, half: bool) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
    """Hands over what coremltools can translate, see :class:`edgeq.lower.delegates.backend.Backend`."""
    return _exporter().partitioner(refusals, half=half)


def kernels(data: bytes, named: Mapping[str, int]) -> Counter[str]:
    """The operations of the ML program, constants aside, see :class:`edgeq.lower.delegates.backend.Backend`."""
    del named
    with tempfile.TemporaryDirectory() as folder:
        if not _exporter().preprocess.executorchcoreml.unflatten_directory_contents(data, folder):
            raise ValueError("it is no folder of Core ML's")
        package = Path(folder) / "lowered_module" / "model.mlpackage"
        if not package.is_dir():
            raise ValueError("it holds no model.mlpackage")
        spec = _exporter().tools.models.utils.load_spec(str(package))
    functions = spec.mlProgram.functions.values()
    blocks = [function.block_specializations[function.opset] for function in functions]
    return Counter(one.type for block in blocks for one in block.operations if one.type != "const")


class _Exporter:
    """What edgeq uses of coremltools and of ExecuTorch's part for it: it takes seconds to load."""

    def __init__(self) -> None:
        try:
            with quietly():
                import coremltools  # noqa: PLC0415  # not on every machine
                from executorch.backends.apple.coreml.compiler import (  # noqa: PLC0415
                    CoreMLBackend,
                    coreml_preprocess,
                )
                from executorch.backends.apple.coreml.partition import coreml_partitioner  # noqa: PLC0415
        except ImportError as error:
            raise MissingCoreMlError(str(error)) from error
        self.tools = coremltools
        self.preprocess = coreml_preprocess
        self.supported = coreml_partitioner._OperatorsSupportedForCoreMLBackend  # noqa: SLF001  # no public way to ask
        self._backend = CoreMLBackend
        self._partitioner = coreml_partitioner.CoreMLPartitioner

    def partitioner(self, refusals: dict[str, Why], *, half: bool) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
        precision = self.tools.precision
        specs = self._backend.generate_compile_specs(
            minimum_deployment_target=self.tools.target.iOS17,  # the first with int8 activations
            compute_precision=precision.FLOAT16 if half else precision.FLOAT32,
        )
        supported = self.supported()

        class Asking(self._partitioner):  # type: ignore[misc, name-defined]  # ExecuTorch is not typed
            """Asks about each node that was left out."""

            def partition(self, exported_program: ExportedProgram) -> Any:  # noqa: ANN401  # the same
                result = super().partition(exported_program)
                for node in result.tagged_exported_program.graph.nodes:
                    if node.op == "call_function" and "delegation_tag" not in node.meta:
                        refusals[node.name] = _why_not(supported, node)
                return result

        return Asking(compile_specs=specs)


def _why_not(supported: Any, node: Node) -> Why:  # noqa: ANN401  # ExecuTorch is not typed
    name = plain_name(operator_name(node))
    if _has_bytes(node):
        return Why("dtype", f"Core ML takes no bytes: this {name} reads or gives uint8")
    if supported.should_override_support(node):
        return Why("constraint", f"ExecuTorch keeps this {name} from Core ML, where it is missing or known to be wrong")
    if not supported.is_node_supported({}, node):
        return Why("no-kernel", f"coremltools cannot translate {name}")
    return Why("constraint", f"Core ML takes this {name} alone, but in no partition with its neighbours")


def _has_bytes(node: Node) -> bool:
    """Whether a node reads or gives uint8, for which ExecuTorch's part for Core ML has no word; it fails on it."""
    return any(value.dtype == torch.uint8 for near in (node, *node.all_input_nodes) for value in values_of(near))


@functools.cache
def _exporter() -> _Exporter:
    return _Exporter()


class _Settling:
    """Stands in for ExecuTorch's module that packs a folder: settles what is random in it beforehand."""

    def __init__(self, native: Any) -> None:  # noqa: ANN401  # ExecuTorch is not typed
        self._native = native

    def flatten_directory_contents(self, path: str) -> bytes | None:
        """The folder as bytes."""
        _settle(Path(path))
        packed: bytes | None = self._native.flatten_directory_contents(path)
        return packed


def _settle(folder: Path) -> None:
    """Take the date out of a model and name it by its content."""
    package = folder / "model.mlpackage"
    (model,) = package.rglob("*.mlmodel")
    spec = _exporter().tools.proto.Model_pb2.Model()
    spec.ParseFromString(model.read_bytes())
    spec.description.metadata.userDefined.pop(_DATE, None)
    model.write_bytes(spec.SerializeToString(deterministic=True))
    digest = hashlib.sha256()
    for file in sorted((package / "Data").rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    name = digest.hexdigest()
    manifest = package / "Manifest.json"
    text = manifest.read_text(encoding="utf-8")
    entries = json.loads(text)["itemInfoEntries"]
    for key, entry in entries.items():
        text = text.replace(key, str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name}/{entry['path']}")))
    settled = json.loads(text)
    manifest.write_text(json.dumps(settled, indent=4, sort_keys=True), encoding="utf-8")
    metadata = folder / "metadata.json"
    said = json.loads(metadata.read_text(encoding="utf-8"))
    said["identifier"] = f"executorch_{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
    metadata.write_text(json.dumps(said), encoding="utf-8")


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the progress bars of coremltools, which know no other way, off the terminal."""
    from tqdm import tqdm  # noqa: PLC0415  # comes with coremltools

    before = tqdm.__init__
    tqdm.__init__ = functools.partialmethod(before, disable=True)
    try:
        yield
    finally:
        tqdm.__init__ = before
