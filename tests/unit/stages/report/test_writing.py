from __future__ import annotations

import dataclasses
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from edgeq.records import BusyProcess, DeviceState, Parity, ParityDevice, ParityRow, Report, Undelegated
from edgeq.schema import from_json
from edgeq.stages.report import as_html, as_json, as_junit, as_markdown, terminal, write

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert('1')</script> \"x\" & [a](http://evil.example) |`*_\x1b[31m\u202e\ud800 \u00fc\u4e2d @all"
VOID = {"meta", "br", "link", "img", "input", "hr", "line", "rect", "circle"}
WRITERS = {"html": as_html.render, "md": as_markdown.render, "junit": as_junit.render}


class Page(HTMLParser):
    """Collects tags, attributes and text, and holds that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def says(self) -> str:
        return " ".join(" ".join(self.text).split())


def shown(report: Report) -> str:
    console = Console(width=120, record=True, force_terminal=True, file=io.StringIO())
    console.print(terminal.renderable(report))
    return console.export_text(styles=True)


def hostile(given: Any) -> Report:
    """A report in which every name that a user or a tool chose is hostile."""
    manifest = given.manifest()
    artifacts = tuple(
        dataclasses.replace(
            one,
            name=f"{HOSTILE}{one.name}",
            undelegated=(Undelegated(node=HOSTILE, op=HOSTILE, reason=HOSTILE, mac_share=0.5, source=HOSTILE),),
        )
        for one in manifest.artifacts
    )
    manifest = dataclasses.replace(
        manifest,
        model=HOSTILE,
        target=HOSTILE,
        tools={HOSTILE: HOSTILE},
        findings=(HOSTILE,),
        artifacts=artifacts,
        evaluation=dataclasses.replace(manifest.evaluation, note=HOSTILE),
    )
    rows = tuple(
        dataclasses.replace(
            one,
            device=HOSTILE,
            device_facts=dataclasses.replace(one.device_facts, model=HOSTILE, cpu=HOSTILE, kernel=HOSTILE),
            states=(DeviceState(busy=(BusyProcess(pid=1, name=HOSTILE, share=1.0),)),),
        )
        for one in given.measured(manifest, "pi")
    )
    report: Report = given.report(of=manifest, rows=rows)
    return report


def test_each_format_is_a_file_in_the_folder(given: Any, tmp_path: Path) -> None:
    files = write(given.report("board"), ["json", "md", "html", "junit", "md"], tmp_path / "new")
    assert [file.name for file in files] == ["report.json", "report.md", "report.html", "junit.xml"]
    assert all(file.stat().st_size for file in files)


def test_the_json_file_is_the_report(given: Any) -> None:
    report = given.report("board")
    assert from_json(Report, as_json.render(report), where="report.json") == report


@pytest.mark.parametrize("devices", [(), ("board",), ("pi",), ("board", "pi", "local")])
def test_the_page_is_well_formed_and_asks_nothing_of_any_network(given: Any, devices: tuple[str, ...]) -> None:
    page = Page(as_html.render(given.report(*devices)))
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert not {"src", "href", "action", "srcset", "data", "xlink:href"} & {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "url(" not in "".join(page.text)
    assert "@import" not in "".join(page.text)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_an_emulated_board_is_never_shown_a_time(given: Any) -> None:
    report = given.report("board")
    ours = re.compile(r"\d\s*(ms|\u00b5s|us|ns|seconds?)\b")
    cited = re.compile(r"46 ms and 17 ms on a real Raspberry Pi 4 \(published figures\)")
    for text in (
        Page(as_html.render(report)).says(),
        as_markdown.render(report),
        as_junit.render(report),
        shown(report),
    ):
        assert not ours.search(cited.sub("", text))
    for render in (as_html.render, as_markdown.render):
        assert "No latency is shown for an emulated board" in render(report)
        assert "124.2 M instructions in fp32 and 115.9 M in int8" in render(report)


def test_latencies_of_different_clocks_never_share_a_table(given: Any) -> None:
    text = as_markdown.render(given.report("board", "pi", "local"))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert not ("Median latency" in table and "Instructions" in table)
        assert table.count("tiny.fp32.pte") <= 1 or "Limit" in table


def test_what_to_ship_stands_at_the_top(given: Any) -> None:
    for render in (as_html.render, as_markdown.render):
        text = render(given.report("pi"))
        text = Page(text).says() if render is as_html.render else text
        assert text.index("Ship tiny.int8-static.pte") < text.index("Accuracy")


def test_the_page_tells_the_samples_behind_a_figure(given: Any) -> None:
    text = Page(as_html.render(given.report("board"))).says()
    assert "Measured on board: emulated (cortex-a72)" in text
    assert "919 of 1,000" in text
    assert "labelled photos of ten classes" in text
    assert "999 of 1,000" in text
    assert "64 samples" in text


def test_times_of_this_machine_are_not_taken_for_the_boards(given: Any) -> None:
    report = given.report("local")
    text = Page(as_html.render(report)).says()
    assert "Times of this machine. They say nothing about rpi4." in text
    assert "no clock of rpi4 was read" in text
    assert "no clock of rpi4 was read" not in as_html.render(given.report("pi"))


def test_the_number_of_labelled_samples_is_told(given: Any) -> None:
    manifest = given.manifest()
    artifacts = tuple(
        dataclasses.replace(one, host=dataclasses.replace(one.host, labelled=20)) for one in manifest.artifacts
    )
    text = Page(as_html.render(given.report(of=dataclasses.replace(manifest, artifacts=artifacts)))).says()
    assert "1,000 evaluation samples, 20 of them labelled: labelled photos of ten classes." in text


def test_every_file_has_its_bar_measured_or_not(given: Any) -> None:
    rows = given.measured(given.manifest(), "board")[:3]
    page = as_html.render(given.report(rows=rows))
    chart = page[page.index("<figcaption>File size") :]
    chart = chart[: chart.index("</figure>")]
    assert chart.count("<rect") == 4


def test_a_build_without_artifacts_is_still_a_report(given: Any) -> None:
    report = given.report(of=given.manifest(artifacts=(), cross_checks=()))
    for render in (as_html.render, as_markdown.render, as_junit.render, as_json.render):
        assert "tiny" in render(report)
    assert "Nothing to decide" in shown(report)


def test_undelegated_nodes_are_shown_with_their_reasons(given: Any) -> None:
    for render in (as_html.render, as_markdown.render):
        text = render(given.report("board"))
        assert "no int8 kernel" in text
        assert "layout only" in text


def test_what_was_not_measured_is_a_dash(given: Any) -> None:
    text = as_markdown.render(given.report("board"))
    assert re.search(r"tiny\.int8-static\.onnx</sub> .* \u2013 .*42\.0\s*MB .* \u2013 \|", text)
    assert re.search(r"tiny\.int8-static\.onnx</sub> .*109\.3\s*M .*48\.3\s*M .*44\.2\s*%", text)


@pytest.mark.parametrize("form", ["html", "md", "junit"])
def test_hostile_names_never_become_markup(given: Any, form: str) -> None:
    text = WRITERS[form](hostile(given))
    assert "<script" not in text.lower()
    assert "\x1b" not in text
    assert "\u202e" not in text
    text.encode()


def test_hostile_names_are_text_in_the_page(given: Any) -> None:
    page = Page(as_html.render(hostile(given)))
    assert "script" not in page.tags
    assert "<script>alert('1')</script>" in page.says()
    assert "\u00fc\u4e2d" in page.says()


def test_hostile_names_are_text_in_markdown(given: Any) -> None:
    text = as_markdown.render(hostile(given))
    outside_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)\]\(", outside_code)
    assert "http://" not in outside_code
    assert not re.search(r"@\w", outside_code)
    tables = re.findall(r"(?:^\|.*\n)+", outside_code, re.MULTILINE)
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_hostile_names_steer_no_terminal(given: Any) -> None:
    console = Console(width=400, force_terminal=False, file=io.StringIO())
    with console.capture() as capture:
        console.print(terminal.renderable(hostile(given)))
    assert "\x1b" not in capture.get()
    assert "<script>" in capture.get()


def test_tables_line_up_in_the_source_of_the_markdown(given: Any) -> None:
    text = as_markdown.render(given.report("board", "pi"))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(line) for line in table.splitlines()}) == 1


def test_junit_has_a_case_for_each_limit(given: Any) -> None:
    rows = tuple(
        given.measurement(one, "board", wrong=set(range(80 if one.recipe == "fp32" else 160)))
        for one in given.manifest().artifacts
    )
    report = given.report(rows=rows)
    suite = ET.fromstring(as_junit.render(report))[0]  # noqa: S314  # our own text
    assert suite.attrib["tests"] == str(len(report.checks)) == "6"
    assert suite.attrib["failures"] == str(len(suite.findall("testcase/failure"))) == "2"
    assert suite.attrib["skipped"] == str(len(suite.findall("testcase/skipped"))) == "2"
    assert "limit is 1 pp" in suite.find("testcase/failure").attrib["message"]  # type: ignore[union-attr]


def test_junit_without_limits_is_not_empty(given: Any) -> None:
    suite = ET.fromstring(as_junit.render(given.report("board", of=given.manifest(limits=None))))[0]  # noqa: S314
    assert len(suite.findall("testcase")) == 1
    assert suite.attrib["failures"] == "0"


def test_junit_has_a_case_for_each_comparison_of_devices(given: Any) -> None:
    report = given.report("board")
    row = ParityRow(
        artifact="tiny.int8-static.pte",
        artifact_sha256="",
        device="board",
        against="the build machine",
        verdict="identical",
        samples=9,
        identical=9,
        least_sqnr_db=10.0,
    )
    parity = Parity(
        model="tiny",
        target="rpi4",
        created_at=report.created_at,
        samples=(1, 2),
        devices=(ParityDevice(device="board"), ParityDevice(device="pi", error="it cannot be reached")),
        rows=(row, dataclasses.replace(row, artifact="tiny.fp32.pte", verdict="diverges", reason="3 dB are too few")),
    )
    builds = (dataclasses.replace(report.builds[0], parity=parity),)
    suite = ET.fromstring(as_junit.render(dataclasses.replace(report, builds=builds)))[1]  # noqa: S314  # our own text
    assert [(case.attrib["name"], len(case.findall("failure"))) for case in suite] == [
        ("on pi", 1),
        ("tiny.int8-static.pte on board against the build machine", 0),
        ("tiny.fp32.pte on board against the build machine", 1),
    ]
    assert "3 dB are too few" in suite[2][0].attrib["message"]


def test_the_terminal_shows_the_decision_and_a_line_for_each_artifact(given: Any) -> None:
    with (console := Console(width=120, file=io.StringIO())).capture() as capture:
        console.print(terminal.renderable(given.report("board")))
    text = capture.get()
    assert "not known yet" in text
    assert re.search(r"tiny\.int8-static\.pte\s+4\.91\s*MB\s+91\.9\s*%.*115\.9\s*M", text)
    assert "4 of 6 limits met" in text
