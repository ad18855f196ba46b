"""From the rows of BUILD/measurements.jsonl to a Report: here is decided what may be said at all."""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgeq import stats
from edgeq.device.health import BUSY_SHARE
from edgeq.evaluation import EvaluationSet
from edgeq.records import (
    FORMATS,
    Check,
    Manifest,
    Measurement,
    Report,
    ReportedBuild,
    ReportedDevice,
    ReportRow,
    ThreadsRow,
)
from edgeq.stages.parity import read_parity
from edgeq.stages.report import conditions, decision, findings, limits, paces, parity, profiles, searches, unmeasured
from edgeq.stages.report.evidence import (
    FP32,
    Drop,
    Evidence,
    Gathered,
    Judged,
    Labels,
    drop,
    gather,
    paired_drop,
    samples_needed,
    speedup,
    tells_time,
)
from edgeq.stages.report.instruction_limit import least_instructions
from edgeq.stages.report.latencies import interval_ms, percentile_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Artifact, Decision

Measured: TypeAlias = tuple[Path, Manifest, tuple[Measurement, ...]]
"""A build's folder, its manifest, and every row of its measurements.jsonl."""

BUILD_MACHINE = "the build machine"
STAND_IN = "the build machine, where the same graph in XNNPACK stands in for the file"

USUAL_DROP_PP = 0.5
"""The drop that samples are counted for where a project sets no max_drop_pp."""

_FOREIGN_LAST = ("hardware", "emulated", "host", None)


def summarise(builds: Sequence[Measured]) -> Report:
    """What can be said of those builds: a row for each artifact and device, limits, a decision for each build.

    Reads the labels that a manifest names, for the paired comparison with
    fp32, and nothing else.
    """
    rows: list[ReportRow] = []
    reported: list[ReportedBuild] = []
    checks: list[Check] = []
    found: list[str] = []
    notes: list[str] = []
    for path, manifest, measurements in _each_once(builds):
        build = str(path)
        gathered = gather(manifest, measurements)
        labels = Labels.of(path, manifest)
        own = _in_order([_row(build, evidence, labels, manifest) for evidence in gathered.evidence], manifest.target)
        held = limits.held_against(own, manifest.limits, manifest.target)
        if manifest.measurable:
            decided = decision.decide(build, manifest, own, held, gathered.evidence)
        else:
            held = _held_by_the_stand_in(held, checks_without_a_device(path, manifest))
            decided = unmeasured.decide(manifest)
        own = [_with_verdicts(row, held) for row in own]
        own = [_with_mark(row, decided) for row in own]
        compared = read_parity(path)
        reported.append(
            dataclasses.replace(
                _reported(build, manifest, gathered, decided),
                paces=paces.rows_of(manifest, measurements),
                parity=compared,
            )
        )
        rows += own
        checks += (*held, *searches.checks(build, manifest))
        found += findings.of_build(manifest, own)
        found += parity.diverging(compared) if compared else []
        notes += findings.left_out(build, gathered)
    return Report(
        model=", ".join(dict.fromkeys(one.model for one in reported)),
        target=", ".join(dict.fromkeys(one.target for one in reported)),
        created_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        rows=tuple(rows),
        builds=tuple(reported),
        checks=tuple(checks),
        findings=tuple(dict.fromkeys(found)),
        notes=tuple(notes),
    )


def checks_without_a_device(path: Path, manifest: Manifest) -> tuple[Check, ...]:
    """The limits that the build machine can judge: size and shares of the file, accuracy in its own runtime.

    Accuracy is that of the host outputs kept in the build; time,
    instructions and memory need a device and are left out.
    """
    searched = searches.checks(str(path), manifest)
    if manifest.limits is None:
        return searched
    labels = Labels.of(path, manifest)
    rows = [
        _with_host_drop(
            _with_host_accuracy(_row(str(path), evidence, labels, manifest)), evidence, path, manifest, labels
        )
        for evidence in gather(manifest, ()).evidence
    ]
    of_the_host = dataclasses.replace(
        manifest.limits,
        never_slower=False,
        max_p50_ms=None,
        max_p99_ms=None,
        max_instructions=None,
        max_peak_rss_bytes=None,
    )
    return (*limits.held_against(rows, of_the_host, manifest.target), *searched)


def _held_by_the_stand_in(held: Sequence[Check], here: Sequence[Check]) -> tuple[Check, ...]:
    """The limits as the build machine judged them where it can, the rest of them as they are."""
    judged = {(one.artifact, one.limit): one for one in here}
    return tuple(judged.get((one.artifact, one.limit), one) for one in held)


def _with_host_accuracy(row: ReportRow) -> ReportRow:
    """The row with the right answers of the build machine, as if this machine were the device."""
    right, labelled = row.host.correct, row.host.labelled
    if right is None or not labelled:
        return row
    return dataclasses.replace(
        row,
        device=STAND_IN if row.host.scored else BUILD_MACHINE,
        labelled=labelled,
        accuracy=right / labelled,
        accuracy_ci95=stats.wilson_interval(right, labelled),
    )


def _with_host_drop(row: ReportRow, what: Evidence, path: Path, manifest: Manifest, labels: Labels) -> ReportRow:
    """The row with the paired drop of the host outputs, as if this machine were the device."""
    if what.is_twin or what.twin is None or labels.values is None:
        return row
    evaluation = EvaluationSet.of(path, manifest)
    reference, candidate = (
        Judged.of(stats.top1(evaluation.host_outputs(name)), labels.values)
        for name in (what.twin.name, what.artifact.name)
    )
    where = STAND_IN if row.host.scored else BUILD_MACHINE
    row = dataclasses.replace(row, device=where, labelled=reference.right.size)
    return _with_drop(row, paired_drop(reference, candidate), manifest)


def _each_once(builds: Sequence[Measured]) -> tuple[Measured, ...]:
    """A folder named twice is one build."""
    seen: dict[Path, Measured] = {}
    for one in builds:
        seen.setdefault(one[0].resolve(), one)
    return tuple(seen.values())


def _row(build: str, what: Evidence, labels: Labels, manifest: Manifest) -> ReportRow:
    """Everything of one artifact on one device that is known; the rest is None."""
    artifact, measured = what.artifact, what.measured
    dropped = drop(what, labels)
    row = ReportRow(
        build=build,
        artifact=artifact.name,
        format=artifact.format,
        recipe=artifact.recipe,
        device=None,
        timing=None,
        measured_at=None,
        threads=None,
        runs=0,
        size_bytes=artifact.size_bytes,
        size_ratio=None if what.twin is None or what.is_twin else what.twin.size_bytes / artifact.size_bytes,
        p50_ms=None,
        p90_ms=None,
        p99_ms=None,
        ci95_ms=None,
        speedup_vs_fp32=speedup(what),
        instructions=None,
        load_ms=None,
        first_ms=None,
        peak_rss_bytes=None,
        planned_bytes=None,
        correct=None,
        labelled=0,
        accuracy=None,
        accuracy_ci95=None,
        samples=0,
        drop_pp=None,
        drop_ci95_pp=None,
        drop_p_value=None,
        fp32_agreement=None,
        host_agreement=None,
        macs=artifact.macs,
        int8_mac_share=artifact.int8_mac_share,
        delegated_mac_share=artifact.delegated_mac_share,
        partitions=artifact.partitions,
        undelegated=artifact.undelegated,
        host=artifact.host,
        estimate=artifact.estimate,
    )
    if measured is None:
        return row
    row = _with_cost(_with_drop(_with_scores(row, measured), dropped, manifest), what.artifact, measured)
    if measured.timing != "emulated":
        row = _with_latencies(row, measured)
    return dataclasses.replace(row, notes=tuple(_row_notes(what, measured, dropped)))


def _with_drop(row: ReportRow, dropped: Drop, manifest: Manifest) -> ReportRow:
    """Add how much worse it is than fp32, and how many samples the project's limit would take."""
    limit_pp = manifest.limits.max_drop_pp if manifest.limits else None
    return dataclasses.replace(
        row,
        drop_pp=dropped.drop_pp,
        drop_ci95_pp=dropped.interval_pp,
        drop_p_value=dropped.p_value,
        class_changes=dropped.class_changes,
        samples_needed=samples_needed(dropped, USUAL_DROP_PP if limit_pp is None else limit_pp),
    )


def _with_cost(row: ReportRow, artifact: Artifact, measured: Measurement) -> ReportRow:
    """Add instructions, held against the fewest that the device's core could do with, bytes and operators."""
    least = None
    if measured.instructions:
        least = least_instructions(artifact, measured.device_facts.features)
    return dataclasses.replace(
        row,
        instructions=measured.instructions,
        least_instructions=least,
        instruction_limit_share=least / measured.instructions if least is not None and measured.instructions else None,
        peak_rss_bytes=measured.peak_rss_bytes,
        planned_bytes=measured.planned_bytes,
        load_anonymous_bytes=measured.load_anonymous_bytes,
        leak=measured.leak,
        pushed_bytes=measured.pushed_bytes,
        profile=profiles.reported(measured),
    )


def _with_scores(row: ReportRow, measured: Measurement) -> ReportRow:
    """Add when and where it was measured, and how many answers were right."""
    right, labelled = measured.correct, measured.labelled
    scored = right is not None and labelled > 0
    return dataclasses.replace(
        row,
        device=measured.device,
        timing=measured.timing,
        measured_at=measured.started_at,
        threads=measured.threads,
        runs=len(measured.latencies_ns),
        correct=right,
        labelled=labelled,
        accuracy=right / labelled if right is not None and scored else None,
        accuracy_ci95=stats.wilson_interval(right, labelled) if right is not None and scored else None,
        samples=measured.total,
        fp32_agreement=None if row.recipe == FP32 else _share(measured.agree_fp32, measured.total),
        host_agreement=_share(measured.agreement_with_host, measured.total),
    )


def _with_latencies(row: ReportRow, measured: Measurement) -> ReportRow:
    """Add what a clock said; never called for an emulated row."""
    times = measured.latencies_ns
    return dataclasses.replace(
        row,
        p50_ms=percentile_ms(measured, 50),
        p90_ms=percentile_ms(measured, 90),
        p99_ms=percentile_ms(measured, 99),
        ci95_ms=interval_ms(measured, 50),
        p90_ci95_ms=interval_ms(measured, 90),
        p99_ci95_ms=interval_ms(measured, 99),
        load_ms=_ms(measured.load_ns),
        first_ms=_ms(measured.first_ns),
        cold_start_ms=_ms(measured.cold_start_ns),
        per_second=len(times) / sum(measured.spans_ns) * 1e9 if sum(measured.spans_ns) else None,
        steady_after=measured.steady_after,
        unfit=measured.unfit,
        threads_tried=tuple(
            ThreadsRow(threads=one.threads, p50_ms=statistics.median(one.latencies_ns) / 1e6) for one in measured.tried
        ),
    )


def _row_notes(what: Evidence, measured: Measurement, dropped: Drop) -> Iterator[str]:
    """What a reader of this row must know."""
    if not what.twin_is_newest:
        yield "compared with the fp32 row of its own session, not with the newer one shown"
    if dropped.unpaired:
        yield dropped.unpaired
    profile = profiles.reported(measured)
    if profile is not None and profile.missing:
        yield profile.missing
    if measured.throttled:
        yield "the device throttled while it was measured: its times are too long"
    others = {one.name for state in measured.states for one in state.busy if one.share >= BUSY_SHARE}
    if others and measured.timing != "emulated" and not measured.unfit:
        yield f"others were computing on the device ({', '.join(sorted(others))}): its times may be too long"
    yield from conditions.notes(measured)
    if measured.timing != "emulated" and 0 < len(measured.rounds) < stats.MIN_ROUNDS:
        yield f"{len(measured.rounds)} rounds: too few for an interval of the median"


def _with_verdicts(row: ReportRow, held: Sequence[Check]) -> ReportRow:
    """Each limit's outcome; a loser is marked whether or not there is a limit."""
    mine = [check for check in held if check.artifact == row.artifact and check.device in {None, row.device}]
    verdicts = [f"{one.limit}: {one.outcome}: {one.text}" for one in mine]
    if row.speedup_vs_fp32.verdict == "slower":
        verdicts.insert(0, "slower than its fp32 twin")
    return dataclasses.replace(row, verdicts=tuple(verdicts))


def _with_mark(row: ReportRow, decided: Decision) -> ReportRow:
    """The row with its mark, if it is what is recommended on its device."""
    named = {(one.device, one.artifact) for one in decided.recommendations}
    return dataclasses.replace(row, recommended=(row.device, row.artifact) in named)


def _in_order(rows: list[ReportRow], target: str) -> list[ReportRow]:
    """Clocks of the target first, one device after the other; within one, each runtime with fp32 before the rest."""
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    return sorted(
        rows,
        key=lambda row: (
            not tells_time(row.timing, target),
            _FOREIGN_LAST.index(row.timing),
            row.device or "",
            FORMATS.index(row.format),
            row.recipe != FP32,
            recipes.index(row.recipe),
        ),
    )


def _reported(build: str, manifest: Manifest, gathered: Gathered, decided: Decision) -> ReportedBuild:
    devices = {
        one.measured.device: ReportedDevice(
            name=one.measured.device, timing=one.measured.timing, facts=one.measured.device_facts
        )
        for one in gathered.evidence
        if one.measured is not None
    }
    return ReportedBuild(
        build=build,
        model=manifest.model,
        target=manifest.target,
        created_at=manifest.created_at,
        tools=manifest.tools,
        calibration=manifest.calibration,
        evaluation=manifest.evaluation,
        devices=tuple(devices.values()),
        cross_checks=manifest.cross_checks,
        decision=decided,
        searches=manifest.searches,
        speed_searches=manifest.speed_searches,
        measurable=manifest.measurable,
    )


def _share(part: int | None, total: int) -> float | None:
    return part / total if part is not None and total else None


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6
