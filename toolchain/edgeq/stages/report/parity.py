"""Whether a build computes the same on every device: its record in tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.stages.parity.comparing import name_of
from edgeq.stages.parity.on_device import BUILD_MACHINE
from edgeq.stages.report import figures
from edgeq.stages.report.tables import Cell, Column, Table, Tone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Layer, LayerSearch, Parity, ParityDevice, ParityRow, ParityVerdict

_TONES: dict[ParityVerdict, Tone] = {"identical": "good", "within tolerance": "", "diverges": "bad", "failed": "bad"}
_NAMED = 3
_NOTHING = Cell(text=figures.NOTHING, tone="dim")


def tables_of(found: Parity | None) -> tuple[Table, ...]:
    """Devices by artifacts against the build machine, then devices against each other, then layers; none of None."""
    if found is None:
        return ()
    tables = (_against_the_build_machine(found), _against_each_other(found), _layers(found))
    return tuple(table for table in tables if table.rows)


def diverging(found: Parity) -> list[str]:
    """A sentence for each comparison that diverges, with its first diverging layer."""
    return [_sentence(row) for row in found.rows if row.verdict == "diverges"]


def outcomes(found: Parity | None) -> Iterator[tuple[str, bool, str]]:
    """What was compared, whether it is as it should be, and the evidence; a device that failed is one that is not."""
    if found is None:
        return
    for device in found.devices:
        if device.error:
            yield f"on {device.device}", False, f"{device.error}. {device.hint}".strip()
    for row in found.rows:
        what = f"{row.artifact} on {row.device} against {row.against}"
        if row.verdict in ("diverges", "failed"):
            yield what, False, _sentence(row)
        else:
            cell = _cell(row)
            yield what, True, ", ".join(part for part in (cell.text, cell.small) if part)


def _sentence(row: ParityRow) -> str:
    against = "" if row.against == BUILD_MACHINE else f" against {row.against}"
    layer = f"; {first_layer(row.search)}" if row.search is not None else ""
    return f"{row.artifact} on {row.device}{against}: {row.reason}{layer}"


def first_layer(search: LayerSearch) -> str:
    """Where two machines part, in a sentence."""
    compared = {one.layer.node: one for one in search.layers}
    if not search.layers:
        return search.notes[-1] if search.notes else "no layer could be looked at"
    if search.first_diverging:
        found = compared[search.first_diverging]
        said = f"the first diverging layer is {_called(found.layer)}, {_decibels(found.sqnr_db, found.identical)}"
    else:
        said = "no layer that was looked at diverges, so it is behind all of them"
    if search.between:
        said += f"; or one before it that could not be looked at: {', '.join(map(_called, search.between))}"
    if search.first_differing not in ("", search.first_diverging):
        differing = compared[search.first_differing]
        said += (
            f"; the first of those compared to differ at all is {_called(differing.layer)}, "
            f"{_decibels(differing.sqnr_db, differing.identical)}"
        )
    return said


def _called(layer: Layer) -> str:
    """What a person finds in the model: its module and line, else the node."""
    return layer.source or layer.module or f"{layer.node} ({layer.op})"


def _decibels(sqnr_db: float | None, identical: bool) -> str:  # noqa: FBT001  # both are fields of the record
    return "not finite" if sqnr_db is None and not identical else figures.decibels(sqnr_db, identical=identical)


def _against_the_build_machine(found: Parity) -> Table:
    rows = [row for row in found.rows if row.against == BUILD_MACHINE]
    artifacts = list(dict.fromkeys(row.artifact for row in rows))
    by_place = {(row.device, row.artifact): row for row in rows}
    return Table(
        title="The same on every device",
        columns=(
            Column(name="Device", numeric=False),
            *(Column(name=name.removeprefix(f"{found.model}."), numeric=False) for name in artifacts),
        ),
        rows=tuple(
            (
                Cell(
                    text=one.device,
                    small=f"{one.error}. {one.hint}".strip() if one.error else _kind(one),
                    tone="bad" if one.error else "",
                ),
                *(_cell(by_place.get((one.device, name))) for name in artifacts),
            )
            for one in found.devices
        ),
        note=f"Outputs for the golden input and {figures.some(len(found.samples), 'evaluation sample')}, held against "
        f"the build machine's, {figures.moment(found.created_at)}. SQNR is the worst; a step is the output's scale.",
    )


def _kind(device: ParityDevice) -> str:
    kind = {"hardware": "real board", "host": "this machine", "emulated": "emulated"}.get(device.timing or "", "")
    return f"{kind} ({device.facts.cpu})" if device.facts and device.facts.cpu else kind


def _cell(row: ParityRow | None) -> Cell:
    if row is None:
        return _NOTHING
    if row.verdict in ("identical", "failed"):
        return Cell(
            text="bit for bit" if row.verdict == "identical" else "failed", small=row.reason, tone=_TONES[row.verdict]
        )
    parts = [_decibels(row.worst_sqnr_db, identical=False)]
    if row.verdict == "diverges":
        parts.insert(0, "diverges,")
    small = [f"{figures.of_total(row.identical, row.samples)} bit for bit"] if row.identical else []
    if row.same_top1 is not None:
        small.append(f"top-1 {figures.of_total(row.same_top1, row.samples)}")
    if row.largest_difference_steps is not None:
        steps = figures.significant(row.largest_difference_steps, 2)
        small.append(f"at most {steps} steps")
    elif row.largest_difference is not None:
        small.append(f"at most {row.largest_difference:.1e}")
    return Cell(text=" ".join(parts), small=", ".join(small), tone=_TONES[row.verdict])


def _against_each_other(found: Parity) -> Table:
    pairs = [row for row in found.rows if row.against != BUILD_MACHINE]
    artifacts = list(dict.fromkeys(row.artifact for row in pairs))
    return Table(
        title="The devices against each other",
        columns=(
            Column(name="Artifact", numeric=False),
            Column(name="The same bit for bit", numeric=False),
            Column(name="Apart", numeric=False),
        ),
        rows=tuple(
            (
                Cell(text=name.removeprefix(f"{found.model}.")),
                Cell(text="; ".join(" = ".join(group) for group in _alike(own)) or figures.NOTHING),
                Cell(
                    text=_apart(own),
                    tone="bad" if any(row.verdict == "diverges" for row in own) else "",
                ),
            )
            for name in artifacts
            if (own := [row for row in pairs if row.artifact == name])
        ),
    )


def _alike(pairs: Sequence[ParityRow]) -> Iterator[list[str]]:
    """Groups of two devices or more whose outputs are the same."""
    same = {frozenset((row.device, row.against)) for row in pairs if row.verdict == "identical"}
    left = list(dict.fromkeys(name for row in pairs for name in (row.against, row.device)))
    while left:
        first = left.pop(0)
        others = [name for name in left if frozenset((first, name)) in same]
        left = [name for name in left if name not in others]
        if others:
            yield [first, *others]


def _apart(pairs: Sequence[ParityRow]) -> str:
    """The pair that is furthest apart."""
    apart = [row for row in pairs if row.verdict != "identical"]
    if not apart:
        return figures.NOTHING
    worst = min(apart, key=lambda row: float("-inf") if row.worst_sqnr_db is None else row.worst_sqnr_db)
    said = f"{worst.against} and {worst.device}: {_decibels(worst.worst_sqnr_db, identical=False)}"
    return said if len(apart) == 1 else f"at most, {said}"


def _layers(found: Parity) -> Table:
    searched = [row for row in found.rows if row.search is not None]
    return Table(
        title="Where they part",
        columns=(
            Column(name="Artifact", numeric=False),
            Column(name="Device", numeric=False),
            Column(name="Layer", numeric=False),
        ),
        rows=tuple(
            (
                Cell(text=row.artifact.removeprefix(f"{found.model}.")),
                Cell(text=row.device),
                Cell(text=first_layer(row.search), small=_evidence(row.search)),
            )
            for row in searched
            if row.search is not None
        ),
    )


def _evidence(search: LayerSearch) -> str:
    """How many layers were compared, which were not, and what was not done."""
    parts = [f"{figures.some(len(search.layers), 'layer')} compared on {name_of(search.sample)}"]
    if search.not_probed:
        names = [one.layer.module or one.layer.node for one in search.not_probed]
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        parts.append(f"not looked at on their own: {shown}")
    return "; ".join([*parts, *(search.notes if search.layers else ())])
