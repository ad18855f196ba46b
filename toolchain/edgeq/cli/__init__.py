"""The command line: one file per command, imported only when it is called.

Only this package prints or exits. Every command is a short function that
calls :mod:`edgeq.pipeline` and shows what comes back.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "run": "build, deploy, bench and report in one",
    "build": "quantize and lower a project; write a BUILD",
    "deploy": "push a build to a device, verify it there, activate it",
    "rollback": "make the deployment before the active one active again",
    "gc": "remove old deployments from a device",
    "bench": "measure a deployed build on its device",
    "compare": "say which of two builds is faster on a device, in one session",
    "parity": "tell whether a build computes the same on every device",
    "report": "write the report from what was measured",
    "check": "hold a build against its limits and a baseline",
    "history": "show how the figures of a project moved",
    "explain": "say what stayed in float and why, and which layers lose accuracy",
    "export": "write a folder that an Android or iOS app takes in",
    "keys": "make the keys that sign deployments, and tell devices which to trust",
    "board": "start, stop and enter emulated boards",
    "doctor": "say what is missing here and on a device, and how to mend it",
    "devices": "list what --device may name",
    "targets": "list the boards edgeq knows facts of",
    "runner": "build the native runner, renew its pins",
    "completion": "print the shell's completion script",
}
"""Every command in the order of ``edgeq --help``, which so imports none of them."""


class _LazyGroup(click.Group):
    """A group whose commands live in modules of their own name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; None for an unknown name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"edgeq.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command for a misspelt one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from edgeq.errors import did_you_mean  # noqa: PLC0415  # --help does without

            near = did_you_mean(name, COMMANDS)
            ctx.fail(f"no command {name!r}" + (f"; {near}" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  edgeq run examples/efficientnet_lite0 --target rpi4     on an emulated board\n"
    "  edgeq run PROJECT --target rpi4 --device ssh://pi@rpi   on your own\n"
    "  edgeq COMMAND --help                                    more, with examples\n"
    "  edgeq --version --json                                  all versions, for a report of a bug",
)
@click.option("--version", is_flag=True, help="Show the versions of edgeq, its runners and what they build on.")
@click.option("--json", "as_json", is_flag=True, help="With --version: one JSON document.")
@click.pass_context
def group(ctx: click.Context, *, version: bool, as_json: bool) -> None:
    """Take a PyTorch model to an ARM board and prove what it does there."""
    if version:
        from edgeq.cli.version import show  # noqa: PLC0415  # --help does without

        show(as_json=as_json)
        ctx.exit()
    if as_json:
        ctx.fail("--json goes behind the command, or with --version")


def main() -> None:
    """The console script ``edgeq``."""
    from edgeq.cli.terminal import run  # noqa: PLC0415  # errors are shown in one place

    sys.exit(run(group))
