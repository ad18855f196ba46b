"""A report to files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal

from edgeq.files import write_text
from edgeq.installed import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.records import Report

ReportFormat = Literal["md", "html", "json", "junit"]

_WRITERS = {
    "json": ("report.json", "edgeq.stages.report.as_json"),
    "md": ("report.md", "edgeq.stages.report.as_markdown"),
    "html": ("report.html", "edgeq.stages.report.as_html"),
    "junit": ("junit.xml", "edgeq.stages.report.as_junit"),
}
"""File name, and the module whose ``render`` makes its text; imported when asked for, as some are slow to import."""


def write(report: Report, formats: Sequence[ReportFormat], out: Path) -> tuple[Path, ...]:
    """Write ``report`` into the folder ``out`` in each of ``formats``; each file is replaced as a whole."""
    files = []
    for form in dict.fromkeys(formats):
        if form == "html":
            require("report", needed_for="report.html")
        name, module = _WRITERS[form]
        write_text(out / name, import_module(module).render(report))
        files.append(out / name)
    return tuple(files)
