"""One command on many devices: a live table, a summary, and one exit status."""

from __future__ import annotations

import contextlib
import threading
import traceback
from typing import IO, TYPE_CHECKING, Any

import click

from edgeq.cli.terminal import explained
from edgeq.errors import DeviceError
from edgeq.stages.fleet import Outcome, on_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from edgeq.cli.terminal import Terminal
    from edgeq.progress import Progress

_MARKS = {"done": "[green]✓[/]", "failed": "[red]✗[/]", "skipped": "[yellow]-[/]"}

canary_option = click.option(
    "--canary",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of several devices, work the first N and go on only if all of them pass.",
)


def on_devices(  # the work and how it is shown
    terminal: Terminal,
    devices: Sequence[str],
    work: Callable[[str, Progress], Any],
    *,
    canary: int | None,
    data: Callable[[Any], dict[str, object]],
    text: Callable[[Any], str],
) -> None:
    """Do ``work`` on every device, show it, and leave with 0 only if all are done.

    ``data`` and ``text`` are what is said of a device that is done. The exit
    status is that of the failures if they have one in common, else a
    device's.
    """
    with _watching(terminal) as watch:
        outcomes = on_each(devices, work, canary=canary or 0, watch=watch)
    rows = [_row(outcome, data) for outcome in outcomes]
    terminal.result({"devices": rows}, lambda: _summary(outcomes, text))
    codes = {row["exit_code"] for row in rows if row["exit_code"] is not None} - {0}
    if codes:
        raise click.exceptions.Exit(codes.pop() if len(codes) == 1 else DeviceError.exit_code)


def _row(outcome: Outcome[Any], data: Callable[[Any], dict[str, object]]) -> dict[str, Any]:
    """The record of one device; ``exit_code`` is what the command would have left with there, None if skipped."""
    failure = None if outcome.error is None else explained(outcome.error)
    return {
        "device": outcome.device,
        "state": outcome.state,
        "exit_code": {"done": 0, "skipped": None}.get(outcome.state, failure and failure.exit_code),
        "seconds": round(outcome.seconds, 3),
        "error": None if failure is None else {"message": failure.message, "hint": failure.hint},
        **(data(outcome.result) if outcome.state == "done" else {}),
    }


def _summary(outcomes: Sequence[Outcome[Any]], text: Callable[[Any], str]) -> Table:
    from rich.table import Table  # noqa: PLC0415  # --json does without
    from rich.text import Text  # noqa: PLC0415  # as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "device", "", "seconds"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        if outcome.error is not None:
            failure = explained(outcome.error)
            said = f"{failure.message}\n{failure.hint}".strip()
        else:
            said = text(outcome.result) if outcome.state == "done" else "skipped, as a device before it failed"
        table.add_row(_MARKS[outcome.state], outcome.device, Text(said), f"{outcome.seconds:.1f}")
    return table


@contextlib.contextmanager
def _watching(terminal: Terminal) -> Iterator[_Lines | _Live]:
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
        if outcome.error is not None and explained(outcome.error).exit_code == 1:
            traceback.print_exception(outcome.error)
        self._say(outcome.device, outcome.state if outcome.error is None else f"failed: {outcome.error}")

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, device: str, text: str) -> None:
        with self._one_at_a_time:
            self._stream.write(f"{device}: {text}\n")
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
        self._set(device, "…", text, "")

    def advance(self, device: str, done: int, total: int | None) -> None:
        with self._lock:
            mark, text, _ = self._rows.get(device, ("…", "", ""))
            self._rows[device] = (mark, text, f"{100 * done // total} %" if total else str(done))

    def ended(self, outcome: Outcome[Any]) -> None:
        self._set(outcome.device, _MARKS[outcome.state], str(outcome.error or outcome.state), "")

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
                table.add_row(mark, device, Text(text, no_wrap=True, overflow="ellipsis"), count)
        return table
