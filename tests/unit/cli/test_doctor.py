from __future__ import annotations

import io

from rich.console import Console

from edgeq.cli import doctor
from edgeq.stages.doctor import Diagnosis, Finding
from edgeq.stages.doctor.host import examine


def _shown(*findings: Finding, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), color_system=None)
    console.print(doctor._table(Diagnosis(device=None, host=examine(None)[0], findings=findings)))
    return console.export_text()


def test_a_finding_is_a_line_and_its_remedy_the_next() -> None:
    fine = Finding(code="device.libc", severity="ok", text="glibc 2.36")
    bad = Finding(code="device.root", severity="problem", text="noexec", remedy='set root = "/x" under [kitchen]')
    lines = [line.split() for line in _shown(fine, bad).splitlines()]
    assert lines[0] == ["ok", "device.libc", "glibc", "2.36"]
    assert lines[1] == ["PROBLEM", "device.root", "noexec"]
    assert lines[2] == ["->", "set", "root", "=", '"/x"', "under", "[kitchen]"]


def test_what_a_device_says_cannot_colour_the_terminal() -> None:
    shown = _shown(
        Finding(code="device.load", severity="warning", text="\x1b[2J[bold red]x[/] [link=http://x]", remedy="[/]")
    )
    assert "\x1b" not in shown
    assert "[bold red]x[/] [link=http://x]" in shown
    assert "-> [/]" in shown
