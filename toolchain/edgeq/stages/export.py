"""A folder that an app project takes in: model files, code, tests and a record of what they are.

What the app has to give is what the build machine gave when the build was
made: nothing is computed but hashes, and conversions where they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import NotAnExportError, OperatorListError
from edgeq.files import atomic_folder, sha256_file, write_bytes, write_text
from edgeq.installed import require, version_of
from edgeq.mobile import PLATFORMS, ort_format, vectors
from edgeq.mobile.content import IMAGES, gather, model_of
from edgeq.mobile.conversions import OPERATOR_LISTS, section
from edgeq.records import Export, ExportedFile, ExportedGolden, ExportedImages, Report
from edgeq.schema import from_json, to_json
from edgeq.stages import converting
from edgeq.stages.parity import BUILD_MACHINE, read_parity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.mobile import Platform, PlatformName
    from edgeq.mobile.content import AppModel, Content
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Manifest

RECORD = "export.json"


def export(  # noqa: PLR0913  # the options of a command
    build: Path,
    manifest: Manifest,
    platform: PlatformName,
    out: Path,
    *,
    artifacts: Sequence[str] = (),
    package: str | None = None,
    conversions: converting.Conversions = converting.NOTHING,
    progress: Progress,
) -> Export:
    """Write the folder ``out`` for an app of that platform, with ``artifacts`` or the one that suits best.

    An older export there is replaced; anything else is not touched:
    NotAnExportError. UnknownNameError for an artifact that the build has
    not, CorruptArtifactError for one that is not as it was built. What
    ``conversions`` raise stands in :mod:`edgeq.stages.converting`.
    """
    require("export", needed_for="the code around a model in an app")
    if not _is_replaceable(out):
        raise NotAnExportError(out)
    converting.require_delegates(platform, conversions)
    where = PLATFORMS[platform]
    name = where.package(manifest.model, package)
    chosen, why = _choose(build, manifest, artifacts, ort=conversions.ort)
    if conversions.delegates and not artifacts:
        why += f"; {converting.WHY_FLOAT}"
    progress.step(f"exporting {', '.join(one.name for one in chosen)} for {platform}")
    with tempfile.TemporaryDirectory(prefix="edgeq-export-") as made, atomic_folder(out) as folder:
        models = _models(build, manifest, chosen, conversions, Path(made), named=bool(artifacts), progress=progress)
        content = gather(build, manifest, models, package=name)
        for path, text in where.files(content).items():
            write_text(folder / path, text + (section(models) if path == "README.md" else ""))
        record = Export(
            platform=platform,
            model=manifest.model,
            target=manifest.target,
            built_at=manifest.created_at,
            tools=manifest.tools,
            edgeq=version_of("edgeq"),
            package=name,
            type_name=content.type_name,
            files=tuple(_write_model(folder, where, content, one) for one in models),
            chosen_because=why,
            labels=content.labels,
            image=content.image,
            images=_write_images(folder, where, content),
            left_out=content.left_out,
            operator_lists=_write_operator_lists(folder, models),
        )
        write_text(folder / RECORD, to_json(record, indent=2) + "\n")
    return record


def _is_replaceable(out: Path) -> bool:
    """Whether an export may be put there: nothing is there yet, an empty folder, or an export."""
    return not out.exists() or (out.is_dir() and (next(out.iterdir(), None) is None or _is_export(out)))


def _is_export(out: Path) -> bool:
    """Of whatever edgeq: only what every record of an export has is looked at."""
    try:
        record = json.loads((out / RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("platform") in list(PLATFORMS) and "edgeq" in record


def _models(  # noqa: PLR0913  # what goes in, what is to be made of it, and where
    build: Path,
    manifest: Manifest,
    chosen: Sequence[Artifact],
    conversions: converting.Conversions,
    made: Path,
    *,
    named: bool,
    progress: Progress,
) -> list[AppModel]:
    """The model files, those that are made of artifacts in the folder ``made``."""

    def as_they_are(artifacts: Sequence[Artifact]) -> list[AppModel]:
        return [model_of(build, manifest, one, identical_on=_identical_on(build, one)) for one in artifacts]

    models = as_they_are(chosen)
    if conversions.ort:
        models = list(converting.with_ort(manifest, models, made, progress))
    if conversions.delegates:
        sources = as_they_are(converting.delegated_artifacts(manifest, chosen, named=named))
        models += converting.for_delegates(build, sources, conversions.delegates, made, progress)
    return models


def _choose(build: Path, manifest: Manifest, names: Sequence[str], *, ort: bool) -> tuple[tuple[Artifact, ...], str]:
    """The artifacts to export, and why these."""
    if names:
        return manifest.chosen(names), "they were asked for"
    if ort:
        return (
            converting.onnx_artifact(manifest),
        ), "the first .onnx of the build, an int8 one if it has one: an .ort is made of it"
    if found := _recommended(build, manifest):
        return found
    for artifact in manifest.artifacts:
        if artifact.format == "pte" and artifact.int8_mac_share > 0:
            return (artifact,), "the first int8 .pte of the build; no report of it recommends an artifact"
    return manifest.artifacts[:1], "the build's first artifact; it has no int8 .pte, and no report recommends another"


def _recommended(build: Path, manifest: Manifest) -> tuple[tuple[Artifact, ...], str] | None:
    """What BUILD/report.json recommends, on the target's own clock before another's."""
    path = build / "report.json"
    if not path.is_file():
        return None
    report = from_json(Report, path.read_bytes(), where=str(path))
    found = [
        one
        for reported in report.builds
        if (reported.model, reported.target, reported.created_at)
        == (manifest.model, manifest.target, manifest.created_at)
        for one in reported.decision.recommendations
        if one.artifact is not None
    ]
    if not found:
        return None
    best = next((one for one in found if one.of_target), found[0])
    return manifest.chosen([str(best.artifact)]), f"the report recommends it on {best.device}: {best.reason}"


def _identical_on(build: Path, artifact: Artifact) -> tuple[str, ...]:
    """The ARM devices, as phones are, that were found to give the build machine's bits of this very file."""
    parity = read_parity(build)
    if parity is None:
        return ()
    cores = {one.device: one.facts.cpu for one in parity.devices if one.facts and one.facts.machine == "aarch64"}
    return tuple(
        f"{row.device} ({cores[row.device]})" if cores[row.device] else row.device
        for row in parity.rows
        if row.artifact_sha256 == artifact.sha256
        and row.against == BUILD_MACHINE
        and row.verdict == "identical"
        and row.device in cores
    )


def _write_model(folder: Path, where: Platform, content: Content, model: AppModel) -> ExportedFile:
    """Copy a model file and write its test vectors."""
    path = folder / where.resources(content) / model.file
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.path, path)
    return ExportedFile(
        artifact=model.artifact.name,
        artifact_sha256=model.artifact.sha256,
        recipe=model.artifact.recipe,
        file=str(path.relative_to(folder)),
        format=model.format,
        sha256=sha256_file(path),
        size_bytes=path.stat().st_size,
        requires=model.requires,
        dependency=where.dependency(model),
        inputs=model.artifact.inputs,
        outputs=model.artifact.outputs,
        golden=_write_golden(folder, where, content, model),
        ort=model.ort,
        delegated=model.delegated,
    )


def _write_operator_lists(folder: Path, models: Sequence[AppModel]) -> tuple[str, ...]:
    """Write what a runtime for the .ort files alone has to have; the files' paths, none without an .ort."""
    made = [one for one in models if one.ort is not None]
    if not made:
        return ()
    lists = folder / OPERATOR_LISTS
    listed = ort_format.write_config([one.path for one in made], lists)
    held = {name for one in made if one.ort is not None for name in one.ort.operators}
    if set(listed) != held:
        raise OperatorListError(sorted(held.symmetric_difference(listed)))
    return tuple(f"{OPERATOR_LISTS}/{name}" for name in (ort_format.REQUIRED_OPERATORS, ort_format.REQUIRED_TYPES))


def _write_golden(folder: Path, where: Platform, content: Content, model: AppModel) -> ExportedGolden | None:
    if not model.vectors:
        return None
    path = folder / where.golden_resources(content) / f"{model.file}.vectors"
    data = vectors.write(model.vectors)
    write_bytes(path, data)
    return ExportedGolden(
        file=str(path.relative_to(folder)),
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        cases=len(model.vectors),
        least_sqnr_db=model.artifact.least_sqnr_db,
        identical_on=model.identical_on,
        tolerance=" ".join(_tolerance(model)),
    )


def _tolerance(model: AppModel) -> Iterator[str]:
    yield (
        f"Each output is at least {model.artifact.least_sqnr_db:g} dB from the build machine's, and its top-1 is the "
        "same unless noise of that strength explains another: what edgeq deploy and edgeq parity hold a device to. "
        "A core of another kind rounds differently; a kernel that is wrong leaves no such distance."
    )
    if model.identical_on:
        yield f"On {', '.join(model.identical_on)} the outputs were the build machine's bit for bit."


def _write_images(folder: Path, where: Platform, content: Content) -> ExportedImages | None:
    if not content.images:
        return None
    path = folder / where.golden_resources(content) / IMAGES
    data = vectors.write(content.images)
    write_bytes(path, data)
    as_evaluated = len(content.images) > 1
    return ExportedImages(
        file=str(path.relative_to(folder)),
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        cases=len(content.images),
        as_evaluated=as_evaluated,
        note=""
        if as_evaluated
        else "no bytes give the first evaluation sample with the arithmetic of [preprocess] in float32: it was made "
        "with another order of operations, in another precision, or of an image resized in float",
    )
