"""One command on many devices: a live table, a summary, and one exit status."""

from __future__ import annotations

import contextlib
import threading
from typing import IO, TYPE_CHECKING, Any

import click

from edgeq.cli.terminal import explained
from edgeq.device.inventory import devices_of
from edgeq.errors import DeviceError
from edgeq.stages.fleet import Outcome, Result, on_each
from edgeq.stages.report.figures import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from edgeq.cli.terminal import Failure, Terminal
    from edgeq.progress import Progress
    from edgeq.stages.fleet import Watch

_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "yellow"), "": ("…", "")}

canary_option = click.option(
    "--canary",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of several devices, work the first N and go on only if all of them pass.",
)


def on_devices(
    terminal: Terminal,
    named: str,
    work: Callable[[str, Progress], Result],
    *,
    data: Callable[[Result], dict[str, object]],
    text: Callable[[Result], str],
    alone: Callable[[str, Result], RenderableType],
    canary: int | None = None,
    status: Callable[[Result], int] = lambda _: 0,
) -> None:
    """Do ``work`` on each device that ``--device`` named, and show it.

    Of a single one the result is shown as ``data`` or ``alone(device,
    result)``, and its error as any other. Of several each has a row with
    ``data`` or ``text``, and the command leaves with 0 only if all are done
    with ``status`` 0: else with the status of the failures if they have one
    in common, or a device's.
    """
    devices = devices_of(named)
    if len(devices) == 1:
        (device,) = devices
        with terminal.progress() as progress:
            result = work(device, progress)
        terminal.result(data(result), lambda: alone(device, result))
        raise click.exceptions.Exit(status(result))
    with watching(terminal) as watch:
        outcomes = on_each(devices, work, canary=canary or 0, watch=watch)
    failures = {one.device: explained(one.error) for one in outcomes if one.error is not None}
    rows = [_row(outcome, failures.get(outcome.device), data, status) for outcome in outcomes]
    terminal.result({"devices": rows}, lambda: _summary(outcomes, failures, text, status))
    codes = {row["exit_code"] for row in rows if row["exit_code"] is not None} - {0}
    if codes:
        raise click.exceptions.Exit(codes.pop() if len(codes) == 1 else DeviceError.exit_code)


def _row(
    outcome: Outcome[Any],
    failure: Failure | None,
    data: Callable[[Any], dict[str, object]],
    status: Callable[[Any], int],
) -> dict[str, Any]:
    """The record of one device; ``exit_code`` is what the command would have left with there, None if skipped."""
    done = outcome.state == "done"
    return {
        "device": outcome.device,
        "state": outcome.state,
        "exit_code": status(outcome.result) if done else failure and failure.exit_code,
        "seconds": round(outcome.seconds, 3),
        "error": None if failure is None else {"message": failure.message, "hint": failure.hint},
        **(data(outcome.result) if done else {}),
    }


def _summary(
    outcomes: Sequence[Outcome[Any]],
    failures: Mapping[str, Failure],
    text: Callable[[Any], str],
    status: Callable[[Any], int],
) -> Table:
    from rich.table import Table  # noqa: PLC0415  # --json does without
    from rich.text import Text  # noqa: PLC0415  # as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "device", "", "seconds"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        failure = failures.get(outcome.device)
        if failure is not None:
            said = f"{failure.message}\n{failure.hint}".strip()
        else:
            said = text(outcome.result) if outcome.state == "done" else "skipped, as a device before it failed"
        well = outcome.state != "done" or status(outcome.result) == 0
        mark = Text(*_MARKS[outcome.state if well else "failed"])
        said = "\n".join(map(printable, said.splitlines()))
        table.add_row(mark, printable(outcome.device), Text(said), f"{outcome.seconds:.1f}")
    return table


@contextlib.contextmanager
def watching(terminal: Terminal) -> Iterator[Watch]:
    """Show how far each device is while the block runs: a table that changes in place, or lines in a log."""
    watch = _Live(terminal) if terminal.err.isatty() else _Lines(terminal.err)
    try:
        yield watch
    finally:
        watch.close()


class _Lines:
    """One line a step and device, for logs."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._one_at_a_time = threading.Lock()

    def step(self, device: str, text: str) -> None:
        self._say(device, text)

    def advance(self, device: str, done: int, total: int | None) -> None:
        """Nothing: the next step says that this one is over."""

    def ended(self, outcome: Outcome[Any]) -> None:
        self._say(outcome.device, outcome.state if outcome.error is None else f"failed: {outcome.error}")

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, device: str, text: str) -> None:
        with self._one_at_a_time:
            self._stream.write(f"{printable(device)}: {printable(text)}\n")
            self._stream.flush()


class _Live:
    """A table that changes in place: a row a device, with what it does now."""

    def __init__(self, terminal: Terminal) -> None:
        from rich.live import Live  # noqa: PLC0415  # 40 ms that --help does without

        self._rows: dict[str, tuple[str, str, str]] = {}
        self._lock = threading.Lock()
        self._live = Live(console=terminal.console(terminal.err), get_renderable=self._table, transient=True)
        self._live.start()

    def step(self, device: str, text: str) -> None:
        self._set(device, "", text, "")

    def advance(self, device: str, done: int, total: int | None) -> None:
        with self._lock:
            mark, text, _ = self._rows.get(device, ("", "", ""))
            self._rows[device] = (mark, text, f"{100 * done // total} %" if total else str(done))

    def ended(self, outcome: Outcome[Any]) -> None:
        self._set(outcome.device, outcome.state, str(outcome.error or outcome.state), "")

    def close(self) -> None:
        self._live.stop()

    def _set(self, device: str, mark: str, text: str, count: str) -> None:
        with self._lock:
            self._rows[device] = (mark, text, count)

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415  # as above
        from rich.text import Text  # noqa: PLC0415  # as above

        table = Table(box=None, pad_edge=False, show_header=False)
        with self._lock:
            for device, (mark, text, count) in self._rows.items():
                said = Text(printable(text), no_wrap=True, overflow="ellipsis")
                table.add_row(Text(*_MARKS[mark]), printable(device), said, count)
        return table
