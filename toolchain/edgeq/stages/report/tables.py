"""The tables of a report, laid out once: markdown, html and the terminal draw the same cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edgeq.stages.report import figures
from edgeq.stages.report.evidence import FP32, tells_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import (
        Check,
        PacedRow,
        Recommendation,
        Report,
        ReportedBuild,
        ReportedDevice,
        ReportRow,
    )

Tone = Literal["", "good", "bad", "open", "dim"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's heading; ``numeric`` ones are aligned to the right."""

    name: str
    numeric: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure, and in small what belongs to it: an interval, a count."""

    text: str
    small: str = ""
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under columns; ``note`` is a sentence below."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


NOTHING = Cell(text=figures.NOTHING, tone="dim")
_OUTCOMES: dict[str, Tone] = {"met": "good", "missed": "bad", "cannot tell": "open"}
_GROWS: dict[str, Tone] = {"grows": "bad", "does not grow": "good", "cannot tell": "open"}
_VERDICTS: dict[str, Tone] = {"faster": "good", "slower": "bad", "same": "", "cannot tell": "open"}


def device_heading(device: ReportedDevice | None, build: ReportedBuild) -> str:
    """Whose figures follow, and what kind of machine it is."""
    if device is None:
        return "Not measured yet" if build.measurable else f"Not measured: {build.target} runs no Linux"
    facts = device.facts
    kind = {"hardware": "real board", "host": "this machine", "emulated": "emulated"}[device.timing]
    called = facts.cpu if device.timing == "emulated" else facts.model or facts.cpu
    return f"{device.name}: {kind}" + (f" ({called})" if called else "")


def accuracy(rows: Sequence[ReportRow], labelled: str) -> Table:
    """Right answers with their interval, the change against fp32 on the same samples, and agreements."""
    return Table(
        title="Accuracy",
        columns=(
            Column(name="Artifact", numeric=False),
            Column(name="Accuracy"),
            Column(name="Change against fp32"),
            Column(name="Same answer as fp32"),
            Column(name="Same answer as build machine"),
        ),
        rows=tuple(
            (
                artifact(row),
                accuracy_cell(row),
                change_cell(row),
                agreement_cell(row, twin=True),
                agreement_cell(row, twin=False),
            )
            for row in rows
        ),
        note=labelled,
    )


_SIGNED = (
    "On x86 the int8 activations of an .onnx for ARM, which are signed, are computed bit for bit as there, and slowly: "
    "build for --target host to see what int8 gains here."
)


def time(rows: Sequence[ReportRow], target: str) -> Table | None:
    """Latencies of one device with a real clock; None for an emulated one, or where nothing was measured."""
    if any(row.timing in {"emulated", None} for row in rows):
        return None
    foreign = any(not tells_time(row.timing, target) for row in rows)
    names = ("Threads", "Median latency", "p90", "p99", "Speed against fp32", "Inferences a second")
    return Table(
        title="Time",
        columns=(Column(name="Artifact", numeric=False), *(Column(name=name) for name in names)),
        rows=tuple((artifact(row), _threads(row), *_latencies(row), _per_second(row)) for row in rows),
        note=f"Times of this machine. They say nothing about {target}. {_SIGNED}" if foreign else "",
    )


def starting(rows: Sequence[ReportRow]) -> Table | None:
    """What a fresh process takes until it answers; None where :func:`time` is."""
    if any(row.timing in {"emulated", None} for row in rows):
        return None
    names = ("Load", "First inference", "Cold start", "Steady after", "Memory of loading")
    return Table(
        title="Starting",
        columns=(Column(name="Artifact", numeric=False), *(Column(name=name) for name in names)),
        rows=tuple(
            (
                artifact(row),
                latency_cell(row.load_ms),
                latency_cell(row.first_ms),
                latency_cell(row.cold_start_ms),
                Cell(text=figures.NOTHING if row.steady_after is None else figures.some(row.steady_after + 1, "run")),
                memory_cell(row.load_anonymous_bytes),
            )
            for row in rows
        ),
        note="Cold start is from the start of the program to its first answer, its files read before; memory is what "
        "loading the model added that no file stands behind: packed weights, and what the runtime sets up.",
    )


def growth(rows: Sequence[ReportRow]) -> Table | None:
    """Whether memory grows the longer a process runs; None where nobody looked."""
    looked = [(row, row.leak) for row in rows if row.leak is not None]
    if not looked:
        return None
    names = ("Inferences", "Memory grew by")
    return Table(
        title="Leaks",
        columns=(
            Column(name="Artifact", numeric=False),
            *(Column(name=name) for name in names),
            Column(name="Verdict", numeric=False),
        ),
        rows=tuple(
            (
                artifact(row),
                Cell(text=figures.count(leak.runs[-1] - leak.runs[0] if leak.runs else 0)),
                Cell(text=figures.megabytes(max(0, leak.grew_bytes))) if leak.anonymous_bytes else NOTHING,
                Cell(text=leak.verdict, tone=_GROWS[leak.verdict]),
            )
            for row, leak in looked
        ),
    )


def threads(rows: Sequence[ReportRow]) -> Table | None:
    """The median with each number of threads that was tried; None where there was no choice."""
    numbers = sorted({one.threads for row in rows for one in row.threads_tried})
    if not numbers:
        return None
    body = []
    for row in rows:
        tried = {one.threads: one.p50_ms for one in row.threads_tried}
        cells = (_tried(tried.get(number), chosen=number == row.threads) for number in numbers)
        body.append((artifact(row), *cells))
    return Table(
        title="Threads",
        columns=(
            Column(name="Artifact", numeric=False),
            *(Column(name=figures.some(number, "thread")) for number in numbers),
        ),
        rows=tuple(body),
        note="Medians of a few runs, in turn, before the measurement: the fewest threads that are as good as the best "
        "were taken.",
    )


def at_a_glance(rows: Sequence[ReportRow]) -> Table:
    """One line for each artifact of one device: what a terminal has room for."""
    emulated = any(row.timing == "emulated" for row in rows)
    measured = any(row.device is not None for row in rows)
    spent = ("Instructions",) if emulated else ("Threads", "Median", "Speed")
    names = ("File size", *(("Accuracy", "Against fp32", "Same answer", *spent) if measured else ()))
    body = []
    for row in rows:
        took = (instructions_cell(row),) if emulated else (_threads(row), _latencies(row)[0], speed_cell(row))
        scores = (accuracy_cell(row), change_cell(row), agreement_cell(row, twin=True), *took)
        name = Cell(text=row.artifact, tone="good" if row.recommended else "")
        cells = (name, size_cell(row), *(scores if measured else ()))
        body.append(tuple(replace(cell, small="") for cell in cells))
    return Table(
        title="At a glance",
        columns=(Column(name="Artifact", numeric=False), *(Column(name=name) for name in names)),
        rows=tuple(body),
    )


def limits(checks: Sequence[Check]) -> Table:
    """Each limit of the project: met, missed, or cannot tell."""
    return Table(
        title="Limits",
        columns=tuple(Column(name=name, numeric=False) for name in ("Limit", "Artifact", "Outcome", "Evidence")),
        rows=tuple(
            (
                Cell(text=check.limit),
                Cell(text=check.artifact, small=check.device or ""),
                Cell(text=check.outcome, tone=_OUTCOMES[check.outcome]),
                Cell(text=check.text),
            )
            for check in checks
        ),
    )


def samples_sentence(build: ReportedBuild, rows: Sequence[ReportRow]) -> str:
    """How many samples stand behind the figures, how many of them have labels, and what they are."""
    total, labelled = build.evaluation.samples, max((row.host.labelled for row in rows), default=0)
    part = "" if labelled == total else f", {figures.count(labelled)} of them labelled"
    note = f": {build.evaluation.note}" if build.evaluation.note else ""
    return f"{figures.some(total, 'evaluation sample')}{part}{note}".rstrip(".") + "."


def notes(rows: Sequence[ReportRow | PacedRow]) -> tuple[str, ...]:
    """What is to be known of the rows of a table: once where it is true of all of them, else with each one's name."""
    common = (
        [note for note in rows[0].notes if len(rows) > 1 and all(note in row.notes for row in rows)] if rows else []
    )
    own = (f"{row.artifact}: {note}" for row in rows for note in row.notes if note not in common)
    return (*(f"all of these: {note}" for note in common), *own)


def by_device(report: Report, build: ReportedBuild) -> list[tuple[ReportedDevice | None, list[ReportRow]]]:
    """The rows of one build, one group a device, those not measured last: clocks never mix in a table."""
    devices = {device.name: device for device in build.devices}
    groups: dict[str | None, list[ReportRow]] = {}
    for row in report.rows:
        if row.build == build.build:
            groups.setdefault(row.device, []).append(row)
    return [(devices[name] if name is not None else None, rows) for name, rows in groups.items()]


def artifact(row: ReportRow) -> Cell:
    """Recipe and runtime, and the file's name; green is the one that is recommended on its device."""
    runtime = figures.RUNTIMES["executorch" if row.format == "pte" else "onnxruntime"]
    tone: Tone = "good" if row.recommended else ""
    return Cell(text=f"{row.recipe}, {runtime}", small=row.artifact, tone=tone)


def recommendations(found: Sequence[Recommendation]) -> Table:
    """The fastest artifact on each device, or why nobody can tell."""
    body = []
    for one in found:
        named = NOTHING
        if one.artifact is not None and one.runtime is not None:
            threads = figures.some(one.threads or 1, "thread")
            named = Cell(text=f"{one.recipe}, {figures.RUNTIMES[one.runtime]}, {threads}", small=one.artifact)
        clock = {"hardware": "", "host": "", "emulated": "emulated"}[one.timing]
        if one.timing != "emulated" and not one.of_target:
            clock = "not the target"
        median = NOTHING if one.p50_ms is None else Cell(text=figures.ms(one.p50_ms))
        body.append((Cell(text=one.device, small=clock), named, median, Cell(text=one.reason)))
    return Table(
        title="Recommended",
        columns=(
            Column(name="Device", numeric=False),
            Column(name="Artifact", numeric=False),
            Column(name="Median"),
            Column(name="Evidence", numeric=False),
        ),
        rows=tuple(body),
    )


def accuracy_cell(row: ReportRow) -> Cell:
    """The share of right answers, its interval, the count."""
    if row.accuracy is None or row.accuracy_ci95 is None or row.correct is None:
        return NOTHING
    return Cell(
        text=figures.percent(row.accuracy, row.labelled),
        small=f"{figures.percent_range(*row.accuracy_ci95, row.labelled)}; "
        f"{figures.of_total(row.correct, row.labelled)}",
    )


def change_cell(row: ReportRow) -> Cell:
    """The drop with its sign turned: what changes when the artifact takes the place of fp32."""
    if row.recipe == FP32:
        return Cell(text="reference", tone="dim")
    if row.drop_pp is None:
        return NOTHING
    small = ""
    if row.drop_ci95_pp is not None and row.drop_p_value is not None:
        low, high = row.drop_ci95_pp
        small = f"{figures.signed(-high, 2)} to {figures.signed(-low, 2)}; {figures.p_value(row.drop_p_value)}"
    return Cell(text=figures.points(-row.drop_pp, row.labelled), small=small)


def agreement_cell(row: ReportRow, *, twin: bool) -> Cell:
    """Share of samples with the same top-1 as the fp32 twin there, or as this file on the build machine."""
    if twin and row.recipe == FP32:
        return Cell(text="reference", tone="dim")
    share = row.fp32_agreement if twin else row.host_agreement
    if share is None:
        return NOTHING
    return Cell(
        text=figures.percent(share, row.samples), small=figures.of_total(round(share * row.samples), row.samples)
    )


def size_cell(row: ReportRow) -> Cell:
    """The file's size, and how large its twin is beside it."""
    twin = "" if row.size_ratio is None else f"fp32 is {figures.ratio(row.size_ratio)} as large"
    return Cell(text=figures.megabytes(row.size_bytes), small=twin)


def _threads(row: ReportRow) -> Cell:
    return NOTHING if row.threads is None else Cell(text=figures.count(row.threads))


def _tried(p50_ms: float | None, *, chosen: bool) -> Cell:
    return NOTHING if p50_ms is None else Cell(text=figures.ms(p50_ms), tone="good" if chosen else "")


def instructions_cell(row: ReportRow) -> Cell:
    """The instructions of one inference, or nothing."""
    return NOTHING if row.instructions is None else Cell(text=figures.millions(row.instructions))


def _latencies(row: ReportRow) -> tuple[Cell, ...]:
    return (
        latency_cell(row.p50_ms, row.ci95_ms, f"{figures.count(row.runs)} runs"),
        latency_cell(row.p90_ms, row.p90_ci95_ms),
        latency_cell(row.p99_ms, row.p99_ci95_ms),
        speed_cell(row),
    )


def latency_cell(value_ms: float | None, interval: tuple[float, float] | None = None, more: str = "") -> Cell:
    """A time, and small its interval and what else there is to say."""
    if value_ms is None:
        return NOTHING
    reach = figures.ms_range(*interval) if interval else ""
    return Cell(text=figures.ms(value_ms), small="; ".join(part for part in (reach, more) if part))


def speed_cell(row: ReportRow) -> Cell:
    """How much faster than fp32, or why nobody can tell."""
    speed = row.speedup_vs_fp32
    if row.recipe == FP32:
        return Cell(text="reference", tone="dim")
    if speed.ratio is None:
        return Cell(text=speed.verdict, small=speed.reason, tone="open")
    reach = ""
    if speed.low is not None and speed.high is not None:
        reach = f"{figures.significant(speed.low)} to {figures.ratio(speed.high)}"
    verdict = "the same" if speed.verdict == "same" else speed.verdict
    small = "; ".join(part for part in (reach, verdict) if part)
    return Cell(text=figures.ratio(speed.ratio), small=small, tone=_VERDICTS[speed.verdict])


def _per_second(row: ReportRow) -> Cell:
    return NOTHING if row.per_second is None else Cell(text=figures.significant(row.per_second))


def memory_cell(value: int | None) -> Cell:
    """So many bytes of memory, or nothing."""
    return NOTHING if value is None else Cell(text=figures.megabytes(value))
