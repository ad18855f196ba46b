"""The outcomes of a check in one list, whether they are of a limit or of a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.stages.report import figures
from edgeq.stages.report.tables import Cell, Column, Table, Tone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Change, Check, CheckResult

_ORDER = ("missed", "worse", "cannot tell", "better", "same", "met")
"""Worst first."""

_TONES: dict[str, Tone] = {
    "missed": "bad",
    "worse": "bad",
    "cannot tell": "open",
    "better": "good",
    "same": "dim",
    "met": "good",
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One outcome: of the limit or the figure ``what``, of an artifact, perhaps on a device."""

    outcome: str
    what: str
    artifact: str
    device: str | None
    text: str

    @property
    def where(self) -> str:
        """The artifact, and the device where that matters."""
        return f"{self.artifact} on {self.device}" if self.device else self.artifact

    def fails(self, *, strict: bool) -> bool:
        """Whether a check with this outcome has failed."""
        return self.outcome in {"missed", "worse"} or (strict and self.outcome == "cannot tell")


def items(limits: Sequence[Check], changes: Sequence[Change]) -> tuple[Item, ...]:
    """All of them, worst first; of one outcome, in the order of the build."""
    found = [
        Item(outcome=one.outcome, what=one.limit, artifact=one.artifact, device=one.device, text=one.text)
        for one in limits
    ]
    found += [
        Item(outcome=one.outcome, what=one.figure, artifact=one.artifact, device=one.device, text=one.text)
        for one in changes
    ]
    return tuple(sorted(found, key=lambda item: _ORDER.index(item.outcome)))


def failures(limits: Sequence[Check], changes: Sequence[Change], *, strict: bool) -> tuple[str, ...]:
    """The evidence of each that fails, a sentence each."""
    return tuple(
        f"{item.outcome}: {item.what}, {item.where}: {item.text}"
        for item in items(limits, changes)
        if item.fails(strict=strict)
    )


def parted(found: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """What a person should look at, and what is as it should be."""
    fine = {"same", "met"}
    return [item for item in found if item.outcome not in fine], [item for item in found if item.outcome in fine]


def headline(result: CheckResult) -> str:
    """Passed or failed, and how many outcomes there are of each kind."""
    found = items(result.limits, result.changes)
    counts = [(name, sum(item.outcome == name for item in found)) for name in _ORDER]
    told = ", ".join(f"{figures.count(count)} {name}" for name, count in counts if count)
    strict = ", strict" if result.strict else ""
    return f"{'passed' if result.passed else 'failed'}{strict}: {told or 'nothing was held against anything'}"


def table(title: str, shown: Sequence[Item]) -> Table:
    """Outcomes as a table."""
    names = ("Outcome", "What", "Artifact", "Evidence")
    return Table(
        title=title,
        columns=tuple(Column(name=name, numeric=False) for name in names),
        rows=tuple(
            (
                Cell(text=item.outcome, tone=_TONES[item.outcome]),
                Cell(text=item.what),
                Cell(text=item.artifact, small=item.device or ""),
                Cell(text=item.text),
            )
            for item in shown
        ),
    )
