"""report.json: the record itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.schema import to_json

if TYPE_CHECKING:
    from edgeq.records import Report


def render(report: Report) -> str:
    """The report as JSON; what was not measured is null."""
    return to_json(report, indent=2) + "\n"
