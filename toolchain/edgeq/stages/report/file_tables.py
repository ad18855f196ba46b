"""The tables of what a file alone decides: the same on every device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.stages.report import figures, unmeasured
from edgeq.stages.report.evidence import FP32
from edgeq.stages.report.tables import NOTHING, Cell, Column, Table, artifact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import CrossCheck, ReportRow, Undelegated


def coverage(rows: Sequence[ReportRow]) -> Table:
    """What of the arithmetic is in int8 and what the accelerated kernels took."""
    return Table(
        title="What runs in int8",
        columns=(
            Column(name="Artifact", numeric=False),
            Column(name="MACs"),
            Column(name="In int8"),
            Column(name="Delegated"),
            Column(name="Partitions"),
            Column(name="Nodes not delegated"),
        ),
        rows=tuple(
            (
                artifact(row),
                Cell(text=figures.millions(row.macs)),
                Cell(text=figures.percent(row.int8_mac_share)),
                Cell(text=figures.percent(row.delegated_mac_share)),
                Cell(text=figures.count(row.partitions)),
                Cell(text=figures.count(len(row.undelegated))),
            )
            for row in _once(rows)
        ),
    )


def undelegated(rows: Sequence[ReportRow]) -> Table:
    """Nodes outside the accelerated kernels, those of one operator and reason together."""
    found: list[tuple[Cell, ...]] = []
    for row in _once(rows):
        groups: dict[tuple[str, str], list[Undelegated]] = {}
        for node in row.undelegated:
            groups.setdefault((node.op, node.reason), []).append(node)
        for (op, reason), nodes in sorted(groups.items(), key=lambda item: -sum(node.mac_share for node in item[1])):
            found.append(
                (
                    artifact(row),
                    Cell(text=op, small=nodes[0].source or nodes[0].node),
                    Cell(text=figures.count(len(nodes))),
                    Cell(text=figures.percent(sum(node.mac_share for node in nodes))),
                    Cell(text=reason),
                )
            )
    return Table(
        title="Not delegated, and why",
        columns=(
            Column(name="Artifact", numeric=False),
            Column(name="Operator", numeric=False),
            Column(name="Nodes"),
            Column(name="Share of MACs"),
            Column(name="Reason", numeric=False),
        ),
        rows=tuple(found),
    )


def estimates(rows: Sequence[ReportRow]) -> Iterator[Table]:
    """What Vela expects of those that an NPU runs."""
    return unmeasured.estimates([(artifact(row), row.estimate) for row in _once(rows) if row.estimate is not None])


def host_scores(rows: Sequence[ReportRow]) -> Table:
    """What each artifact did in its own runtime on the build machine, or what stood in for it."""
    scored = list(dict.fromkeys(row.host.scored for row in rows if row.host.scored))
    what = (
        f"Scored was {figures.listed(scored)}, "
        if scored
        else "Each artifact in its own runtime on the machine that built it, "
    )
    return Table(
        title="On the build machine",
        columns=(
            Column(name="Artifact", numeric=False),
            Column(name="Accuracy"),
            Column(name="Same answer as fp32"),
            Column(name="SQNR against fp32"),
        ),
        rows=tuple((artifact(row), *_host(row)) for row in _once(rows)),
        note=f"{what}over the whole evaluation set. "
        "SQNR is the signal-to-noise ratio of its outputs against those of its fp32 twin.",
    )


def cross_checks(checks: Sequence[CrossCheck]) -> Table:
    """The formats of one recipe against each other."""
    return Table(
        title="The two formats against each other",
        columns=(Column(name="Recipe", numeric=False), Column(name="Same answer"), Column(name="SQNR")),
        rows=tuple(
            (
                Cell(text=check.recipe),
                Cell(
                    text=figures.percent(check.agree / check.total, check.total) if check.total else figures.NOTHING,
                    small=figures.of_total(check.agree, check.total),
                ),
                Cell(text=figures.decibels(check.sqnr_db, identical=check.identical)),
            )
            for check in checks
        ),
        note="Both come from one quantized graph; on the build machine.",
    )


def _once(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """One row for each artifact: what the file alone decides is the same on every device."""
    return list({row.artifact: row for row in rows}.values())


def _host(row: ReportRow) -> tuple[Cell, Cell, Cell]:
    host = row.host
    right = NOTHING
    if host.correct is not None and host.labelled:
        right = Cell(
            text=figures.percent(host.correct / host.labelled, host.labelled),
            small=figures.of_total(host.correct, host.labelled),
        )
    if row.recipe == FP32:
        reference = Cell(text="reference", tone="dim")
        return right, reference, reference
    agree = NOTHING
    if host.agree is not None and host.total:
        agree = Cell(
            text=figures.percent(host.agree / host.total, host.total), small=figures.of_total(host.agree, host.total)
        )
    return right, agree, Cell(text=figures.decibels(host.sqnr_db, identical=host.identical))
