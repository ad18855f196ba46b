"""What an export makes of artifacts before they go into an app: ONNX Runtime's own format, files for other processors.

Nothing of the build is changed; what is made lies in a folder of the caller's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgeq.errors import ArtifactError, DelegatePlatformError, FormatWantedError, MissingProgramError
from edgeq.host import HostRuntime
from edgeq.installed import EXTRA_OF, require
from edgeq.mobile import DELEGATES, ort_format
from edgeq.records import DelegateName, OrtFormat
from edgeq.stages.parity.comparing import nearest_db
from edgeq.stages.reuse import program_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeq.mobile import PlatformName
    from edgeq.mobile.content import AppModel
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Manifest

_UNCHECKED_ORT = (
    "a runtime that was built for the listed operators alone: ONNX Runtime's sources are in no registry",
    "how fast it is",
)


@dataclass(frozen=True, kw_only=True)
class Conversions:
    """What is to be made: an .ort of each .onnx, and a further .pte for each of the ``delegates``."""

    ort: bool = False
    delegates: tuple[DelegateName, ...] = ()


NOTHING = Conversions()
WHY_FLOAT = "--delegate is made of the fp32 program if there is one, as these processors compute in floats"


def require_delegates(platform: PlatformName, wanted: Conversions) -> None:
    """DelegatePlatformError if the platform has not all of them."""
    for one in wanted.delegates:
        if one not in DELEGATES[platform]:
            raise DelegatePlatformError(one, platform, DELEGATES[platform])


def delegated_artifacts(manifest: Manifest, chosen: Sequence[Artifact], *, named: bool) -> tuple[Artifact, ...]:
    """The .pte artifacts that files for delegates are made of.

    Those that were ``named``; if none was, the float one of the build: these
    processors compute in floats, and nobody here can see what they make of
    integers. FormatWantedError if there is none.
    """
    ptes = [one for one in manifest.artifacts if one.format == "pte"]
    given = [one for one in chosen if one.format == "pte"]
    floats = [one for one in ptes if one.recipe == "fp32"]
    found = given if named else floats or given or ptes[:1]
    if not found:
        raise FormatWantedError("--delegate", "pte", [one.name for one in ptes])
    return tuple(found)


def onnx_artifact(manifest: Manifest) -> Artifact:
    """What an .ort is made of if no artifact was named: the first int8 .onnx, or any; FormatWantedError without one."""
    onnx = [one for one in manifest.artifacts if one.format == "onnx"]
    if not onnx:
        raise FormatWantedError("--ort", "onnx", ())
    return next((one for one in onnx if one.int8_mac_share > 0), onnx[0])


def with_ort(manifest: Manifest, models: Sequence[AppModel], folder: Path, progress: Progress) -> Iterator[AppModel]:
    """The models with an .ort in the place of each .onnx.

    FormatWantedError if there is none, ArtifactError if ONNX Runtime does
    not convert one, or the .ort computes something else.
    """
    if not any(one.format == "onnx" for one in models):
        raise FormatWantedError("--ort", "onnx", [one.name for one in manifest.artifacts if one.format == "onnx"])
    require(EXTRA_OF["onnx"], needed_for="converting an .onnx")
    for model in models:
        if model.format != "onnx":
            yield model
            continue
        path = (folder / model.file).with_suffix(".ort")
        progress.step(f"converting {model.file} to {path.name}")
        ort_format.convert(model.path, path)
        made = _compared(model, path)
        yield replace(
            model,
            path=path,
            file=path.name,
            format="ort",
            requires=replace(model.requires, ops=made.operators),
            identical_on=(),  # of another file
            ort=made,
        )


def for_delegates(
    build: Path, models: Sequence[AppModel], wanted: Sequence[DelegateName], folder: Path, progress: Progress
) -> Iterator[AppModel]:
    """A further .pte of each model for each delegate, lowered from the program that the build kept.

    MissingProgramError if it kept none, DelegateError if a delegate does
    not take it, MissingCoreMlError without what writes for Core ML.
    """
    require(EXTRA_OF["pte"], needed_for="lowering a program for a delegate")
    for model in models:
        program = build / program_file(model.artifact.recipe)
        if not program.is_file():
            raise MissingProgramError(build, model.artifact.name)
        for delegate in wanted:
            progress.step(f"lowering {model.file} for {delegate}")
            from edgeq.lower import delegates, executorch_probe  # noqa: PLC0415  # brings torch, which no other export needs

            path = folder / f"{model.path.stem}.{delegate}.pte"
            expected = delegates.Expected(
                macs=model.artifact.macs,
                cases=tuple((one.inputs, one.outputs) for one in model.vectors),
                least_sqnr_db=model.artifact.least_sqnr_db,
            )
            made, requires = delegates.lower_for(delegate, executorch_probe.kept_program(program), path, expected)
            yield replace(model, path=path, file=path.name, requires=requires, identical_on=(), delegated=made)


def _compared(model: AppModel, path: Path) -> OrtFormat:
    """Run the .ort on the test vectors beside the .onnx; ArtifactError if it computes something else."""
    made = HostRuntime(path, "onnx")
    twin = HostRuntime(model.path, "onnx")
    cases = [one.inputs for one in model.vectors] or [_any_input(model)]
    nearest = min(nearest_db(twin.run(inputs), made.run(inputs)) for inputs in cases)
    note = ""
    if nearest < math.inf:
        plain = HostRuntime(model.path, "onnx", left_out=ort_format.ONLY_ON_X86)
        same = all(nearest_db(plain.run(inputs), made.run(inputs)) == math.inf for inputs in cases)
        note = (
            "the .onnx runs here with images laid out for this machine's x86 (NchwcTransformer), which rounds "
            "differently; without that its bits are the .ort's"
            if same
            else "ONNX Runtime optimizes the .onnx in another way when it loads it"
        )
        if nearest < model.artifact.least_sqnr_db:
            raise ArtifactError(path, f"it is {nearest:.1f} dB from what {model.file} gives, {note}")
    return OrtFormat(
        operators=ort_format.operators(path),
        identical=nearest == math.inf,
        sqnr_db=nearest if math.isfinite(nearest) else None,
        note=note,
        checked=(
            f"ONNX Runtime {model.requires.version} ran it on the build machine beside the .onnx: {len(cases)} inputs",
        ),
        unchecked=_UNCHECKED_ORT,
    )


def _any_input(model: AppModel) -> tuple[np.ndarray, ...]:
    """Numbers for a model whose test vectors are too large to be kept."""
    draw = np.random.default_rng(0)
    return tuple(
        draw.normal(size=spec.shape).astype(spec.dtype)
        if spec.dtype.startswith("float")
        else np.ones(spec.shape, spec.dtype)
        for spec in model.artifact.inputs
    )
