"""From measurements to a report: json, markdown, one html file, junit, and what a terminal shows.

:func:`summarise` decides what may be said; the writers only say it. Nothing
is measured here, and what was not measured is None.
"""

from __future__ import annotations

from edgeq.stages.report.summary import Measured, checks_without_a_device, summarise
from edgeq.stages.report.writing import ReportFormat, write

__all__ = ["Measured", "ReportFormat", "checks_without_a_device", "summarise", "write"]
