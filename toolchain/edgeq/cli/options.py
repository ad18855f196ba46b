"""Options and arguments that several commands share, with their shell completion."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from edgeq.cli.terminal import terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeq.cli.terminal import Terminal
    from edgeq.pipeline import WrittenReport
    from edgeq.stages.history import Remembered


def shows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``-v`` and, as its first argument, the terminal they describe."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there.")
    @click.option("-v", "--verbose", is_flag=True, help="Also show what the libraries below say.")
    @functools.wraps(function)
    def wrapped(*args: object, as_json: bool, verbose: bool, **kwargs: object) -> None:
        with terminal(as_json=as_json, verbose=verbose) as shown:
            function(shown, *args, **kwargs)

    return wrapped


def examples(*lines: str) -> str:
    """An epilog for ``--help`` with the examples one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def warn_of_history(terminal: Terminal, remembered: Remembered | None) -> None:
    """Say on stderr that measurements are not in the history, and why; they are safe in the build."""
    if remembered and remembered.why_not and not remembered.off:
        terminal.err.write(f"warning: not in the history: {remembered.why_not}\n")
        terminal.err.flush()


def tell_files(terminal: Terminal, written: WrittenReport) -> None:
    """Say where a report was written, and which file of it was not, and why."""
    if not terminal.as_json:
        lines = [*(f"written to {path}" for path in written.files), *written.left_out]
        terminal.out.write("\n" + "\n".join(lines) + "\n")


def complete_targets(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The targets that come with edgeq."""
    from edgeq.target import known_targets  # noqa: PLC0415  # only the shell's Tab asks for it

    return [CompletionItem(name) for name in known_targets() if name.startswith(incomplete)]


def complete_devices(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What ``edgeq devices`` lists, also behind the commas of a list."""
    from edgeq.device.inventory import inventory  # noqa: PLC0415  # only the shell's Tab asks for it
    from edgeq.errors import EdgeqError  # noqa: PLC0415  # as above

    before, comma, last = incomplete.rpartition(",")
    try:
        found = inventory()
    except EdgeqError:
        return []  # a devices.toml to mend: the command will say so
    return [CompletionItem(before + comma + one.name, help=one.what) for one in found if one.name.startswith(last)]


def _complete_recipes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from edgeq.recipe import RECIPES  # noqa: PLC0415  # only the shell's Tab asks for it

    return [CompletionItem(r.name, help=r.description) for r in RECIPES.values() if r.name.startswith(incomplete)]


def complete_artifacts(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The artifacts and recipes of the build that was named before."""
    import json  # noqa: PLC0415  # only the shell's Tab asks for it

    # An option that still waits for its value keeps click from telling the arguments apart.
    build = ctx.params.get("build") or next(iter(ctx.args), "")
    try:
        manifest = json.loads((Path(build) / "manifest.json").read_bytes())
        names = [one[key] for key in ("name", "recipe") for one in manifest["artifacts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # no build there yet: the shell has nothing to offer
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


project_argument = click.argument("project", type=click.Path(path_type=Path))
build_argument = click.argument("build", type=click.Path(path_type=Path))
target_option = click.option(
    "--target",
    shell_complete=complete_targets,
    help="A name that `edgeq targets` lists, or the path of your own TOML file; the project's, if not given.",
)
recipe_option = click.option(
    "--recipe", "recipes", multiple=True, shell_complete=_complete_recipes, help="A recipe; may be repeated."
)
format_option = click.option(
    "--format", "formats", multiple=True, type=click.Choice(["pte", "onnx"]), help="A format; may be repeated."
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Where the build goes, instead of build/MODEL/TARGET."
)
max_drop_option = click.option(
    "--max-drop",
    "max_drop_pp",
    type=click.FloatRange(min=0, max=100),
    metavar="PP",
    help="Accuracy that int8 may lose against fp32, in percentage points; exit 5 beyond.",
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), help="Cores to use here; all if not given, 1 does everything in one process."
)
DEVICE_HELP = (
    "`local`, `board` (the target's emulated board), `ssh://[user@]host[:port]`, `adb` or `adb://SERIAL` (Android), "
    "an alias of ~/.ssh/config, or a name in ~/.config/edgeq/devices.toml."
)
device_option = click.option("--device", required=True, shell_complete=complete_devices, help=DEVICE_HELP)
board_target_option = click.option(
    "--target", shell_complete=complete_targets, help="With `--device board`: whose emulated board, if several run."
)
sign_option = click.option(
    "--sign",
    envvar="EDGEQ_SIGN",
    metavar="KEY",
    help="Sign what is deployed: a key that `edgeq keys list` shows, or the path of a private key. "
    "EDGEQ_SIGN says the same.",
)
artifact_option = click.option("--artifact", "artifacts", multiple=True, help="Only this artifact; may be repeated.")
samples_option = click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Evaluation samples to run on the device; all, if not given, or on "
    "an emulated board as many as about a minute an artifact allows.",
)
repeats_option = click.option("--repeats", type=click.IntRange(min=1), help="Timed inferences of each artifact.")
force_option = click.option(
    "--force", is_flag=True, help="Measure also a device that is not fit for it; the rows and the report then say so."
)
threads_option = click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(min=1, max=256),
    help="Threads on the device; of several, each artifact gets the fastest. If not given: of 1, 2, 4 ... all cores; "
    "on an emulated board 1.",
)
