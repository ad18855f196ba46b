"""What goes into any app: the chosen artifacts, how to feed and read them, and how to tell that they work there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeq.errors import NotForAnAppError
from edgeq.evaluation import EvaluationSet, subset
from edgeq.integrity import check_artifact, read_golden
from edgeq.mobile import image, vectors
from edgeq.mobile.vectors import Case
from edgeq.records import Artifact, Delegated, ImageInput, Manifest, OrtFormat, Requires, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES = "images.vectors"
"""The file of images and the tensors that they become, beside the golden ones."""
GOLDEN_SAMPLES = 4
"""Evaluation samples beside the golden input."""
GOLDEN_LIMIT_BYTES = 8 << 20
"""What one file of test vectors may take; they are part of the app's test, not of the app."""

_TAKEN = frozenset(
    (
        "AndroidJUnit4", "Any", "AnyTensor", "Array", "Bitmap", "Boolean", "Buffer", "Bundle", "ByteArray",
        "ByteBuffer", "Case", "Charsets", "Closeable", "Context", "DType", "Data", "DataType", "Dictionary", "Double",
        "EValue", "Engine", "Equatable", "Error", "ErrorCode", "ExecuTorchEngine", "File", "Float", "FloatArray",
        "GoldenTests", "GoldenVectorTest", "IllegalArgumentException", "IllegalStateException", "InferenceError",
        "InstrumentationRegistry", "Int", "IntArray", "LinkedHashMap", "List", "Log", "Long", "LongArray", "ModelFile",
        "ModelFiles", "Module", "NSLock", "NSMutableData", "NSNumber", "OnnxRuntimeEngine", "OnnxTensor",
        "OrtEnvironment", "OrtSession", "Outputs", "Pixels", "Prediction", "PredictionTests", "Preprocessing",
        "PreprocessingTests", "Protocol", "RunWith", "Scalar", "Self", "Sendable", "Set", "String", "Tensor",
        "TensorKind", "TensorValues", "Test", "TestCase", "TestTensor", "Type", "URL", "Value", "VectorCase",
        "VectorFile", "VectorFileTests", "Void",
    )
)  # fmt: skip
"""Names that the exported code uses itself."""


@dataclass(frozen=True, kw_only=True)
class AppModel:
    """A model file on its way into an app: an artifact of the build, or what was made of one.

    ``path`` is where it lies now, ``file`` its name in the app. ``vectors``
    are its golden cases; () where they do not fit into
    :data:`GOLDEN_LIMIT_BYTES`. ``identical_on`` are the devices that gave
    the same bits. ``ort`` and ``delegated`` say how it was made of the
    artifact.
    """

    artifact: Artifact
    path: Path
    file: str
    format: Literal["pte", "onnx", "ort"]
    requires: Requires
    vectors: tuple[Case, ...]
    identical_on: tuple[str, ...] = ()
    ort: OrtFormat | None = None
    delegated: Delegated | None = None


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that a platform writes code and resources from.

    ``models`` are alike in what they take and give. ``images`` are pixels
    (height, width, channels) with the tensor that they become: one that
    edgeq made, then an evaluation sample if its pixels could be found again;
    () without an ``image``.
    """

    manifest: Manifest
    package: str
    type_name: str
    models: tuple[AppModel, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    image: ImageInput | None
    images: tuple[Case, ...]
    labels: tuple[str, ...]
    left_out: tuple[str, ...]


def gather(build: Path, manifest: Manifest, models: Sequence[AppModel], *, package: str) -> Content:
    """Everything for an app with these ``models`` of the build in that folder."""
    first = models[0].artifact
    left_out = [
        f"{one.file}: test vectors, which would take more than {GOLDEN_LIMIT_BYTES:,} bytes"
        for one in models
        if not one.vectors
    ]
    how = image.image_input(first)
    images: tuple[Case, ...] = ()
    if isinstance(how, str):
        left_out.append(f"images as input: {how}; the app hands over tensors")
    else:
        images = _images(build, manifest, how)
    if not manifest.labels:
        left_out.append("names of classes: the project has no model.labels; the app gets the numbers of the classes")
    return Content(
        manifest=manifest,
        package=package,
        type_name=type_name(manifest.model),
        models=tuple(models),
        inputs=first.inputs,
        outputs=first.outputs,
        image=None if isinstance(how, str) else how,
        images=images,
        labels=manifest.labels,
        left_out=tuple(left_out),
    )


def model_of(build: Path, manifest: Manifest, artifact: Artifact, *, identical_on: Sequence[str] = ()) -> AppModel:
    """An artifact of the build as it is; CorruptArtifactError if its file is not, NotForAnAppError for its dtypes."""
    check_artifact(build, artifact)
    for spec in (*artifact.inputs, *artifact.outputs):
        if spec.dtype not in vectors.DTYPES:
            raise NotForAnAppError(artifact.name, spec.name, spec.dtype, vectors.DTYPES)
    return AppModel(
        artifact=artifact,
        path=build / artifact.name,
        file=artifact.name,
        format=artifact.format,
        requires=artifact.requires,
        vectors=golden_cases(build, manifest, artifact),
        identical_on=tuple(identical_on),
    )


def type_name(model: str) -> str:
    """A model's name as that of a class: ``fashion-mnist`` becomes ``FashionMnist``, ``tensor`` ``ModelTensor``."""
    name = "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", model))
    return name if name[:1].isalpha() and name not in _TAKEN else f"Model{name}"


def golden_cases(build: Path, manifest: Manifest, artifact: Artifact) -> tuple[Case, ...]:
    """The golden input with all outputs, and some evaluation samples with the first, as the build machine gave them.

    As many as fit into :data:`GOLDEN_LIMIT_BYTES`, the golden input first.
    """
    golden_in, golden_out = read_golden(build, artifact)
    cases = [Case(inputs=_arrays(golden_in, artifact.inputs), outputs=_arrays(golden_out, artifact.outputs))]
    samples = EvaluationSet.of(build, manifest)
    given, spec = samples.host_outputs(artifact.name), artifact.outputs[0]
    for index in subset(samples.labels, samples.samples, GOLDEN_SAMPLES):
        output = np.asarray(given[index], dtype=spec.dtype).reshape(spec.shape)
        cases.append(Case(inputs=tuple(map(np.asarray, samples.sample(int(index)))), outputs=(output,)))
    room, kept = GOLDEN_LIMIT_BYTES, []
    for case in cases:
        room -= vectors.size_bytes(case)
        if room < 0:
            break
        kept.append(case)
    return tuple(kept)


def _arrays(data: bytes, specs: Sequence[TensorSpec]) -> tuple[np.ndarray, ...]:
    """Raw little-endian tensors, one behind the other."""
    found, at = [], 0
    for spec in specs:
        count = int(np.prod(spec.shape, dtype=np.int64))
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        found.append(np.frombuffer(data, dtype, count, at).reshape(spec.shape).astype(spec.dtype))
        at += count * dtype.itemsize
    return tuple(found)


def _images(build: Path, manifest: Manifest, how: ImageInput) -> tuple[Case, ...]:
    """An image of all bytes, and the first evaluation sample if its bytes can be found again."""
    samples = EvaluationSet.of(build, manifest)
    (tensor,) = samples.sample(int(subset(samples.labels, samples.samples, 1)[0]))
    found = image.pixels_of(np.asarray(tensor), how)
    shown = [image.every_byte(how), *([] if found is None else [found])]
    return tuple(Case(inputs=(pixels,), outputs=(image.prepared(pixels, how),)) for pixels in shown)
