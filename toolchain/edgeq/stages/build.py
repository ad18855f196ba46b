"""From a project to a build: every recipe in every format, scored in its own runtime, with a table of contents.

A build is written beside its place and takes it when it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import records
from edgeq.errors import ArtifactError, NotReplaceableError
from edgeq.files import atomic_folder, sha256_file, try_folder_lock, write_text
from edgeq.installed import tool_versions
from edgeq.lower import lower
from edgeq.lower.coverage import Coverage
from edgeq.model import load_dataset, load_model, load_training
from edgeq.quantize import FloatGraph, quantize
from edgeq.quantize.explain import numerics_of, sums_saturate
from edgeq.quantize.fold_input import told
from edgeq.quantize.qat import train_quantization_aware
from edgeq.recipe import named
from edgeq.schema import to_json
from edgeq.stages import reuse
from edgeq.stages.bench import read_measurements
from edgeq.stages.bench.profile import write_operators
from edgeq.stages.explain import write_nodes, write_numerics
from edgeq.stages.fastest import FASTEST, Made, SpeedGround, fastest, require_times
from edgeq.stages.journal import Journal
from edgeq.stages.report.decision import ASSUMED_DROP_PP
from edgeq.stages.running import runner, stand_in_file
from edgeq.stages.scoring import Scorer, keep_evaluation
from edgeq.stages.search import SearchGround, search
from edgeq.tracing import recording
from edgeq.vela import arm_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.model import Dataset, Model, Training
    from edgeq.progress import Progress
    from edgeq.quantize import QuantizedProgram, Settled
    from edgeq.recipe import Recipe
    from edgeq.stages.planning import Plan
    from edgeq.tracing import Trace

_STAND_IN = "the same graph in XNNPACK on the build machine, which cannot run the artifact itself"


def build(what: Plan, out: Path, *, progress: Progress) -> records.Manifest:
    """Build everything of the plan into the folder ``out`` and return its manifest.

    A build that is there already is replaced; anything else is not touched:
    NotReplaceableError.
    """
    if not reuse.is_replaceable(out):
        raise NotReplaceableError(out)
    if any(recipe.name == FASTEST for recipe in what.recipes):
        require_times(what.target, read_measurements(out), out)
    with recording(out) as trace:
        return _build(what, out, trace, progress)


def _build(what: Plan, out: Path, trace: Trace, progress: Progress) -> records.Manifest:
    progress.step(f"loading {what.project.model.name}")
    sources = _Sources(what, progress)
    evaluation = load_dataset(what.project, what.project.data.evaluation, labelled=True)

    with try_folder_lock(out) as free:
        if not free:
            progress.step(f"another edgeq is writing {out}; waiting for it")
    with atomic_folder(out) as folder, runner(what.jobs) as running:
        data = keep_evaluation(evaluation, folder, what.project, progress=progress)
        scorer = Scorer(folder, data, what.threads, running, progress)
        made = _Maker(what, out, folder, sources, scorer, progress)
        for recipe in what.recipes:
            made.add(recipe)
        manifest = records.Manifest(
            model=sources.model.name,
            target=what.target.name,
            created_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
            tools={**tool_versions(), **arm_packages(what.target)},
            calibration=made.calibration,
            artifacts=made.artifacts,
            evaluation=scorer.data(),
            cross_checks=scorer.cross_checks(made.artifacts),
            findings=tuple(made.findings()),
            limits=what.project.limits,
            tolerances=what.project.check,
            searches=tuple(made.searches),
            speed_searches=tuple(made.speed_searches),
            labels=made.labels,
            measurable=not what.target.bare_metal,
        )
        write_text(folder / reuse.MANIFEST, reuse.manifest_text(manifest))
        write_text(folder / "target.json", to_json(what.target, indent=2) + "\n")
        reuse.keep_inputs(what, trace, folder, unrepeatable=(*sources.findings(), *_unrepeatable(what, evaluation)))
        reuse.take_over(out, folder, manifest.model)
    reuse.remember_place(what, out)
    return manifest


def _unrepeatable(what: Plan, evaluation: Dataset) -> Iterator[str]:
    if any(recipe.name == FASTEST for recipe in what.recipes):
        yield f"{FASTEST} is decided by measurements, which differ each time"
    if not evaluation.repeatable:
        yield f"{evaluation.where} gives other samples each time it is called"


class _Sources:
    """The float graphs that recipes start from: the user's model, and what training makes of it."""

    def __init__(self, what: Plan, progress: Progress) -> None:
        self._what = what
        self._progress = progress
        self.model: Model = load_model(what.project)
        self.training = self._training()
        self._trained: dict[str, FloatGraph] = {}
        self._calibration: Dataset | None = None
        if any(recipe.needs_calibration for recipe in what.recipes):
            self._calibration = load_dataset(what.project, what.project.data.calibration, labelled=False)

    def of(self, recipe: Recipe) -> FloatGraph:
        """The graph that ``recipe`` quantizes."""
        if recipe.method != "qat":
            return self.plain
        if recipe.name not in self._trained:
            self._trained[recipe.name] = self._graph(self._fitted(recipe))
        return self._trained[recipe.name]

    @cached_property
    def plain(self) -> FloatGraph:
        """The user's model."""
        return self._graph(self.model)

    def _training(self) -> Training | None:
        """The train function of recipes that need one, or may: what is wrong with it is said before a build begins."""
        for recipe in self._what.recipes:
            if recipe.method == "qat" or (recipe.name == "auto" and self._what.project.data.train):
                return load_training(self._what.project, recipe.name)
        return None

    def _fitted(self, recipe: Recipe) -> Model:
        training = self.training or load_training(self._what.project, recipe.name)
        return train_quantization_aware(self.plain, self.model, recipe, training, progress=self._progress)

    def _graph(self, model: Model) -> FloatGraph:
        return FloatGraph(
            model,
            self._calibration,
            threads=self._what.threads,
            converge=self._what.project.data.converge,
            pixels=self._what.project.pixels,
            progress=self._progress,
        )

    def findings(self) -> Iterator[str]:
        """What a person should know of the data."""
        if self._calibration and not self._calibration.repeatable:
            yield (
                f"{self._what.project.data.calibration} gives other samples each time it is called: another build "
                "will have other scales (seed it)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Lowered:
    """A file that was made and may still be running on the evaluation set."""

    path: Path
    form: records.Format
    recipe: str
    coverage: Coverage
    folded: records.FoldedInput | None


class _Maker:
    """Makes the artifacts of one build, recipe by recipe."""

    def __init__(  # noqa: PLR0913, PLR0917  # what a build is made of
        self, what: Plan, out: Path, folder: Path, sources: _Sources, scorer: Scorer, progress: Progress
    ) -> None:
        self._what = what
        self._out = out
        self._measured = read_measurements(out)
        self._folder = folder
        self._sources = sources
        self._scorer = scorer
        self._progress = progress
        self._notes: list[str] = []
        self._lowered: list[_Lowered] = []
        self.labels: tuple[str, ...] = ()
        self.searches: list[records.Search] = []
        self.speed_searches: list[records.SpeedSearch] = []
        self.calibration: records.CalibrationData | None = None

    def add(self, recipe: Recipe) -> None:
        """Make the artifacts of one recipe, after a search for it where its name stands for one."""
        if recipe.name == FASTEST:
            self._add_fastest()
            return
        if recipe.method == "search":
            found = search(recipe, self._ground(), progress=self._progress)
            self.searches.append(found.record)
            recipe = found.recipe
        source = self._sources.of(recipe)
        program = quantize(
            source, recipe, look=lambda found: self._keep_numerics(found, source, recipe), progress=self._progress
        )
        self._notes += program.notes
        self.calibration = self.calibration or program.calibration
        for form in self._what.formats:
            self._lower(program, form)

    @cached_property
    def artifacts(self) -> tuple[records.Artifact, ...]:
        """Everything that was made, scored: when all of it has been added."""
        return tuple(self._artifact(one) for one in self._lowered)

    def _add_fastest(self) -> None:
        """Make the artifact of each format that is fastest in its own runtime: they differ in what is float."""
        for form in self._what.formats:
            with self._speed_ground(form) as ground:
                found = fastest(ground, progress=self._progress)
            self.speed_searches.append(found.record)
            program = quantize(self._sources.plain, found.recipe, progress=self._progress)
            self._notes += program.notes
            self.calibration = self.calibration or program.calibration
            self._lower(program, form)

    @contextlib.contextmanager
    def _speed_ground(self, form: records.Format) -> Iterator[SpeedGround]:
        twins = {
            one.recipe: Made(path=one.path, sha256=sha256_file(one.path), operators=one.coverage.operators)
            for one in self._lowered
            if one.form == form and one.recipe in ("fp32", "int8-static")
        }
        trial = self._folder / f"{self._sources.model.name}.trial-int8.{form}"
        try:
            if "int8-static" not in twins:
                twins["int8-static"] = self._made(named("int8-static"), trial)
            self._scorer.rest()
            yield SpeedGround(
                source=self._sources.plain,
                target=self._what.target,
                form=form,
                folder=self._folder,
                model=self._sources.model.name,
                twins=twins,
                make=self._made,
                sample=self._scorer.first_sample(),
                measured=self._measured,
                out=self._out,
            )
        finally:
            trial.unlink(missing_ok=True)

    def _made(self, recipe: Recipe, path: Path) -> Made:
        """An artifact that is not kept."""
        program = quantize(self._sources.plain, recipe, progress=self._progress)
        coverage = lower(program, "pte" if path.suffix == ".pte" else "onnx", self._what.target, path)
        return Made(path=path, sha256=sha256_file(path), operators=coverage.operators)

    def findings(self) -> Iterator[str]:
        """What a person should know of the files before they are measured."""
        yield from self._sources.findings()
        yield from self._what.left_out
        yield from self._notes
        for said in dict.fromkeys(told(artifact.folded) for artifact in self.artifacts if artifact.folded):
            names = ", ".join(one.name for one in self.artifacts if one.folded and told(one.folded) == said)
            yield f"{names}: {said}"
        for artifact in self.artifacts:
            if artifact.host.not_finite:
                yield (
                    f"{artifact.name}: its output holds NaN or infinity for {artifact.host.not_finite} of "
                    f"{artifact.host.total} evaluation samples; NaN counts as a wrong answer"
                )
            if artifact.recipe != "fp32" and not artifact.macs:
                yield f"{artifact.name}: no layer and nothing to quantize; int8 100 % is of nothing, all is float"
            elif artifact.recipe != "fp32" and not artifact.int8_mac_share:
                yield f"{artifact.name}: the recipe found nothing to quantize; every layer computes in float"

    def _keep_numerics(self, found: Settled, source: FloatGraph, recipe: Recipe) -> None:
        """Write what the recipe does to the numbers of the model, for ``edgeq explain --numerics``."""
        saturating = "onnx" in self._what.formats and sums_saturate(self._what.target)
        numerics = numerics_of(recipe.name, found, source.samples(), saturating=saturating, progress=self._progress)
        write_numerics(self._folder, numerics)
        self._notes += found.notes

    def _lower(self, program: QuantizedProgram, form: records.Format) -> None:
        recipe = program.recipe.name
        path = self._folder / f"{program.model}.{recipe}.{form}"
        self._progress.step(f"lowering {path.name}")
        if self._what.target.bare_metal:
            coverage = self._lower_for_microcontroller(program, form, path)
        else:
            coverage = lower(program, form, self._what.target, path)
            if form == "pte":
                self._keep(program, path.name)
            write_operators(self._folder, records.OperatorMap(artifact=path.name, operators=coverage.operators))
            self._scorer.begin(path, form, golden=True)
        self.labels = reuse.labels(self._what.project, coverage.outputs)
        write_nodes(self._folder, path.name, coverage.nodes)
        self._lowered.append(_Lowered(path=path, form=form, recipe=recipe, coverage=coverage, folded=program.folded))

    def _lower_for_microcontroller(self, program: QuantizedProgram, form: records.Format, path: Path) -> Coverage:
        """Lower for a microcontroller, and begin to score what stands in for the file here."""
        file = stand_in_file(path.name)
        coverage = lower(program, form, self._what.target, path, stand_in=self._folder / file)
        self._scorer.begin(path, form, golden=True, stand_in=file)
        return coverage

    def _keep(self, program: QuantizedProgram, name: str) -> None:
        """Keep what the .pte was lowered from, for probes of its layers: the artifact is whole without."""
        from edgeq.lower.executorch_probe import keep_program  # noqa: PLC0415  # a build of .onnx files needs no ExecuTorch

        try:
            keep_program(program, self._folder / reuse.program_file(program.recipe.name))
        except ArtifactError as error:
            self._notes.append(f"{name}: edgeq parity will name no layer of it: {error.message}")

    def _artifact(self, made: _Lowered) -> records.Artifact:
        path, coverage = made.path, made.coverage
        return records.Artifact(
            name=path.name,
            format=made.form,
            recipe=made.recipe,
            sha256=sha256_file(path),
            size_bytes=path.stat().st_size,
            macs=coverage.macs,
            int8_mac_share=coverage.int8_mac_share,
            delegated_mac_share=coverage.delegated_mac_share,
            partitions=coverage.partitions,
            undelegated=coverage.undelegated,
            host=self._scorer.score(
                path.name,
                twin=None if made.recipe == "fp32" else self._twin(made.form),
                scored=_STAND_IN if self._what.target.bare_metal else "",
            ),
            inputs=coverage.inputs,
            outputs=coverage.outputs,
            preprocess=self._what.project.left_to_the_app,
            requires=coverage.requires,
            golden=self._scorer.golden(path.name),
            folded=made.folded,
            output_scales=coverage.output_scales,
            estimate=coverage.estimate,
        )

    def _twin(self, form: records.Format) -> str:
        return f"{self._sources.model.name}.fp32.{form}"

    def _ground(self) -> SearchGround:
        """What a search stands on: it tries artifacts of the first format, which the others follow number by number."""
        project, form = self._what.project, min(self._what.formats, key=records.FORMATS.index)
        limit = project.limits.max_drop_pp
        return SearchGround(
            source=self._sources.plain,
            source_of=self._sources.of,
            trains=self._sources.training is not None,
            scorer=self._scorer,
            folder=self._folder,
            target=self._what.target,
            form=form,
            twin=self._twin(form),
            journal_of=lambda recipe: Journal(self._fingerprint(recipe, form)),
            max_drop_pp=ASSUMED_DROP_PP if limit is None else limit,
            least_int8_share=project.limits.min_int8_mac_share,
        )

    def _fingerprint(self, recipe: Recipe, form: records.Format) -> str:
        """Of all that a trial depends on beside its recipe; a recipe that trains also depends on the training."""
        digest = hashlib.sha256()
        digest.update(self._sources.plain.sha256.encode())
        statistics = self._sources.plain.statistics(progress=self._progress)
        digest.update(statistics.data.sha256.encode())
        digest.update(self._scorer.sha256.encode())
        digest.update(to_json(self._what.target).encode())
        digest.update(f"{form} {list(tool_versions().values())}".encode())
        digest.update(f"{self._what.project.data.converge}".encode())
        if recipe.method == "qat" and self._sources.training is not None:
            digest.update(self._sources.training.fingerprint.encode())
        return digest.hexdigest()
