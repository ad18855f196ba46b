"""What to ship on what evidence, what nobody can tell yet, and what would tell: the top of a report."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeq.records import Decision, OpenQuestion, ReportRow
from edgeq.stages.report import figures
from edgeq.stages.report.evidence import CHANCE, FP32, latency_ratio, tells_time
from edgeq.stages.report.limits import NEVER_SLOWER
from edgeq.stages.report.recommendation import recommend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Check, Manifest, Measurement, Recommendation
    from edgeq.stages.report.evidence import Evidence

ASSUMED_DROP_PP = 1.0
"""What "keeps its accuracy" means where the project sets no max_drop_pp; the report says so."""

A_BOARD = "ssh://USER@BOARD"

Accuracy = Literal["kept", "lost", "open"]
Speed = Literal["faster", "slower", "same", "open"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A quantized artifact and what its rows say of the two questions that matter.

    ``row`` is of a device that tells time if there is one; ``scored`` is
    the one with the most labelled samples.
    """

    row: ReportRow
    scored: ReportRow
    accuracy: Accuracy
    speed: Speed
    missed: tuple[str, ...]

    @property
    def unfit(self) -> str:
        """Why it is not to be used however fast it is, in words that follow its name; empty if nothing is wrong."""
        missed = [name for name in self.missed if name != NEVER_SLOWER]
        if missed:
            return f"misses {figures.listed(missed)}"
        return "loses accuracy" if self.accuracy == "lost" else ""


def decide(
    build: str, manifest: Manifest, rows: Sequence[ReportRow], checks: Sequence[Check], evidence: Sequence[Evidence]
) -> Decision:
    """The decision of one build: a headline, a sentence of evidence for each candidate, the open questions."""
    tolerance = _tolerance(manifest)
    candidates = [
        _candidate(artifact.name, rows, checks, manifest.target, tolerance)
        for artifact in manifest.artifacts
        if artifact.recipe != FP32
    ]
    unfit = {one.row.artifact: one.unfit for one in candidates if one.unfit}
    recommended = recommend(manifest, rows, evidence, unfit)
    return Decision(
        headline=_headline(candidates, manifest.target, recommended),
        evidence=tuple(_evidence(candidates, manifest, evidence)),
        open_questions=tuple(_open_questions(build, manifest, candidates, tolerance)),
        recommendations=recommended,
    )


def _tolerance(manifest: Manifest) -> float:
    limit = manifest.limits.max_drop_pp if manifest.limits else None
    return ASSUMED_DROP_PP if limit is None else limit


def _candidate(
    artifact: str, rows: Sequence[ReportRow], checks: Sequence[Check], target: str, tolerance: float
) -> Candidate:
    mine = [row for row in rows if row.artifact == artifact]
    timed = [row for row in mine if tells_time(row.timing, target)]
    scored = max(mine, key=lambda row: (row.drop_ci95_pp is not None, row.labelled))
    accuracy: Accuracy = "open"
    if scored.drop_pp is not None and scored.drop_ci95_pp is not None and scored.drop_p_value is not None:
        if scored.drop_ci95_pp[1] <= tolerance:
            accuracy = "kept"
        elif scored.drop_pp > tolerance and scored.drop_p_value <= CHANCE:
            accuracy = "lost"
    row = timed[0] if timed else scored
    verdict = row.speedup_vs_fp32.verdict
    return Candidate(
        row=row,
        scored=scored,
        accuracy=accuracy,
        speed="open" if verdict == "cannot tell" else verdict,
        missed=tuple(
            dict.fromkeys(one.limit for one in checks if one.artifact == artifact and one.outcome == "missed")
        ),
    )


def _headline(candidates: Sequence[Candidate], target: str, recommended: Sequence[Recommendation]) -> str:
    """The decision in one or two sentences; the strongest that the evidence allows, never more."""
    if not candidates:
        return "Nothing to decide: only fp32 artifacts were built."
    if all(one.row.device is None for one in candidates):
        return f"Nothing to decide yet: no quantized artifact was measured for {target}."
    fit = [one for one in candidates if not one.missed and one.accuracy != "lost"]
    if not fit:
        why = sorted({name for one in candidates for name in one.missed})
        return "Keep fp32: every quantized artifact " + (
            f"misses a limit ({', '.join(why)})." if why else "loses accuracy."
        )
    fastest = next((one for one in recommended if one.of_target and one.artifact is not None), None)
    if fastest is not None:
        best = next((one for one in fit if one.row.artifact == fastest.artifact), None)
        if best is None:
            return _keep(fastest, fit, target)
        if best.accuracy == "kept" and best.speed in {"faster", "same"}:
            return _ship(best, target)
    return _not_yet(fit, target)


def _keep(fastest: Recommendation, fit: Sequence[Candidate], target: str) -> str:
    """An fp32 file is the fastest of all."""
    if all(one.speed == "slower" for one in fit):
        accuracy = "int8 keeps its accuracy on" if all(one.accuracy == "kept" for one in fit) else "int8 is no gain on"
        return f"Keep fp32 where time matters: {accuracy} {target}, and is slower there."
    return f"Keep fp32 where time matters: {fastest.artifact} is faster on {target} than every int8 artifact."


def _ship(best: Candidate, target: str) -> str:
    row = best.row
    speed = row.speedup_vs_fp32
    gain = (
        f"{figures.ratio(speed.ratio)} as fast as its fp32 twin"
        if best.speed == "faster" and speed.ratio is not None
        else "as fast as its fp32 twin"
    )
    threads = f" with {figures.some(row.threads, 'thread')}" if row.threads else ""
    return f"Ship {row.artifact} on {target}{threads}: {gain}{_smaller(row.size_ratio)}, and its accuracy holds."


def _not_yet(fit: Sequence[Candidate], target: str) -> str:
    """Nothing speaks against int8, and something is still unknown."""
    kept = [one for one in fit if one.accuracy == "kept"]
    if kept:
        sizes = [one.row.size_ratio for one in kept if one.row.size_ratio]
        smaller = f" and is {figures.ratio(min(sizes))} smaller" if sizes and min(sizes) > 1 else ""
        return f"Int8 keeps its accuracy{smaller}. Whether it is faster on {target} is not known yet."
    return f"Not proven yet: nothing speaks against int8 on {target}, but too few samples were judged to rely on it."


def _evidence(candidates: Sequence[Candidate], manifest: Manifest, evidence: Sequence[Evidence]) -> Iterator[str]:
    """A sentence for each candidate, and the two formats against each other where clocks allow."""
    for one in candidates:
        if one.row.device is not None:
            yield f"{one.row.artifact}: {'; '.join(_facts(one, manifest.target))}."
    timed = {one.row.artifact: one for one in candidates if tells_time(one.row.timing, manifest.target)}
    measured: dict[str, Measurement] = {
        piece.artifact.name: piece.measured
        for piece in evidence
        if piece.measured is not None
        and piece.artifact.name in timed
        and piece.measured.device == timed[piece.artifact.name].row.device
    }
    names = sorted(measured, key=lambda name: timed[name].row.p50_ms or math.inf)
    for slower in names[1:]:
        against = latency_ratio(measured[slower], measured[names[0]])
        if against.ratio is not None and against.verdict != "cannot tell":
            yield (
                f"{names[0]} is {against.verdict if against.verdict != 'same' else 'as fast'} "
                f"{'as' if against.verdict == 'same' else 'than'} {slower} there: "
                f"{figures.ratio(against.ratio)}{figures.reach(against.low, against.high)}."
            )
    assumed = manifest.limits is None or manifest.limits.max_drop_pp is None
    if assumed and any(one.scored.drop_pp is not None for one in candidates):
        yield f"The project sets no max_drop_pp; {ASSUMED_DROP_PP:g} pp was taken for what may be lost."


def _facts(one: Candidate, target: str) -> Iterator[str]:
    row, scored = one.row, one.scored
    if one.missed:
        yield f"misses {', '.join(one.missed)}"
    if scored.accuracy is not None and scored.correct is not None:
        right = figures.of_total(scored.correct, scored.labelled)
        yield f"right on {right} labelled samples ({figures.percent(scored.accuracy, scored.labelled)})"
    if scored.drop_pp is not None:
        change = f"{figures.points(-scored.drop_pp, scored.labelled)} against fp32"
        if scored.drop_ci95_pp is not None and scored.drop_p_value is not None:
            low, high = scored.drop_ci95_pp
            reach = f"{figures.signed(-high, 2)} to {figures.signed(-low, 2)} pp"
            change += f" (95 %: {reach}, {figures.p_value(scored.drop_p_value)})"
        yield change
    if scored.fp32_agreement is not None:
        same = figures.of_total(round(scored.fp32_agreement * scored.samples), scored.samples)
        yield f"fp32's answer on {same} ({figures.percent(scored.fp32_agreement, scored.samples)})"
    if tells_time(row.timing, target) and row.speedup_vs_fp32.ratio is not None:
        speed = row.speedup_vs_fp32
        reach = figures.reach(speed.low, speed.high)
        yield f"{figures.ratio(speed.ratio or 0)} as fast as fp32{reach}: {speed.verdict}"
    if row.size_ratio is not None:
        yield figures.megabytes(row.size_bytes) + _smaller(row.size_ratio, " than fp32")


def _smaller(size_ratio: float | None, than: str = "") -> str:
    return f", {figures.ratio(size_ratio)} smaller{than}" if size_ratio is not None and size_ratio > 1 else ""


def _open_questions(
    build: str, manifest: Manifest, candidates: Sequence[Candidate], tolerance: float
) -> Iterator[OpenQuestion]:
    folder = shlex.quote(build)
    if any(one.row.device is None for one in candidates):
        device = "local" if manifest.target == "host" else "board"
        question = "Not every artifact was measured yet. This measures them:"
        yield OpenQuestion(question=question, commands=_on(device, folder))
    if manifest.target != "host" and any(not tells_time(one.row.timing, manifest.target) for one in candidates):
        yield OpenQuestion(
            question=f"Is int8 faster than fp32 on {manifest.target}? No clock of such a board was read. "
            "A real one would tell:",
            commands=_on(A_BOARD, folder),
        )
    for one in candidates:
        if tells_time(one.row.timing, manifest.target) and one.speed == "open":
            yield OpenQuestion(
                question=f"Is {one.row.artifact} faster than its fp32 twin? {one.row.speedup_vs_fp32.reason}.",
                commands=(
                    f"edgeq bench {folder} --device {shlex.quote(one.row.device or 'DEV')} --repeats 1000",
                    f"edgeq report {folder}",
                ),
            )
    yield from _accuracy_questions(candidates, tolerance)


def _accuracy_questions(candidates: Sequence[Candidate], tolerance: float) -> Iterator[OpenQuestion]:
    needed = [
        _samples_needed(one.scored, tolerance)
        for one in candidates
        if one.accuracy == "open" and one.scored.device is not None
    ]
    if not needed:
        return
    known = [number for number in needed if number is not None]
    size = f"About {figures.count(max(known))} labelled samples would." if known else "More labelled samples would."
    yield OpenQuestion(
        question=f"Does int8 stay within {tolerance:g} pp of fp32 beyond these samples? "
        f"They are too few to tell. {size}"
    )


def _samples_needed(row: ReportRow, tolerance: float) -> int | None:
    """How many samples put the upper end of the drop's interval at ``tolerance``, at today's drop and disagreement.

    Solves ``d + z sqrt(p / n) = tolerance`` for n, with p the share of
    samples that only one of the two got right, taken from the interval's
    own width; rounded up to two digits. None where today's drop leaves no room.
    """
    if row.drop_ci95_pp is None or row.drop_pp is None or not 0 <= row.drop_pp < tolerance:
        return None
    low, high = row.drop_ci95_pp
    half_now = (high - low) / 2
    needed = (row.labelled + 2) * (half_now / (tolerance - row.drop_pp)) ** 2
    digits = max(0, math.floor(math.log10(needed)) - 1)
    step = int(10**digits)
    return math.ceil(needed / step) * step


def _on(device: str, folder: str) -> tuple[str, ...]:
    where = shlex.quote(device)
    return (
        f"edgeq deploy {folder} --device {where}",
        f"edgeq bench {folder} --device {where}",
        f"edgeq report {folder}",
    )
