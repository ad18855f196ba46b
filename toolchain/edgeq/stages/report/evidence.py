"""Which measurement stands for an artifact on a device, and its twin's that it may be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeq import stats
from edgeq.evaluation import UNLABELLED, subset
from edgeq.paired_stats import class_changes, samples_to_find
from edgeq.records import Artifact, ClassChanges, Measurement, SamplesNeeded, Speedup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgeq.records import Manifest, Timing

FP32 = "fp32"
"""The recipe that every other one is compared with."""

CHANCE = 0.05
"""What has a larger p-value than this may be chance."""

WORST_CLASSES = 5
"""So many of the classes that lose right answers are named."""

WITHOUT_A_BOARD = "cannot tell without a board"

AN_EMULATOR = "measured on an emulator, whose clock says nothing about a board"

BENCH_TOGETHER = "measure both in one run of edgeq bench"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """An artifact on a device, and the fp32 artifact of the same format there; None is not measured.

    ``twin_is_newest`` says whether the twin's row is the one that the
    report shows for it.
    """

    artifact: Artifact
    measured: Measurement | None
    twin: Artifact | None
    twin_measured: Measurement | None
    twin_is_newest: bool

    @property
    def is_twin(self) -> bool:
        """Whether this is the fp32 artifact itself."""
        return self.artifact.recipe == FP32


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The evidence of one build, and how many rows were left out and why."""

    evidence: tuple[Evidence, ...]
    unsound: int
    stale: int
    older: int


def gather(manifest: Manifest, measurements: Sequence[Measurement]) -> Gathered:
    """One piece of evidence for each artifact and device, the newest row of the file that the manifest names.

    An artifact that was measured nowhere has one piece without a
    measurement. Rows of another sha256 are stale: they are of a file that
    is no longer in the build. Rows that contradict themselves are unsound.
    Those of inferences at another pace are no evidence of how fast it is.
    """
    artifacts = {artifact.name: artifact for artifact in manifest.artifacts}
    sound = [row for row in measurements if is_sound(row)]
    of_the_files = [row for row in sound if is_current(row, artifacts)]
    current = [row for row in of_the_files if row.mode == "back-to-back"]
    newest: dict[tuple[str, str], Measurement] = {}
    for row in sorted(current, key=lambda row: row.started_at):
        newest[row.artifact, row.device] = row
    devices = list(dict.fromkeys(row.device for row in newest.values()))
    evidence = [
        _evidence(artifact, device, artifacts.values(), newest, current)
        for device in devices
        for artifact in manifest.artifacts
        if (artifact.name, device) in newest
    ]
    seen = {name for name, _ in newest}
    evidence += [
        _evidence(artifact, None, artifacts.values(), newest, current)
        for artifact in manifest.artifacts
        if artifact.name not in seen
    ]
    return Gathered(
        evidence=tuple(evidence),
        unsound=len(measurements) - len(sound),
        stale=len(sound) - len(of_the_files),
        older=len(current) - len(newest),
    )


def tells_time(timing: Timing | None, target: str) -> bool:
    """Whether that clock is the target's own: a real board's, or this machine's when it is the target."""
    return timing == "hardware" or (timing == "host" and target == "host")


def speedup(what: Evidence) -> Speedup:
    """How much faster the artifact is than its twin, if its measurements can tell at all."""
    measured, twin = what.measured, what.twin_measured
    if measured is None:
        return _cannot_tell("not measured yet")
    if measured.timing == "emulated":
        return _cannot_tell(AN_EMULATOR)
    if what.is_twin:
        return Speedup(ratio=None, low=None, high=None, verdict="same", reason="this is the fp32 twin itself")
    if twin is None:
        return _cannot_tell(f"its fp32 twin was not measured there; {BENCH_TOGETHER}")
    return latency_ratio(twin, measured)


def latency_ratio(reference: Measurement, candidate: Measurement) -> Speedup:
    """Latency of ``reference`` over that of ``candidate``; "cannot tell" unless both were measured alike, in turn.

    Both have one number of threads, or each the one of those it was tried with that is its fastest.
    """
    if "emulated" in (reference.timing, candidate.timing) or reference.timing != candidate.timing:
        return _cannot_tell(f"clocks of different kinds: {reference.timing} and {candidate.timing}")
    if (reference.device, reference.session) != (candidate.device, candidate.session):
        return _cannot_tell(f"measured in different sessions; {BENCH_TOGETHER}")
    if reference.threads != candidate.threads and not (reference.tried and candidate.tried):
        return _cannot_tell(f"measured with {reference.threads} and {candidate.threads} threads")
    if len(reference.rounds) != len(candidate.rounds) or not reference.rounds:
        return _cannot_tell(f"not measured in turn; {BENCH_TOGETHER}")
    found = stats.median_ratio(
        stats.split_rounds(reference.latencies_ns, reference.rounds),
        stats.split_rounds(candidate.latencies_ns, candidate.rounds),
    )
    reason = why_no_verdict(found, rounds=len(reference.rounds))
    return Speedup(ratio=found.ratio, low=found.low, high=found.high, verdict=found.verdict, reason=reason)


def why_no_verdict(found: stats.MedianRatio, *, rounds: int) -> str:
    """Why nothing can be told by a ratio of so many rounds; nothing if something can."""
    if found.low is None or found.high is None:
        return f"{rounds} rounds are too few for an interval; {stats.MIN_ROUNDS} are needed"
    if found.verdict != "cannot tell":
        return ""
    if found.low > 1 or found.high < 1:
        return "the interval lies on one side of 1, but no further than that of five in a hundred equal pairs"
    return "the interval reaches to both sides of 1, and too far for the same"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Labelled samples in the order of the evaluation set: the class of each and whether it was right.

    Both have the shape (labelled,).
    """

    labels: NDArray[np.int64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> Judged:
        """Hold ``predictions`` against ``labels`` where there is one; both of shape (samples,)."""
        labelled = labels != UNLABELLED
        return cls(labels=labels[labelled], right=(predictions == labels)[labelled])


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a build's evaluation set, or why there are none to compare with."""

    values: NDArray[np.int64] | None
    missing: str = ""

    @classmethod
    def of(cls, build: Path, manifest: Manifest) -> Labels:
        """Read the labels that the manifest names."""
        evaluation = manifest.evaluation
        if evaluation.metric != "top1":
            return cls(
                values=None, missing=f"the metric is {evaluation.metric!r}, which is not paired sample by sample"
            )
        if evaluation.labels is None:
            return cls(values=None, missing="the evaluation set has no labels")
        try:
            values = np.load(build / evaluation.labels, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            return cls(values=None, missing=f"{evaluation.labels} cannot be read ({error})")
        return cls(values=values)

    def judge(self, measured: Measurement) -> Judged | None:
        """Whether each labelled sample was right; None where labels and measurement do not fit each other."""
        if self.values is None or not measured.predictions or len(measured.predictions) > len(self.values):
            return None
        labels = self.values[subset(self.values, len(self.values), len(measured.predictions))]
        judged = Judged.of(np.asarray(measured.predictions), labels)
        fits = int(judged.right.sum()) == measured.correct and judged.right.size == measured.labelled
        return judged if fits else None


@dataclass(frozen=True, kw_only=True)
class Drop:
    """The drop of an artifact against its twin, paired where possible; ``unpaired`` says why not.

    ``differing`` is the share of samples that only one of the two got right,
    with half a sample more in each of the four cases, as in the interval:
    where few were judged, none that differ is no proof of none.
    """

    drop_pp: float | None = None
    interval_pp: tuple[float, float] | None = None
    p_value: float | None = None
    differing: float | None = None
    class_changes: ClassChanges | None = None
    unpaired: str = ""


def drop(what: Evidence, labels: Labels) -> Drop:
    """How much worse the artifact scores than its twin on the same samples of the same device."""
    measured, twin = what.measured, what.twin_measured
    if what.is_twin or measured is None or measured.correct is None:
        return Drop()
    if twin is None or twin.correct is None:
        return Drop(unpaired="no drop: its fp32 twin was not measured on this device")
    if (twin.total, twin.labelled) != (measured.total, measured.labelled) or not measured.labelled:
        return Drop(unpaired=f"no drop: its fp32 twin ran {twin.total} samples and this {measured.total}")
    reference, candidate = labels.judge(twin), labels.judge(measured)
    if reference is None or candidate is None:
        why = labels.missing or "the labels do not fit the predictions in the measurements"
        return Drop(
            drop_pp=100 * (twin.correct - measured.correct) / measured.labelled,
            unpaired=f"no interval and no p-value of the drop: {why}",
        )
    return paired_drop(reference, candidate)


def paired_drop(reference: Judged, candidate: Judged) -> Drop:
    """The drop between two judgements of the same samples, as a whole and class by class."""
    paired = stats.paired_drop(reference.right, candidate.right)
    changes = class_changes(reference.right, candidate.right, reference.labels)
    worse = tuple(one for one in changes if one.lost > one.gained)
    return Drop(
        drop_pp=paired.drop_pp,
        interval_pp=(paired.low_pp, paired.high_pp),
        p_value=paired.p_value,
        differing=(paired.lost + paired.gained + 1) / (reference.right.size + 2),
        class_changes=ClassChanges(
            classes=len(np.unique(reference.labels)),
            worse=len(worse),
            significant=sum(one.p_value <= CHANCE for one in worse),
            worst=worse[:WORST_CLASSES],
        ),
    )


def samples_needed(dropped: Drop, limit_pp: float) -> SamplesNeeded | None:
    """How many samples a drop of ``limit_pp`` takes to be seen; None without a paired drop, or for no drop at all."""
    if dropped.differing is None:
        return None
    at_best = stats.samples_to_show(limit_pp)
    usually = samples_to_find(limit_pp, differing=dropped.differing)
    if at_best is None or usually is None:
        return None
    return SamplesNeeded(drop_pp=limit_pp, at_best=at_best, usually=usually, differing=dropped.differing)


def is_sound(row: Measurement) -> bool:
    """Whether its counts and times can be true together: a row may have been edited by hand."""
    counts = (row.correct, row.agree_fp32, row.agreement_with_host)
    return (
        sum(row.rounds) == len(row.latencies_ns)
        and min(row.rounds, default=1) > 0
        and min(row.latencies_ns, default=1) > 0
        and 0 <= row.labelled <= row.total
        and all(0 <= part <= row.total for part in counts if part is not None)
        and (row.correct is None or row.correct <= row.labelled)
    )


def is_current(row: Measurement, artifacts: dict[str, Artifact]) -> bool:
    """Whether a row is of a file that the build holds now."""
    return row.artifact in artifacts and artifacts[row.artifact].sha256 == row.artifact_sha256


def _evidence(
    artifact: Artifact,
    device: str | None,
    artifacts: Iterable[Artifact],
    newest: dict[tuple[str, str], Measurement],
    current: Sequence[Measurement],
) -> Evidence:
    """The twin's row of the same session if there is one, else its newest there: good for accuracy, not for time."""
    twin = next((one for one in artifacts if one.format == artifact.format and one.recipe == FP32), None)
    measured = newest.get((artifact.name, device)) if device else None
    twin_measured = newest_twin = None
    if twin and measured:
        newest_twin = newest.get((twin.name, measured.device))
        key = (twin.name, measured.device, measured.session)
        beside = [row for row in current if (row.artifact, row.device, row.session) == key]
        twin_measured = beside[-1] if beside else newest_twin
    return Evidence(
        artifact=artifact,
        measured=measured,
        twin=twin,
        twin_measured=twin_measured,
        twin_is_newest=twin_measured is newest_twin,
    )


def _cannot_tell(reason: str) -> Speedup:
    return Speedup(ratio=None, low=None, high=None, verdict="cannot tell", reason=reason)
