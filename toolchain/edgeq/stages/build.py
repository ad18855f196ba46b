"""From a project to a build: every recipe in every format, scored in its own runtime, with a table of contents.

A build is written beside its place and takes it when it is whole.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import importlib.metadata
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from edgeq import records, stats
from edgeq.errors import ConfigError, NotReplaceableError, UnlabelledError
from edgeq.evaluation import UNLABELLED, EvaluationSet, GrowingArray
from edgeq.files import atomic_folder, sha256_file, try_folder_lock, write_bytes, write_text
from edgeq.host import HostRuntime
from edgeq.lower import Coverage, lower
from edgeq.model import Dataset, load_dataset, load_model
from edgeq.project import Project
from edgeq.quantize import quantize
from edgeq.recipe import Recipe, named
from edgeq.schema import to_json
from edgeq.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeq.progress import Progress

_MADE_ANEW = frozenset(
    {"manifest.json", "target.json", "evaluation", "golden", "report.md", "report.html", "report.json", "junit.xml"}
)
"""What a new build in the same place does not take over, beside the artifacts: it writes these itself, or they are
views of what the older one held. Rows of measurements name the sha256 of what they measured, and are kept."""

_TOOLS = ("edgeq", "torch", "torchao", "executorch", "onnx", "onnxruntime")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to build: decided before anything heavy is done."""

    project: Project
    target: Target
    recipes: tuple[Recipe, ...]
    formats: tuple[records.Format, ...]
    threads: int


def plan(
    project: Project, target: Target, *, recipes: Sequence[str], formats: Sequence[records.Format], threads: int
) -> Plan:
    """Resolve names; the fp32 twin always comes first, as every other recipe is compared with it."""
    chosen = [named(name) for name in dict.fromkeys(("fp32", *(recipes or project.build.recipes)))]
    if any(recipe.quantized for recipe in chosen) and not project.data.calibration:
        raise ConfigError(
            f"{project.root}: [data] calibration is missing",
            hint='static quantization observes real inputs: calibration = "data.py:calibration"',
        )
    return Plan(
        project=project,
        target=target,
        recipes=tuple(chosen),
        formats=tuple(dict.fromkeys(formats or project.build.formats)),
        threads=threads,
    )


def build(what: Plan, out: Path, *, progress: Progress) -> records.Manifest:
    """Build everything of the plan into the folder ``out`` and return its manifest.

    A build that is there already is replaced; anything else is not touched:
    NotReplaceableError.
    """
    if out.exists() and not (out / "manifest.json").is_file() and not _is_empty_folder(out):
        raise NotReplaceableError(out)
    progress.step(f"loading {what.project.model.name}")
    model = load_model(what.project)
    calibration = None
    if any(recipe.quantized for recipe in what.recipes):
        calibration = load_dataset(what.project, what.project.data.calibration, labelled=False)
    evaluation = load_dataset(what.project, what.project.data.evaluation, labelled=True)

    with try_folder_lock(out) as free:
        if not free:
            progress.step(f"another edgeq is writing {out}; waiting for it")
    with atomic_folder(out) as folder:
        data = _keep_evaluation(evaluation, folder, what, progress=progress)
        scorer = _Scorer(folder, data, what.threads)
        artifacts: list[records.Artifact] = []
        for recipe in what.recipes:
            program = quantize(model, recipe, calibration, threads=what.threads, progress=progress)
            for form in what.formats:
                name = f"{model.name}.{recipe.name}.{form}"
                progress.step(f"lowering {name}")
                coverage = lower(program, form, what.target, folder / name)
                artifacts.append(scorer.artifact(name, form, recipe, coverage, what.project, progress=progress))
        manifest = records.Manifest(
            model=model.name,
            target=what.target.name,
            created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            tools={tool: importlib.metadata.version(tool) for tool in _TOOLS},
            calibration=_fingerprint(calibration),
            evaluation=scorer.data(),
            artifacts=tuple(artifacts),
            cross_checks=scorer.cross_checks(artifacts),
            findings=tuple(_findings(artifacts)),
            limits=what.project.limits,
        )
        write_text(folder / "manifest.json", to_json(manifest, indent=2) + "\n")
        write_text(folder / "target.json", to_json(what.target, indent=2) + "\n")
        _take_over(out, folder, model.name)
    return manifest


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _keep_evaluation(evaluation: Dataset, folder: Path, what: Plan, *, progress: Progress) -> records.EvaluationData:
    """Copy the evaluation set into the build, one sample at a time."""
    progress.step("reading the evaluation set")
    specs = what.project.model.inputs
    names = tuple(f"evaluation/input{index}.npy" for index in range(len(specs)))
    labelled = 0
    with ExitStack() as stack:
        arrays = [
            stack.enter_context(GrowingArray(folder / name, spec.shape[1:], spec.dtype))
            for name, spec in zip(names, specs, strict=True)
        ]
        labels = stack.enter_context(GrowingArray(folder / "evaluation/labels.npy", (), "int64"))
        count = 0
        for sample in evaluation:
            for array, tensor in zip(arrays, sample.inputs, strict=True):
                array.append(tensor.numpy()[0])
            labels.append(np.asarray(UNLABELLED if sample.label is None else sample.label))
            labelled += sample.label is not None
            count += 1
            progress.advance(count)
    if not labelled:
        raise UnlabelledError(what.project.data.evaluation, what.project.data.metric)
    return records.EvaluationData(
        samples=count,
        metric=what.project.data.metric,
        inputs=names,
        labels="evaluation/labels.npy",
        host_outputs={},
        note=evaluation.note,
    )


class _Scorer:
    """Runs each artifact of one build on its evaluation set and remembers the outputs for the comparisons."""

    def __init__(self, folder: Path, data: records.EvaluationData, threads: int) -> None:
        self._folder = folder
        self._data = data
        self._set = EvaluationSet(folder, data)
        self._threads = threads
        self._host_outputs: dict[str, str] = {}

    def artifact(  # noqa: PLR0913  # a record is made of this many facts
        self,
        name: str,
        form: records.Format,
        recipe: Recipe,
        coverage: Coverage,
        project: Project,
        *,
        progress: Progress,
    ) -> records.Artifact:
        """The record of a file just lowered: its score, its golden vectors, its hash."""
        path = self._folder / name
        runtime = HostRuntime(path, form, threads=self._threads)
        self._run(runtime, name, progress=progress)
        return records.Artifact(
            name=name,
            format=form,
            recipe=recipe.name,
            sha256=sha256_file(path),
            size_bytes=path.stat().st_size,
            macs=coverage.macs,
            int8_mac_share=coverage.int8_mac_share,
            delegated_mac_share=coverage.delegated_mac_share,
            partitions=coverage.partitions,
            undelegated=coverage.undelegated,
            host=self._score(name, form, project),
            inputs=coverage.inputs,
            outputs=coverage.outputs,
            preprocess=project.preprocess,
            requires=coverage.requires,
            golden=self._golden(runtime),
        )

    def data(self) -> records.EvaluationData:
        """The evaluation set with the outputs of every artifact scored so far."""
        return dataclasses.replace(self._data, host_outputs=dict(self._host_outputs))

    def cross_checks(self, artifacts: Sequence[records.Artifact]) -> tuple[records.CrossCheck, ...]:
        """Compare the two formats of each recipe: one graph, so the outputs must be near."""
        by_recipe: dict[str, dict[str, str]] = {}
        for artifact in artifacts:
            by_recipe.setdefault(artifact.recipe, {})[artifact.format] = artifact.name
        checks = []
        for recipe, names in by_recipe.items():
            if len(names) == len(records.FORMATS):
                pte, onnx = (self._outputs(names[form]) for form in records.FORMATS)
                checks.append(
                    records.CrossCheck(
                        recipe=recipe,
                        agree=stats.agreements(pte, onnx),
                        total=len(pte),
                        sqnr_db=_finite(stats.sqnr_db(pte, onnx)),
                    )
                )
        return tuple(checks)

    def _run(self, runtime: HostRuntime, name: str, *, progress: Progress) -> None:
        """Run every sample and keep the first output of each as a row of a .npy file."""
        progress.step(f"scoring {name} on this machine")
        file = f"evaluation/host/{name}.npy"
        with ExitStack() as stack:
            rows: GrowingArray | None = None
            for index, inputs in enumerate(self._set):
                output = runtime.run(inputs)[0][0]
                if rows is None:
                    rows = stack.enter_context(GrowingArray(self._folder / file, output.shape, "float32"))
                rows.append(output)
                progress.advance(index + 1, self._data.samples)
        self._host_outputs[name] = file

    def _outputs(self, name: str) -> np.ndarray:
        outputs: np.ndarray = np.load(self._folder / self._host_outputs[name], mmap_mode="r")
        return outputs

    def _score(self, name: str, form: records.Format, project: Project) -> records.HostScore:
        outputs = self._outputs(name)
        twin_name = f"{project.model.name}.fp32.{form}"
        labels = self._set.labels
        labelled = labels is not None and labels[:] != UNLABELLED
        correct = None if labels is None else int((stats.top1(outputs)[labelled] == labels[labelled]).sum())
        twin = None if name == twin_name else self._outputs(twin_name)
        return records.HostScore(
            metric=project.data.metric,
            correct=correct,
            labelled=int(np.sum(labelled)),
            total=len(outputs),
            agree=None if twin is None else stats.agreements(twin, outputs),
            sqnr_db=None if twin is None else _finite(stats.sqnr_db(twin, outputs)),
        )

    def _golden(self, runtime: HostRuntime) -> records.Golden:
        inputs = self._set.sample(0)
        outputs = runtime.run(inputs)
        return records.Golden(
            input_sha256=self._kept(b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)),
            output_sha256=self._kept(b"".join(np.ascontiguousarray(array).tobytes() for array in outputs)),
        )

    def _kept(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        write_bytes(self._folder / "golden" / f"{digest}.bin", data)
        return digest


def _finite(sqnr_db: float) -> float | None:
    """None where two outputs are identical: JSON has no infinity."""
    return sqnr_db if np.isfinite(sqnr_db) else None


def _findings(artifacts: Sequence[records.Artifact]) -> Iterator[str]:
    """What a person should know of the files before they are measured."""
    for artifact in artifacts:
        if named(artifact.recipe).quantized and not artifact.int8_mac_share:
            yield f"{artifact.name}: the recipe found nothing to quantize; every layer computes in float"


def _fingerprint(calibration: Dataset | None) -> records.CalibrationData | None:
    if calibration is None or calibration.samples is None:
        return None
    return records.CalibrationData(sha256=calibration.sha256, samples=calibration.samples)


def _take_over(old: Path, new: Path, model: str) -> None:
    """Copy what outlives a rebuild from an older build at the same place: measurements, and what a person put there."""
    for item in old.iterdir() if old.is_dir() else ():
        is_artifact = item.name.startswith(f"{model}.") and item.suffix.removeprefix(".") in records.FORMATS
        if item.name in _MADE_ANEW or is_artifact:
            continue
        if item.is_dir():
            shutil.copytree(item, new / item.name, symlinks=True)
        else:
            shutil.copy2(item, new / item.name, follow_symlinks=False)
