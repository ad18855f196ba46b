"""What a terminal shows of a check: the headline, what stands out, and the rest by number."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from edgeq.stages.check.items import headline, items, parted, table
from edgeq.stages.report.figures import printable
from edgeq.stages.report.terminal import headed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeq.records import CheckResult


def renderable(result: CheckResult) -> RenderableType:
    """The headline, what stands out, and the rest by number."""
    notable, rest = parted(items(result.limits, result.changes))
    parts: list[RenderableType] = [
        Text(printable(f"{result.model} on {result.target}"), style="dim"),
        Text(printable(headline(result)), style="bold green" if result.passed else "bold red"),
    ]
    if result.against:
        parts.append(Text(printable(f"against {result.against}"), style="dim"))
    if notable:
        parts.append(headed(table("", notable)))
    for outcome in ("same", "met"):
        counted = Counter(item.what for item in rest if item.outcome == outcome)
        if counted:
            told = ", ".join(f"{what} ({count})" for what, count in counted.items())
            parts.append(Text(printable(f"{outcome}: {told}"), style="dim"))
    parts += [Text(printable(note), style="yellow") for note in result.notes]
    return Group(*parts)
