"""What a build and its rows show beside their own figures, and what was left out: sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.stages.report import figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Manifest, ReportRow
    from edgeq.stages.report.evidence import Gathered

SAME_GRAPH = 0.995
"""Two runtimes that run one graph should give the same top-1 at least this often."""

SAME_ON_DEVICE = 0.999
"""One runtime on two machines should give the same top-1 at least this often."""


def of_build(manifest: Manifest, rows: Sequence[ReportRow]) -> Iterator[str]:
    """What the build found, and what the rows show beside their own figures."""
    yield from manifest.findings
    for check in manifest.cross_checks:
        if check.total and check.agree / check.total < SAME_GRAPH:
            yield (
                f"{manifest.model}, {check.recipe}: the two formats give the same top-1 on only "
                f"{figures.of_total(check.agree, check.total)} samples, though they come from one graph"
            )
    for row in rows:
        if row.host_agreement is not None and row.host_agreement < SAME_ON_DEVICE:
            yield (
                f"{row.artifact} on {row.device}: top-1 equals the build machine's on only "
                f"{figures.of_total(round(row.host_agreement * row.samples), row.samples)} samples"
            )


def left_out(build: str, gathered: Gathered) -> Iterator[str]:
    """How many rows of a build are not shown, and why."""
    if gathered.unsound:
        yield f"{build}: {gathered.unsound} row(s) of measurements.jsonl contradict themselves and are left out"
    if gathered.stale:
        yield (
            f"{build}: {gathered.stale} row(s) of measurements.jsonl are of files that are no longer in the build "
            "(another sha256) and are left out"
        )
    if gathered.older:
        yield f"{build}: {gathered.older} older row(s) of the same files are left out; the newest ones are shown"
