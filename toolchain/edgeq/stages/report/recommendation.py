"""The fastest artifact of a build on each device: runtime x precision x threads, where a clock can tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeq.records import Recommendation
from edgeq.stages.report import figures
from edgeq.stages.report.evidence import WITHOUT_A_BOARD, latency_ratio, tells_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edgeq.records import Manifest, Measurement, ReportRow, Timing
    from edgeq.stages.report.evidence import Evidence


def recommend(
    manifest: Manifest, rows: Sequence[ReportRow], evidence: Sequence[Evidence], unfit: Mapping[str, str]
) -> tuple[Recommendation, ...]:
    """One for each device of ``rows``, in their order.

    ``unfit`` says why an artifact is not to be used however fast it is, in
    words that follow its name. The median of the one that is named is the
    least of all others: of fp32 files and of the other runtime's as well.
    """
    measured = {(one.measured.device, one.artifact.name): one.measured for one in evidence if one.measured is not None}
    by_device: dict[str, list[ReportRow]] = {}
    for row in rows:
        if row.device is not None:
            by_device.setdefault(row.device, []).append(row)
    return tuple(_on(device, mine, manifest, measured, unfit) for device, mine in by_device.items())


def _on(
    device: str,
    rows: Sequence[ReportRow],
    manifest: Manifest,
    measured: Mapping[tuple[str, str], Measurement],
    unfit: Mapping[str, str],
) -> Recommendation:
    timing = rows[0].timing or "emulated"
    if timing == "emulated":
        why = "; ".join((f"{WITHOUT_A_BOARD}: an emulator's clock says nothing of one", *_by_instructions(rows)))
        return _nothing(device, timing, manifest.target, why)
    fit = [row for row in rows if row.artifact not in unfit and row.p50_ms is not None]
    if not fit:
        return _nothing(device, timing, manifest.target, "nothing that was measured there is fit to be used")
    missing = {one.name for one in manifest.artifacts} - {row.artifact for row in rows} - set(unfit)
    sessions = {measured[device, row.artifact].session for row in fit}
    if missing or len(sessions) > 1:
        apart = f"{min(missing)} was not measured there" if missing else "measured in different sessions"
        return _nothing(device, timing, manifest.target, f"cannot tell: {apart}; measure all in one run of edgeq bench")
    ranked = sorted(fit, key=lambda row: row.p50_ms or math.inf)
    best = ranked[0]
    why = "; ".join(_why(device, ranked, rows, measured, unfit))
    if not tells_time(timing, manifest.target):
        why = f"by the clock of {_whose(device)}, which is not {manifest.target}'s: {why}"
    return Recommendation(
        device=device,
        timing=timing,
        of_target=tells_time(timing, manifest.target),
        artifact=best.artifact,
        runtime="executorch" if best.format == "pte" else "onnxruntime",
        recipe=best.recipe,
        threads=best.threads,
        p50_ms=best.p50_ms,
        reason=why,
    )


def _why(
    device: str,
    ranked: Sequence[ReportRow],
    rows: Sequence[ReportRow],
    measured: Mapping[tuple[str, str], Measurement],
    unfit: Mapping[str, str],
) -> Iterator[str]:
    """The distance to the next, and what is faster and was passed over."""
    best = ranked[0]
    if len(ranked) == 1:
        yield "nothing else there is fit to be used"
    else:
        following = ranked[1]
        distance = latency_ratio(measured[device, following.artifact], measured[device, best.artifact])
        if distance.verdict == "faster" and distance.ratio is not None:
            reach = figures.reach(distance.low, distance.high)
            yield f"{figures.ratio(distance.ratio)} as fast as {following.artifact}, the next{reach}"
        elif distance.verdict == "same":
            yield f"as fast as {following.artifact}, the next"
        else:
            yield f"before {following.artifact} by its median, though the difference may be chance"
    for row in rows:
        if row.artifact in unfit and row.p50_ms is not None and best.p50_ms is not None and row.p50_ms < best.p50_ms:
            yield f"{row.artifact} is faster and {unfit[row.artifact]}"


def _by_instructions(rows: Sequence[ReportRow]) -> Iterator[str]:
    """The order of the files of one recipe: of one precision, so that instructions may rank them."""
    recipes: dict[str, list[ReportRow]] = {}
    for row in rows:
        if row.instructions is not None:
            recipes.setdefault(row.recipe, []).append(row)
    for recipe, mine in recipes.items():
        if len(mine) > 1:
            least, most = (pick(mine, key=lambda row: row.instructions or 0) for pick in (min, max))
            yield (
                f"of the {recipe} files {least.artifact} retires the fewest instructions "
                f"({figures.millions(least.instructions or 0)}; the other {figures.millions(most.instructions or 0)})"
            )


def _whose(device: str) -> str:
    return "this machine" if device == "local" else device


def _nothing(device: str, timing: Timing, target: str, reason: str) -> Recommendation:
    return Recommendation(
        device=device,
        timing=timing,
        of_target=tells_time(timing, target),
        artifact=None,
        runtime=None,
        recipe=None,
        threads=None,
        p50_ms=None,
        reason=reason,
    )
