"""Android: a library module for Gradle, with Kotlin code."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from edgeq.errors import AppNameError
from edgeq.files import sha256_file
from edgeq.mobile.android import kotlin
from edgeq.mobile.android.packages import EXECUTORCH, EXECUTORCH_VULKAN, ONNXRUNTIME
from edgeq.mobile.names import unlike
from edgeq.mobile.releases import dependency as dependency_of
from edgeq.mobile.templates import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edgeq.mobile.content import AppModel, Content
    from edgeq.records import Dependency, TensorSpec

_PACKAGE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_RGB = 3
_FILTERS: Mapping[str, Callable[..., str]] = {"quoted": kotlin.quoted, "float32": kotlin.float32}


def package(model: str, wanted: str | None) -> str:
    """A Kotlin package, which is the module's namespace too: com.example.MODEL unless another is ``wanted``."""
    if wanted is None:
        word = re.sub(r"[^a-z0-9]", "", model.lower())
        return f"com.example.{word if word[:1].isalpha() and not kotlin.is_keyword(word) else f'model{word}'}"
    if not _PACKAGE.fullmatch(wanted) or any(map(kotlin.is_keyword, wanted.split("."))):
        raise AppNameError("the package", wanted, "is no Kotlin package", "com.example.model")
    return wanted


def resources(content: Content) -> str:
    """Where Gradle takes an app's assets from; the package keeps those of two modules in one app apart."""
    return f"src/main/assets/{content.package}"


def golden_resources(content: Content) -> str:
    """Assets of the instrumented tests."""
    return f"src/androidTest/assets/{content.package}"


def dependency(model: AppModel) -> Dependency:
    """The AAR on Maven Central."""
    if model.format != "pte":
        return dependency_of(model.requires, ONNXRUNTIME)
    return dependency_of(model.requires, EXECUTORCH_VULKAN if _is_for_vulkan(model) else EXECUTORCH)


def _is_for_vulkan(model: AppModel) -> bool:
    return "VulkanBackend" in model.requires.backends


def files(content: Content) -> Mapping[str, str]:
    """The module: its build file, Kotlin code, instrumented tests, ProGuard rules and a README."""
    values = _values(content)

    def filled(template: str) -> str:
        return render(__name__, f"{template}.jinja", filters=_FILTERS, **values)

    found = {
        path: filled(PurePosixPath(path).name)
        for path in ("build.gradle.kts", "consumer-rules.pro", "README.md", "src/main/AndroidManifest.xml")
    }
    folder = content.package.replace(".", "/")
    for name in _code(content):
        target = f"{content.type_name}.kt" if name == "Model.kt" else name
        found[f"src/main/kotlin/{folder}/{target}"] = filled(name)
    for name in ("TestVectors.kt", "GoldenVectorTest.kt"):
        found[f"src/androidTest/kotlin/{folder}/{name}"] = filled(name)
    if content.labels:
        found[f"{resources(content)}/labels.txt"] = "\n".join(content.labels) + "\n"
    return found


def _code(content: Content) -> Iterator[str]:
    """The templates that this model needs."""
    yield from ("Model.kt", "ModelFiles.kt", "Engine.kt")
    yield from sorted({f"{_engine(one)}.kt" for one in content.models})
    if content.image is not None:
        yield "Preprocessing.kt"
        if content.image.channels == _RGB:
            yield "Bitmaps.kt"
    if _is_scored(content):
        yield "Decoding.kt"


def _is_scored(content: Content) -> bool:
    """Whether the first output is one row of scores."""
    spec = content.outputs[0]
    return spec.dtype == "float32" and len(spec.shape) == 2 and spec.shape[0] == 1 and spec.shape[1] > 1  # noqa: PLR2004  # (1, classes)


def _engine(model: AppModel) -> str:
    return "ExecuTorchEngine" if model.format == "pte" else "OnnxRuntimeEngine"


def _values(content: Content) -> dict[str, object]:
    """What the templates name."""
    models = _named(content)
    needed = {one.name: one for one in map(dependency, content.models)}
    if EXECUTORCH_VULKAN.name in needed:
        needed.pop(EXECUTORCH.name, None)  # it holds all of that: both in one app would clash
    return {
        "content": content,
        "image": content.image,
        "scored": _is_scored(content),
        "models": models,
        "golden": [one for one, model in zip(models, content.models, strict=True) if model.vectors],
        "runtimes": {one.requires.runtime for one in content.models},
        "dependencies": sorted(needed.values(), key=lambda one: one.name),
        "inputs": _tensors(content.inputs),
        "outputs": _tensors(content.outputs),
        "resources": resources(content),
        "golden_resources": golden_resources(content),
    }


def _named(content: Content) -> list[dict[str, object]]:
    """Each model file with its names in Kotlin."""
    short = [one.file.removeprefix(f"{content.manifest.model}.") for one in content.models]
    constants, tests = (unlike(map(name, short)) for name in (kotlin.constant, kotlin.camel))
    return [
        {
            "file": one.file,
            "recipe": one.artifact.recipe,
            "runtime": f"{'ExecuTorch' if one.format == 'pte' else 'ONNX Runtime'} {one.requires.version}",
            "engine": _engine(one),
            "sha256": sha256_file(one.path),
            "size_bytes": one.path.stat().st_size,
            "constant": constant,
            "test_name": test,
            "least_sqnr_db": float(one.artifact.least_sqnr_db),
            "identical_on": one.identical_on,
        }
        for one, constant, test in zip(content.models, constants, tests, strict=True)
    ]


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, object]]:
    names = unlike(kotlin.camel(spec.name) for spec in specs)
    return [
        {"spec": spec, "name": name, "type": kotlin.TYPES[spec.dtype]} for spec, name in zip(specs, names, strict=True)
    ]
