"""What a search for a recipe tried, as a table, and whether it kept the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.records import Check
from edgeq.stages.report import figures
from edgeq.stages.report.tables import Cell, Column, Table, Tone

if TYPE_CHECKING:
    from edgeq.records import Manifest, ReportedBuild, Search, SpeedSearch, SpeedTrial, Trial

_COLUMNS = (
    Column(name="Tried", numeric=False),
    Column(name="Drop"),
    Column(name="As fp32"),
    Column(name="SQNR"),
    Column(name="In int8"),
    Column(name="File size"),
    Column(name="Time"),
)
_OUTCOMES: dict[str, Tone] = {"met": "good", "missed": "", "skipped": "dim", "failed": "bad"}
_NOTHING = Cell(text=figures.NOTHING, tone="dim")


def table(search: Search) -> Table:
    """A row for each trial, in the order they were made."""
    return Table(
        title=f"Search for {search.name}",
        columns=_COLUMNS,
        rows=tuple(_row(trial) for trial in search.trials),
        note=f"The budget is {search.max_drop_pp:g} pp against fp32 on the same samples, judged on the "
        f".{search.format} in its runtime on the build machine: {search.reason}.",
    )


_SPEED_COLUMNS = (
    Column(name="Considered", numeric=False),
    Column(name="In float"),
    Column(name="Predicted"),
    Column(name="Median"),
    Column(name="Over fp32"),
    Column(name="Over int8-static"),
)


def tables_of(build: ReportedBuild) -> tuple[Table, ...]:
    """One for each search of a build."""
    return (*map(table, build.searches), *map(speed_table, build.speed_searches))


def speed_table(search: SpeedSearch) -> Table:
    """A row for each artifact that a search for the fastest considered, the twins included."""
    return Table(
        title=f"Search for {search.name}, .{search.format}, by times on {search.device}",
        columns=_SPEED_COLUMNS,
        rows=tuple(_speed_row(trial, len(search.costs)) for trial in search.trials),
        note=f"{search.reason}. Predicted is the sum of what was measured of the operations that may be int8 and of "
        "the conversions between them; the median is of whole inferences.",
    )


def _speed_row(trial: SpeedTrial, operations: int) -> tuple[Cell, ...]:
    kept = operations if trial.recipe == "fp32" else len(trial.float_nodes)
    return (
        Cell(text=trial.recipe, small=trial.why),
        Cell(text=f"{kept} of {operations}"),
        _NOTHING if trial.predicted_ns is None else Cell(text=figures.ms(trial.predicted_ns / 1e6)),
        _NOTHING if trial.median_ns is None else Cell(text=figures.ms(trial.median_ns / 1e6)),
        _over(trial.over_fp32),
        _over(trial.over_int8),
    )


def _over(ratio: tuple[float, float, float] | None) -> Cell:
    if ratio is None:
        return _NOTHING
    middle, low, high = ratio
    return Cell(text=figures.ratio(middle), small=f"{figures.ratio(low)} to {figures.ratio(high)}")


def checks(build: str, manifest: Manifest) -> tuple[Check, ...]:
    """Whether each search found what keeps the budget on its samples.

    One that did not is a miss, for which a build exits, also where its own
    outcome is "cannot tell": it was to find a recipe, and found none.
    """
    return tuple(
        Check(
            build=build,
            artifact=f"{manifest.model}.{search.name}",
            device=None,
            limit="max_drop_pp",
            outcome="met" if search.outcome == "met" else "missed",
            text=search.reason,
        )
        for search in manifest.searches
    )


def _row(trial: Trial) -> tuple[Cell, ...]:
    tried = Cell(
        text=trial.recipe,
        small=f"{trial.why}; {trial.error}" if trial.error else trial.why,
        tone=_OUTCOMES[trial.outcome],
    )
    if trial.drop_pp is None or trial.int8_mac_share is None or trial.size_bytes is None:
        return (tried, *(_NOTHING for _ in _COLUMNS[1:]))
    return (
        tried,
        Cell(text=figures.points(trial.drop_pp, trial.labelled), tone=_OUTCOMES[trial.outcome]),
        Cell(text=figures.percent((trial.agree or 0) / trial.total, trial.total)),
        Cell(text=figures.decibels(trial.sqnr_db, identical=trial.identical)),
        Cell(text=figures.percent(trial.int8_mac_share)),
        Cell(text=figures.megabytes(trial.size_bytes)),
        Cell(text=f"{trial.seconds:.0f}\u00a0s", small="from the journal" if trial.resumed else ""),
    )
