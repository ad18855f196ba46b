"""What a person or a script sees: progress, errors, results, and the exit status.

stdout carries results, stderr everything else. The libraries below edgeq
print what they like on both; unless ``-v`` was given that goes to a log, so
that ``--json`` is one document and a terminal stays readable.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import getpass
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from edgeq.errors import ConfigError, DiskFullError, EdgeqError, LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

INTERRUPTED = 130
_PLAIN_STEP_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Where one command's results and progress go."""

    as_json: bool
    out: IO[str]
    err: IO[str]

    def result(self, data: object, shown: RenderableType | Callable[[], RenderableType]) -> None:
        """Print a command's result: ``data`` as one JSON document, or ``shown`` for a person."""
        if self.as_json:
            self.out.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        else:
            made = shown() if callable(shown) else shown
            if isinstance(made, str):
                self.console(self.out).print(_readable(made), soft_wrap=True)
            else:
                self.console(self.out).print(made)
        self.out.flush()

    def console(self, stream: IO[str]) -> Console:
        """A rich console on that stream; plain text when it is no terminal. Brackets in a name are no markup."""
        from rich.console import Console  # noqa: PLC0415  # 40 ms that --help does without

        width = None if stream.isatty() else 120
        return Console(file=stream, highlight=False, markup=False, width=width)

    @contextlib.contextmanager
    def progress(self) -> Iterator[ShownProgress]:
        """Show the steps of a long command while the block runs."""
        if self.err.isatty():
            asks = sys.stdin.isatty() and not self.as_json
            shown: ShownProgress = BarProgress(self.console(self.err), asks=asks)
        else:
            shown = LineProgress(self.err)
        try:
            yield shown
        finally:
            shown.close()


class LineProgress:
    """One line a step, for logs: a step that takes long says so now and then."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._said_at = time.monotonic()

    def step(self, text: str) -> None:
        """Print the step."""
        self._say(text)

    def advance(self, done: int, total: int | None = None) -> None:
        """Print the count when the last line is some time ago."""
        if time.monotonic() - self._said_at > _PLAIN_STEP_SECONDS:
            self._say(f"  {done}" + (f" of {total}" if total else ""))

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, text: str) -> None:
        self._said_at = time.monotonic()
        self._stream.write(_readable(text) + "\n")
        self._stream.flush()


class BarProgress:
    """A spinner, the step, its count and its time; finished steps stay as lines.

    With ``asks`` somebody sits there who can answer a question.
    """

    def __init__(self, console: Console, *, asks: bool) -> None:
        from rich.progress import (  # noqa: PLC0415  # 40 ms that --help does without
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.table import Column  # noqa: PLC0415  # as above

        self._bars: Bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=7, justify="right")),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            console=console,
        )
        self._task: TaskID | None = None
        self._asks = asks
        self._bars.start()

    def step(self, text: str) -> None:
        """End the step before and begin this one."""
        self._finish()
        self._task = self._bars.add_task(_readable(text), total=None)

    def advance(self, done: int, total: int | None = None) -> None:
        """Move the bar of the current step."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total)

    def ask(self, question: str) -> str | None:
        """Ask for a secret, which is not shown; None where nobody can answer."""
        if not self._asks:
            return None
        self._finish()
        self._bars.stop()
        for shown in self._bars.task_ids:  # they stay on the screen: not a second time
            self._bars.remove_task(shown)
        try:
            return getpass.getpass(question)  # on the terminal itself, wherever stdout goes
        except EOFError:
            return None
        finally:
            self._bars.start()

    def close(self) -> None:
        """End the last step and give the terminal back."""
        self._finish()
        self._bars.stop()

    def _finish(self) -> None:
        if self._task is None:
            return
        task = self._bars.tasks[self._bars.task_ids.index(self._task)]
        done = int(task.completed) or 1
        self._bars.update(self._task, completed=done, total=done)
        self._task = None


ShownProgress = LineProgress | BarProgress


def run(group: click.Group) -> int:
    """Run the command line and return the exit status: the one place that catches."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        left = group.main(standalone_mode=False, prog_name="edgeq")
    except click.exceptions.NoArgsIsHelpError as wants_help:
        click.echo(wants_help.ctx.get_help())
        return ConfigError.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not complain while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the one place that catches
        failure = explained(error)
        _show(failure)
        return failure.exit_code
    else:
        return left if isinstance(left, int) else 0  # what click.exceptions.Exit was raised with
    return 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is said of an error: a line, the next step, evidence, and the exit status."""

    message: str
    hint: str = ""
    detail: str = ""
    exit_code: int


def explained(error: BaseException) -> Failure:
    """The words for an error; one that nobody foresaw is a bug of edgeq and shows its traceback."""
    match error:
        case EdgeqError():
            return Failure(message=error.message, hint=error.hint, detail=error.detail, exit_code=error.exit_code)
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "edgeq"
            return Failure(
                message=error.format_message(), hint=f"see: {command} --help", exit_code=ConfigError.exit_code
            )
        case KeyboardInterrupt() | click.exceptions.Abort():
            return Failure(
                message="interrupted",
                hint="nothing was left half-written; run the same command again",
                exit_code=INTERRUPTED,
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return explained(DiskFullError(error.filename or "the temporary folder"))
        case PermissionError() if error.filename:
            return Failure(
                message=f"no permission to use {error.filename}",
                hint="mend its permissions, or choose another place with --out (results) or EDGEQ_CACHE (cache)",
                exit_code=ConfigError.exit_code,
            )
    traceback.print_exception(error)
    return Failure(message="this is a bug of edgeq", hint="please report it with the lines above", exit_code=1)


@contextlib.contextmanager
def terminal(*, as_json: bool, verbose: bool) -> Iterator[Terminal]:
    """The terminal of one command, with the chatter of libraries out of the way while the block runs.

    File descriptors 1 and 2 are pointed at a log, as native libraries write
    there without asking Python; edgeq keeps the real ones. The log is
    removed when all went well.
    """
    if verbose:
        # Chatter stays visible, and off stdout all the same.
        with _redirected(1, 2) as out:
            yield Terminal(as_json=as_json, out=out, err=sys.stderr)
        return
    with tempfile.NamedTemporaryFile(prefix="edgeq-", suffix=".log", delete=False) as log:
        path = Path(log.name)
        failed = True
        try:
            with _redirected(1, log.fileno()) as out, _redirected(2, log.fileno()) as err:
                try:
                    yield Terminal(as_json=as_json, out=out, err=err)
                except BaseException as error:
                    expected = (EdgeqError, KeyboardInterrupt, click.exceptions.Exit, click.UsageError)
                    failed = not isinstance(error, expected)
                    raise
            failed = False
        finally:
            if failed:
                sys.stderr.write(f"edgeq: what the libraries said is in {path}\n")
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[IO[str]]:
    """Point ``descriptor`` at ``target`` while the block runs; yields a stream on where it pointed before."""
    _flush()
    kept = os.dup(descriptor)
    try:
        os.dup2(target, descriptor)
        with os.fdopen(os.dup(kept), "w", encoding="utf-8", errors="replace") as stream:
            yield stream
    finally:
        _flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def _flush() -> None:
    """Empty the buffers of Python's streams and of the C library's, so that what was said lands where it was meant."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


def _readable(text: str) -> str:
    """The lines of a text without what would steer a terminal: users, devices and files chose some of these words."""
    from edgeq.stages.report.figures import printable  # noqa: PLC0415  # --help does without

    return "\n".join(map(printable, text.splitlines()))


def _as_interrupt(_number: int, _frame: Any) -> None:  # noqa: ANN401  # the signature of a signal handler
    """End as Ctrl-C ends: every ``finally`` runs, nothing is left half-written."""
    raise KeyboardInterrupt


def _show(failure: Failure) -> None:
    """Say what went wrong: as JSON on stdout where asked, and for a person on stderr."""
    # A missed limit comes after the result, whose `checks` tell it: the one document is out already.
    if "--json" in sys.argv and failure.exit_code != LimitError.exit_code:
        sys.stdout.write(json.dumps({"error": dataclasses.asdict(failure)}, indent=2, ensure_ascii=False) + "\n")
    red, dim, plain = ("\033[1;31m", "\033[2m", "\033[0m") if sys.stderr.isatty() else ("", "", "")
    sys.stderr.write(f"{red}edgeq: {_readable(failure.message)}{plain}\n")
    for line in failure.detail.strip().splitlines():
        sys.stderr.write(f"{dim}  | {_readable(line)}{plain}\n")
    for line in failure.hint.splitlines():
        sys.stderr.write(f"  {_readable(line)}\n")
