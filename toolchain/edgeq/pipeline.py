"""READ FIRST: the whole flow, one short function for each command.

::

    build    Project, Target                  -> BUILD/manifest.json and the artifacts
    deploy   BUILD, device                    -> BUILD/deployments/DEVICE.json
    bench    BUILD, device                    -> rows of BUILD/measurements.jsonl
    report   BUILD...                         -> report.{json,md,html}
    run      the four in one
    compare  BUILD..., device                 -> lines of BUILD/comparisons.jsonl
    parity   BUILD, devices                   -> BUILD/parity.json: whether all compute the same
    explain  BUILD                            -> what stayed float, which layers lose accuracy
    doctor   device                           -> what is missing here and there, and what mends it
    export   BUILD, a platform                -> a folder that an app takes in
    checked  BUILD, a baseline                -> what misses a limit or is worse
    remember BUILD                            -> rows of the history, which outlives builds
    history  PROJECT or BUILD                 -> how the figures moved

Each function reads what the one before wrote, so they can run on different
days and machines. Only ``build`` imports torch, and only where something has changed
(and ``parity``, to look into an artifact that diverges).
The module is as long as there are commands.
"""

from __future__ import annotations

import platform
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import runner
from edgeq.device.inventory import default_device, default_target, is_board, open_device, require_device, store_root
from edgeq.device.store import Store
from edgeq.errors import BareMetalError, LimitsMissedError, NotABuildError, WhichBoardError
from edgeq.installed import EXTRA_OF, missing, require
from edgeq.progress import SILENT, Progress
from edgeq.project import check_limits, load_project
from edgeq.records import Export, Manifest, Report, Tolerances
from edgeq.runner import BACK_TO_BACK, Pace
from edgeq.schema import from_json
from edgeq.stages import advice as advice_stage
from edgeq.stages import bench as bench_stage
from edgeq.stages import check as check_stage
from edgeq.stages import compare as compare_stage
from edgeq.stages import deploy as deploy_stage
from edgeq.stages import doctor as doctor_stage
from edgeq.stages import explain as explain_stage
from edgeq.stages import export as export_stage
from edgeq.stages import history as history_stage
from edgeq.stages import parity as parity_stage
from edgeq.stages import planning, reuse
from edgeq.stages import report as report_stage
from edgeq.stages import store as store_stage
from edgeq.stages.converting import Conversions
from edgeq.stages.fleet import on_each
from edgeq.stages.history import trend as trend_stage
from edgeq.stages.origin import keep_origin
from edgeq.target import Target, load_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.device.keyring import SigningKey
    from edgeq.device.transport import Transport
    from edgeq.mobile import PlatformName
    from edgeq.project import Project
    from edgeq.records import Check, CheckResult, DelegateName, Deployment, Format, Measurement
    from edgeq.runner import RunnerBundle
    from edgeq.stages.fleet import Watch


@dataclass(frozen=True, kw_only=True)
class Build:
    """A folder that ``edgeq build`` wrote, and what it says of itself."""

    path: Path
    manifest: Manifest
    target: Target
    reused: bool = False
    """Whether it was there already and nothing that it depends on has changed."""
    rebuilt_because: str = ""
    """What has changed since the build that was there before, or why nobody can tell."""
    unseen: tuple[str, ...] = ()
    """Sentences that say why the next build has to begin anew even if nothing has changed."""

    def checks(self) -> tuple[Check, ...]:
        """The project's limits as far as no device is needed to judge them."""
        return report_stage.checks_without_a_device(self.path, self.manifest)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What a person may set of a measurement; None and () leave it to the target and the kind of device.

    Of several ``threads`` each artifact gets what is fastest; of all that the device has, if none are given.
    With ``force`` a device that is not fit is measured too, and the rows say so.
    """

    artifacts: tuple[str, ...] = ()
    samples: int | None = None
    repeats: int | None = None
    threads: tuple[int, ...] = ()
    profile: bool = False
    leak_check: bool = False
    pace: Pace = BACK_TO_BACK
    cpus: tuple[int, ...] = ()
    force: bool = False


EVERYTHING = BenchOptions()
DOCTORS_BOARD = "rpi4"
"""The target whose emulated board a doctor starts if none runs and none is named."""


def read_build(path: Path) -> Build:
    """The build in that folder; ConfigError if it is none or is damaged."""
    manifest, target = path / "manifest.json", path / "target.json"
    for file in (manifest, target):
        if not file.is_file():
            raise NotABuildError(path, file.name)
    return Build(
        path=path,
        manifest=from_json(Manifest, manifest.read_bytes(), where=str(manifest)),
        target=from_json(Target, target.read_bytes(), where=str(target)),
    )


def build(  # noqa: PLR0913  # the options of a command
    project: Path,
    *,
    target: str | None = None,
    recipes: Sequence[str] = (),
    formats: Sequence[Format] = (),
    out: Path | None = None,
    max_drop_pp: float | None = None,
    jobs: int = 1,
    rebuild: bool = False,
    progress: Progress = SILENT,
) -> Build:
    """Quantize and lower a project for a target; a build that is there and up to date is taken unless ``rebuild``."""
    read = _with_budget(load_project(project), max_drop_pp)
    facts = load_target(target or read.build.target)
    plan = planning.plan(read, facts, recipes=recipes, formats=formats, jobs=jobs)
    folder = out or Path("build") / read.model.name / facts.name
    there = reuse.Reuse(manifest=None) if rebuild else reuse.unchanged(plan, folder)
    taken = there if rebuild or there.manifest else reuse.copied(plan, folder)
    if taken.manifest is not None:
        progress.step(f"nothing has changed since {taken.manifest.created_at}: {folder} holds that build")
        keep_origin(Path(read.root), folder)
        return Build(path=folder, manifest=taken.manifest, target=facts, reused=True)
    if there.why_not:
        progress.step(f"building anew: {there.why_not}")
    _require_makers(plan.formats)
    from edgeq.stages import build as build_stage  # noqa: PLC0415  # brings torch, which no other command needs

    manifest = build_stage.build(plan, folder, progress=progress)
    keep_origin(Path(read.root), folder)
    return Build(
        path=folder, manifest=manifest, target=facts, rebuilt_because=there.why_not, unseen=reuse.unseen(folder)
    )


def explain_recipe(  # noqa: PLR0913  # the options of a command
    project: Path,
    *,
    target: str | None = None,
    recipes: Sequence[str] = (),
    max_drop_pp: float | None = None,
    jobs: int = 1,
    progress: Progress = SILENT,
) -> advice_stage.Advice:
    """Which recipe suits a project on a target, and why; nothing is built."""
    read = _with_budget(load_project(project), max_drop_pp)
    _require_makers(read.build.formats)
    board = load_target(target or read.build.target)
    facts = advice_stage.gather(read, board, recipes=recipes, threads=planning.threads_for(jobs), progress=progress)
    return advice_stage.advise(facts)


def _require_makers(formats: Sequence[Format]) -> None:
    """Say what is not installed before anything is loaded or computed."""
    for form in formats:
        require(EXTRA_OF[form], needed_for=f"making .{form} files")


def _with_budget(project: Project, max_drop_pp: float | None) -> Project:
    if max_drop_pp is None:
        return project
    limits = replace(project.limits, max_drop_pp=max_drop_pp)
    check_limits(limits, where="the budget of this build")
    return replace(project, limits=limits)


@contextmanager
def connected(what: Build, device: str, *, lasting: bool = False, progress: Progress = SILENT) -> Iterator[Transport]:
    """A way to the device while the block runs.

    The target's emulated board is started if it does not run; it ends with
    the block unless it is to be ``lasting``, for a later command to use.
    """
    with open_device(device, what.target, lasting=lasting, progress=progress) as transport:
        yield transport


def deploy(  # noqa: PLR0913  # the options of a command
    what: Build,
    transport: Transport,
    *,
    device: str,
    sign: SigningKey | None = None,
    allow_older: bool = False,
    verify: bool = False,
    activate: bool = True,
    progress: Progress = SILENT,
) -> deploy_stage.DeployResult:
    """Push what is missing on the device, verify and try it there, activate it unless it is only to be measured.

    What is active already is not hashed again unless it was touched since, or it is to be ``verify``-ed.
    """
    return deploy_stage.deploy(
        what.path,
        what.manifest,
        what.target,
        transport,
        _bundles(what, device, progress),
        device=device,
        sign=sign,
        allow_older=allow_older,
        verify=verify,
        activate=activate,
        progress=progress,
    )


def _bundles(what: Build, device: str, progress: Progress) -> dict[str, RunnerBundle]:
    """A runner for each runtime that the build's artifacts need, as it fits the device."""
    triple = _triple_of_this_machine() if device == "local" else what.target.triple
    engines = sorted({artifact.requires.runtime for artifact in what.manifest.artifacts})
    return {engine: runner.bundle(engine, triple, progress=progress) for engine in engines}


def held(device: str, *, target: str | None = None, progress: Progress = SILENT) -> tuple[store_stage.Held, ...]:
    """The deployments that a device holds; of emulated boards the one of ``target``, or the only one that runs."""
    with _store_of(device, target, progress) as (store, _transport):
        return store_stage.held(store, progress=progress)


def roll_back(
    device: str, name: str, *, target: str | None = None, progress: Progress = SILENT
) -> store_stage.RolledBack:
    """Make the deployment before the active one of ``name``, MODEL or MODEL@TARGET, active again."""
    with _store_of(device, target, progress) as (store, transport):
        return store_stage.roll_back(store, transport, name, progress=progress)


def clean_up(device: str, *, keep: int, target: str | None = None, progress: Progress = SILENT) -> store_stage.Freed:
    """Remove from a device what the last ``keep`` deployments of each model do not need."""
    with _store_of(device, target, progress) as (store, _transport):
        return store_stage.clean_up(store, keep=keep, progress=progress)


@contextmanager
def _store_of(device: str, target: str | None, progress: Progress) -> Iterator[tuple[Store, Transport]]:
    with open_device(device, load_target(target or default_target(device)), progress=progress) as transport:
        yield Store(transport, store_root(device)), transport


def bench(
    what: Build, transport: Transport, options: BenchOptions = EVERYTHING, *, device: str, progress: Progress = SILENT
) -> tuple[Measurement, ...]:
    """Measure what was deployed; every artifact's row is on disk before the next begins."""
    deployment = deploy_stage.read_deployment(what.path, device)
    settings = _settings(what, deployment, options)
    return bench_stage.bench(what.path, what.manifest, deployment, transport, settings, progress=progress)


def compare(  # noqa: PLR0913  # the options of a command
    builds: Sequence[Path],
    *,
    device: str | None = None,
    settings: BenchOptions = EVERYTHING,
    same_within: float = compare_stage.SAME_WITHIN,
    sign: SigningKey | None = None,
    progress: Progress = SILENT,
) -> compare_stage.Compared:
    """Let the artifacts of builds take turns on a device, those of the first against the others'.

    They are deployed there as far as they are not, without becoming active.
    """
    read = [read_build(path) for path in builds]
    paired = compare_stage.pair_up([(one.path, one.manifest) for one in read], settings.artifacts)
    where = device or default_device(read[0].target)
    contenders = []
    with connected(read[0], where, progress=progress) as transport:
        for one in read:
            done = deploy(one, transport, device=where, sign=sign, activate=False, progress=progress)
            contenders.append(
                compare_stage.Contender(build=one.path, manifest=one.manifest, deployment=done.deployment)
            )
        how = _settings(read[0], contenders[0].deployment, settings)
        found = compare_stage.compare(
            contenders, paired.pairs, transport, how, same_within=same_within, progress=progress
        )
    return compare_stage.Compared(comparisons=found, left_out=paired.left_out)


def _settings(what: Build, deployment: Deployment, options: BenchOptions) -> bench_stage.Settings:
    return bench_stage.settings(
        what.target,
        deployment,
        artifacts=options.artifacts,
        samples=options.samples,
        repeats=options.repeats,
        threads=options.threads,
        profile=options.profile,
        leak_check=options.leak_check,
        pace=options.pace,
        cpus=options.cpus,
        force=options.force,
    )


def parity(  # noqa: PLR0913  # the options of a command
    what: Build,
    devices: Sequence[str],
    *,
    artifacts: Sequence[str] = (),
    samples: int = parity_stage.SAMPLES,
    least_sqnr_db: float | None = None,
    sign: SigningKey | None = None,
    watch: Watch,
) -> parity_stage.Compared:
    """Hold what the artifacts give on each device against the build machine and each other; nothing becomes active."""
    if what.target.bare_metal:
        raise BareMetalError(what.target.name)
    chosen = what.manifest.chosen(artifacts)
    if least_sqnr_db is not None:
        chosen = tuple(replace(one, least_sqnr_db=least_sqnr_db) for one in chosen)
    golden = parity_stage.GoldenSet(what.path, what.manifest, samples)

    def see(device: str, progress: Progress) -> parity_stage.Seen:
        with connected(what, device, progress=progress) as transport:
            place = parity_stage.Place(
                build=what.path,
                manifest=what.manifest,
                target=what.target,
                transport=transport,
                bundles=_bundles(what, device, progress),
                device=device,
                sign=sign,
            )
            return parity_stage.see(place, chosen, golden, probes, progress=progress)

    with parity_stage.Probes(what.path, what.manifest, what.target) as probes:
        outcomes = on_each(devices, see, watch=watch)
    return parity_stage.compared(what.path, what.manifest, chosen, golden, outcomes)


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report, the files it was written to, and what became of the history where rows were measured for it.

    ``left_out`` says of a file that is usually written why it was not.
    """

    report: Report
    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    remembered: history_stage.Remembered | None = None
    not_measured: str = ""
    """Why a run ended without a measurement; empty where it did not."""


def remember(what: Build) -> history_stage.Remembered:
    """Bring the history up to what was measured of a build; says so where it could not, and raises nothing."""
    return history_stage.remember(what.path, what.manifest, bench_stage.read_measurements(what.path))


def summary(builds: Sequence[Path]) -> Report:
    """What was measured of those builds so far."""
    read = [read_build(path) for path in builds]
    return report_stage.summarise([(one.path, one.manifest, bench_stage.read_measurements(one.path)) for one in read])


def report(
    builds: Sequence[Path], *, formats: Sequence[report_stage.ReportFormat] = (), out: Path | None = None
) -> WrittenReport:
    """Write the report of what was measured, beside the first build unless ``out`` says otherwise."""
    found = summary(builds)
    html: tuple[report_stage.ReportFormat, ...] = () if formats or missing("report") else ("html",)
    files = report_stage.write(found, formats or ("md", *html, "json"), out or builds[0])
    left_out = () if formats or html else ("report.html was not written: it needs pip install 'edgeq[report]'",)
    return WrittenReport(report=found, files=files, left_out=left_out)


def explain(build: Path, *, artifact: str | None = None, numerics: bool = False) -> explain_stage.Explained:
    """What a build's records say of why its artifacts are what they are."""
    what = read_build(build)
    return explain_stage.explain(build, what.manifest, summary([build]), artifact=artifact, numerics=numerics)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written for an app, and where."""

    record: Export
    folder: Path


def export(  # noqa: PLR0913  # the options of a command
    what: Build,
    platform: PlatformName,
    out: Path | None = None,
    *,
    artifacts: Sequence[str] = (),
    package: str | None = None,
    ort: bool = False,
    delegates: Sequence[DelegateName] = (),
    progress: Progress = SILENT,
) -> Exported:
    """Write the folder ``out``, or export/MODEL/PLATFORM, for an app that runs ``artifacts`` of a build.

    With ``ort`` in ONNX Runtime's own format instead of ONNX; for each of
    the ``delegates`` with a further .pte, which takes torch to make.
    """
    if what.target.bare_metal:
        raise BareMetalError(what.target.name)
    folder = out or Path("export") / what.manifest.model / platform
    record = export_stage.export(
        what.path,
        what.manifest,
        platform,
        folder,
        artifacts=artifacts,
        package=package,
        conversions=Conversions(ort=ort, delegates=tuple(dict.fromkeys(delegates))),
        progress=progress,
    )
    return Exported(record=record, folder=folder)


def doctor(device: str | None, *, target: str | None = None, progress: Progress = SILENT) -> doctor_stage.Diagnosis:
    """Look at this machine and, if one is named, at a device, which is held against the target, if one is named."""
    against = target or (_emulated_target(device) if device and is_board(device) else None)
    facts = load_target(against or DOCTORS_BOARD)
    progress.step("looking at this machine" + (f" and at {device}" if device else ""))
    way = open_device(device, facts, progress=progress) if device else None
    return doctor_stage.diagnose(device, target=facts if against else None, way=way)


def _emulated_target(device: str) -> str:
    """Whose emulated board a doctor looks at: the one that runs, or one to start."""
    try:
        return default_target(device)
    except WhichBoardError as error:
        if error.running:
            raise
        return DOCTORS_BOARD


def run(  # noqa: PLR0913  # the options of a command
    project: Path,
    *,
    target: str | None = None,
    recipes: Sequence[str] = (),
    formats: Sequence[Format] = (),
    out: Path | None = None,
    max_drop_pp: float | None = None,
    build_jobs: int = 1,
    device: str | None = None,
    sign: SigningKey | None = None,
    settings: BenchOptions = EVERYTHING,
    progress: Progress = SILENT,
) -> WrittenReport:
    """From a project to a report: the other functions in a row.

    Without a ``device``, on the emulated board of the target, or on this
    machine if the target has none. A microcontroller is built and reported
    for, and not measured: BareMetalError if a device is named.
    """
    facts = load_target(target or load_project(project).build.target)
    if device or not facts.bare_metal:
        device = device or default_device(facts)
        require_device(device, facts)  # before minutes are spent on a build that cannot be measured
    what = build(
        project,
        target=target,
        recipes=recipes,
        formats=formats,
        out=out,
        max_drop_pp=max_drop_pp,
        jobs=build_jobs,
        progress=progress,
    )
    if device is None:
        why = f"{facts.name} is a microcontroller: nothing was deployed and nothing was measured"
        return replace(report([what.path]), not_measured=why)
    with connected(what, device, progress=progress) as transport:
        done = deploy(what, transport, device=device, sign=sign, progress=progress)
        for warning in done.deployment.warnings:
            progress.step(f"warning: {warning}")
        bench(what, transport, settings, device=device, progress=progress)
    remembered = remember(what)
    return replace(report([what.path]), remembered=remembered)


def checked(build: Path, asked: check_stage.Request) -> CheckResult:
    """Hold the newest measurements of a build against its limits and a baseline."""
    what = read_build(build)
    return check_stage.check(what.path, what.manifest, summary([build]).checks, asked)


def history(
    of: Path, *, artifact: str | None = None, device: str | None = None, limit: int | None = None
) -> trend_stage.Trend:
    """How the figures of a project, or of one build's target, moved; the last ``limit`` of each artifact and device."""
    if (of / "manifest.json").is_file():
        what = read_build(of)
        model, target, tolerances = what.manifest.model, what.manifest.target, what.manifest.tolerances
        place = history_stage.place_of_build(of)
    else:
        project = load_project(of)
        model, target, tolerances = project.model.name, None, project.check
        place = history_stage.place_of_project(project)
    wanted = history_stage.Wanted(model=model, target=target, artifact=artifact, device=device, newest=limit)
    return trend_stage.trend(history_stage.read(place, wanted), model, tolerances or Tolerances())


def check(checks: Sequence[Check]) -> None:
    """LimitsMissedError if a limit of the project is missed; one that nothing can be told of is not."""
    missed = [f"{one.artifact}: {one.limit}: {one.text}" for one in checks if one.outcome == "missed"]
    if missed:
        raise LimitsMissedError(missed)


def _triple_of_this_machine() -> str:
    """The runner that fits ``local``, whatever board the build was made for."""
    return f"{platform.machine()}-linux-gnu"
