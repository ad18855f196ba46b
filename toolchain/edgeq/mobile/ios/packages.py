"""The Swift packages that bring the runtimes, and what of them an artifact needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import BackendNotThereError
from edgeq.mobile.releases import Releases

if TYPE_CHECKING:
    from edgeq.mobile.content import AppModel
    from edgeq.records import Dependency


@dataclass(frozen=True, kw_only=True)
class SwiftPackage:
    """A runtime's package: ``identity`` as SwiftPM derives it, ``requirement`` with the version put in.

    ``ios`` and ``macos`` are the lowest major versions that it takes.
    ``engine`` is the class of the exported code that runs files in it.
    """

    releases: Releases
    identity: str
    requirement: str
    ios: int
    macos: int
    engine: str

    def dependency_line(self, dependency: Dependency) -> str:
        """The dependency as ``Package.swift`` has it, pinned to one version."""
        return f'.package(url: "{dependency.name}", {self.requirement.format(version=dependency.version)})'


# Read from copies of both repositories: the branches up to 1.4.1 and the manifest of one, the tags and the manifest of
# 1.24.2. Of ExecuTorch's newer branches others tell: of swiftpm-1.5.0 all of them; of a 1.5.1 some, and one that there
# is none.
EXECUTORCH = SwiftPackage(
    releases=Releases(
        name="https://github.com/pytorch/executorch.git",
        registry="GitHub, as a branch swiftpm-VERSION,",
        versions=(
            "0.4.0", "0.5.0", "0.6.0", "0.7.0", "1.0.0", "1.0.1", "1.1.0", "1.2.0", "1.3.0", "1.3.1", "1.4.0", "1.4.1",
            "1.5.0",
        ),
        seen_on="2026-11-25",
        rule="the runtime of the same or of the next minor release reads the file (ExecuTorch's compatibility policy), "
        "an older one need not",
    ),
    identity="executorch",
    requirement='branch: "swiftpm-{version}"',
    ios=17,
    macos=12,
    engine="ExecuTorchEngine",
)  # fmt: skip
ONNXRUNTIME = SwiftPackage(
    releases=Releases(
        name="https://github.com/microsoft/onnxruntime-swift-package-manager",
        registry="GitHub",
        versions=("1.15.0", "1.16.0", "1.17.0", "1.18.0", "1.19.2", "1.20.0", "1.24.1", "1.24.2"),
        seen_on="2026-09-24",
        rule="another patch of the same minor release or any newer release reads the file; an older one does if it "
        "knows the model's operator sets, and says so when it loads if not",
    ),
    identity="onnxruntime-swift-package-manager",
    requirement='exact: "{version}"',
    ios=15,
    macos=14,
    engine="OnnxRuntimeEngine",
)

_BACKENDS = {"XnnpackBackend": "backend_xnnpack", "CoreMLBackend": "backend_coreml"}


def package_of(model: AppModel) -> SwiftPackage:
    """The package whose runtime reads that file."""
    return EXECUTORCH if model.format == "pte" else ONNXRUNTIME


def products(model: AppModel) -> tuple[str, ...]:
    """The products of its package that the file needs; BackendNotThereError for one that iOS has not."""
    if model.format != "pte":
        return ("onnxruntime",)
    for backend in model.requires.backends:
        if backend not in _BACKENDS:
            raise BackendNotThereError(model.file, backend, "iOS", _BACKENDS)
    backends = sorted(_BACKENDS[backend] for backend in model.requires.backends)
    kernels = {"kernels_quantized" if op.startswith("quantized_decomposed::") else "kernels_optimized"
               for op in model.requires.ops}  # fmt: skip
    return ("executorch", *backends, *sorted(kernels))
