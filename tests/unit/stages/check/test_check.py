from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from edgeq.errors import ConfigError, NoBaselineError, NothingToCheckError, UnknownNameError
from edgeq.records import Check, CheckResult, ComparedSide, Comparison, Limits, Manifest, Tolerances, Verdict
from edgeq.schema import to_json
from edgeq.stages import history
from edgeq.stages.bench.rows import append
from edgeq.stages.check import Request, check, failures, write
from edgeq.stages.check.writing import as_junit, as_markdown
from edgeq.testing import sample_measurement, tiny_build

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

INT8 = "tiny.int8-static.pte"


@pytest.fixture(autouse=True)
def own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_HISTORY", str(tmp_path / "history.db"))
    return tmp_path / "history.db"


def built(folder: Path, *, session: str = "one", **changes: Any) -> Manifest:
    """A build that one session has measured on an emulated board; ``changes`` are of the rows."""
    manifest = tiny_build(folder)
    measured(folder, manifest, session=session, **changes)
    return manifest


def measured(folder: Path, manifest: Manifest, *, session: str, emulated: bool = True, **changes: Any) -> None:
    for one in manifest.artifacts:
        append(folder, replace(sample_measurement(one, emulated=emulated, session=session), **changes))


def remember(folder: Path, manifest: Manifest) -> None:
    from edgeq.stages.bench import read_measurements

    assert history.remember(folder, manifest, read_measurements(folder)).why_not == ""


def checked(folder: Path, manifest: Manifest, limits: Sequence[Check] = (), **asked: Any) -> CheckResult:
    return check(folder, manifest, limits, Request(**asked))


def outcomes(result: CheckResult, artifact: str = INT8) -> dict[str, str]:
    return {one.figure: one.outcome for one in result.changes if one.artifact == artifact}


def limit(outcome: Any, device: str | None = "board") -> Check:
    return Check(build="b", artifact=INT8, device=device, limit="max_size_bytes", outcome=outcome, text="so many")


def test_a_build_is_no_worse_than_itself(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b")
    result = checked(tmp_path / "b", manifest, against=str(tmp_path / "b"))
    assert result.passed
    assert set(outcomes(result).values()) == {"same"}


def test_a_build_that_needs_more_instructions_fails_against_another(tmp_path: Path) -> None:
    built(tmp_path / "a", instructions=1_000_000)
    manifest = built(tmp_path / "b", instructions=1_100_000, session="two")
    result = checked(tmp_path / "b", manifest, against=str(tmp_path / "a"))
    assert not result.passed
    assert outcomes(result)["instructions"] == "worse"
    assert any("+10.0" in text for text in failures((), result.changes, strict=False))


def test_a_saved_baseline_says_the_same_as_the_build_it_was_saved_of(tmp_path: Path) -> None:
    before = built(tmp_path / "a", instructions=1_000_000)
    checked(tmp_path / "a", before, save=tmp_path / "baseline.json")
    manifest = built(tmp_path / "b", instructions=1_100_000, session="two")
    of_file, of_build = (
        checked(tmp_path / "b", manifest, against=str(tmp_path / name)) for name in ("baseline.json", "a")
    )
    assert of_file.changes == of_build.changes


def test_a_saved_baseline_holds_no_predictions_and_no_names_of_processes(tmp_path: Path) -> None:
    manifest = built(tmp_path / "a")
    checked(tmp_path / "a", manifest, save=tmp_path / "baseline.json")
    for one in json.loads((tmp_path / "baseline.json").read_text())["observations"]:
        assert (one["measured"]["predictions"], one["measured"]["states"]) == ([], [])
        assert one["right"] == "11111"


def test_the_session_before_is_found_in_the_history(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b", instructions=1_000_000, started_at="2026-01-01T00:00:00+00:00")
    measured(tmp_path / "b", manifest, session="two", instructions=1_200_000, started_at="2026-01-02T00:00:00+00:00")
    remember(tmp_path / "b", manifest)
    result = checked(tmp_path / "b", manifest, against="history")
    change = next(one for one in result.changes if one.figure == "instructions")
    assert (change.before, change.now, change.outcome) == (1_000_000, 1_200_000, "worse")


def test_one_session_of_the_history_is_named_by_its_beginning(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b", session="abc1", instructions=1_000_000, started_at="2026-01-01T00:00:00+00:00")
    measured(tmp_path / "b", manifest, session="abd2", started_at="2026-01-02T00:00:00+00:00", instructions=900_000)
    remember(tmp_path / "b", manifest)
    assert outcomes(checked(tmp_path / "b", manifest, against="history:abc"))["instructions"] == "better"
    for wrong, why in (("ab", "several sessions begin so"), ("x", "no session of"), ("", "no session is named")):
        with pytest.raises(NoBaselineError, match=why):
            checked(tmp_path / "b", manifest, against=f"history:{wrong}")


def test_a_first_session_has_nothing_before_it_which_is_no_mistake(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b")
    remember(tmp_path / "b", manifest)
    result = checked(tmp_path / "b", manifest, against="history")
    assert result.passed
    assert "no session before" in result.against
    assert set(outcomes(result).values()) == {"cannot tell"}
    assert not checked(tmp_path / "b", manifest, against="history", strict=True).passed


@pytest.mark.parametrize(("sessions", "outcome"), [(5, "worse"), (4, "cannot tell")])
def test_sessions_of_the_history_tell_what_latency_is_a_change(tmp_path: Path, sessions: int, outcome: str) -> None:
    manifest = tiny_build(tmp_path / "b")
    for day, ms in enumerate((4.0, 4.01, 3.99, 4.0, 4.01)[:sessions], start=1):
        times = (int(ms * 1e6),) * 30
        at = f"2026-01-0{day}T00:00:00+00:00"
        measured(tmp_path / "b", manifest, session=str(day), emulated=False, latencies_ns=times, started_at=at)
    remember(tmp_path / "b", manifest)
    rebuilt = replace(manifest, artifacts=tuple(replace(one, sha256="b" * 64) for one in manifest.artifacts))
    measured(tmp_path / "b", rebuilt, session="new", emulated=False, latencies_ns=(5_000_000,) * 30)
    assert outcomes(checked(tmp_path / "b", rebuilt, against="history:1"))["p50_ms"] == outcome


@pytest.mark.parametrize(
    ("low", "high", "verdict", "outcome"),
    [
        (0.75, 0.85, "slower", "worse"),
        (1.2, 1.3, "faster", "better"),
        (0.995, 1.005, "same", "same"),
        (0.9, 1.1, "cannot tell", "cannot tell"),
        (1.001, 1.3, "cannot tell", "cannot tell"),  # on one side of 1, and not sure enough
        (None, None, "cannot tell", "cannot tell"),
    ],
)
def test_two_builds_that_took_turns_in_one_session_are_told_by_it(
    tmp_path: Path, low: float | None, high: float | None, verdict: Verdict, outcome: str
) -> None:
    before, manifest = tiny_build(tmp_path / "a"), tiny_build(tmp_path / "b")
    manifest = replace(manifest, artifacts=tuple(replace(one, sha256="b" * 64) for one in manifest.artifacts))
    for folder, made in ((tmp_path / "a", before), (tmp_path / "b", manifest)):
        measured(folder, made, session=folder.name, emulated=False)
    row = sample_measurement(before.artifacts[1])
    sides = [
        ComparedSide(
            build="",
            artifact=INT8,
            artifact_sha256=made.artifacts[1].sha256,
            recipe="int8-static",
            runner_sha256="r",
            latencies_ns=(),
            rounds=(),
            steady_after=None,
            p50_ms=4.0,
            instructions=None,
        )
        for made in (before, manifest)
    ]
    compared = Comparison(
        session="c",
        artifact=INT8,
        device=row.device,
        device_facts=row.device_facts,
        timing="hardware",
        threads=4,
        reference=sides[0],
        candidate=sides[1],
        same_within=0.01,
        ratio=1.0,
        low=low,
        high=high,
        verdict=verdict,
        smallest_effect=None,
        instructions_ratio=None,
        cost="cannot tell",
        reason="too few rounds",
        started_at="2026-01-03T00:00:00+00:00",
    )
    older = replace(compared, low=0.1, high=0.2, started_at="2026-01-02T00:00:00+00:00")
    others = (
        replace(compared, device="other"),
        replace(compared, unfit=("hot",)),
        replace(compared, timing="emulated"),
    )
    lines = [to_json(one) for one in (older, compared, *(replace(one, low=5.0, high=6.0) for one in others))]
    (tmp_path / "b" / "comparisons.jsonl").write_text("\n".join([*lines, '{"torn']))
    result = checked(tmp_path / "b", manifest, against=str(tmp_path / "a"))
    assert outcomes(result)["p50_ms"] == outcome
    assert outcomes(result, "tiny.fp32.pte")["p50_ms"] == "cannot tell"


def test_limits_alone_can_be_checked(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b")
    assert checked(tmp_path / "b", manifest, [limit("met")]).passed
    assert not checked(tmp_path / "b", manifest, [limit("missed")]).passed


def test_cannot_tell_passes_unless_the_check_is_strict(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b")
    assert checked(tmp_path / "b", manifest, [limit("cannot tell")]).passed
    assert not checked(tmp_path / "b", manifest, [limit("cannot tell")], strict=True).passed


def test_nothing_to_hold_it_against_is_an_error(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b")
    with pytest.raises(NothingToCheckError, match="no baseline is named"):
        checked(tmp_path / "b", manifest)


def test_a_device_can_be_chosen_and_one_that_measured_nothing_is_an_error(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b")
    limits = [limit("met", None), limit("met", "board"), limit("missed", "local")]
    assert checked(tmp_path / "b", manifest, limits, devices=("board",)).limits == tuple(limits[:2])
    with pytest.raises(UnknownNameError, match="unknown device 'bord'") as refused:
        checked(tmp_path / "b", manifest, limits, devices=("bord",))
    assert refused.value.hint == "did you mean 'board'?"


def test_what_only_one_side_has_is_shown(tmp_path: Path) -> None:
    built(tmp_path / "a")
    manifest = built(tmp_path / "b", device="other")
    fewer = replace(manifest, artifacts=manifest.artifacts[:1])
    result = checked(tmp_path / "b", fewer, against=str(tmp_path / "a"))
    told = [(one.artifact, one.device, one.text) for one in result.changes if one.outcome == "cannot tell"]
    assert told == [
        ("tiny.fp32.pte", "other", "the baseline was not measured there"),
        ("tiny.fp32.pte", "board", "the baseline was measured there, this build was not"),
        (INT8, None, "the baseline has it, this build has not"),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no such file"),
        ("", "it is damaged"),
        ("{}", "missing key"),
        ('{"saved_at": "", "observations": 1}', "expected `array`"),
    ],
)
def test_what_is_no_baseline_is_told(tmp_path: Path, content: str | None, why: str) -> None:
    manifest = built(tmp_path / "b")
    if content is not None:
        (tmp_path / "file").write_text(content)
    with pytest.raises(NoBaselineError, match=why):
        checked(tmp_path / "b", manifest, against=str(tmp_path / "file"))


def test_a_folder_that_is_no_build_and_a_baseline_of_another_model_are_told(tmp_path: Path) -> None:
    manifest = built(tmp_path / "b")
    with pytest.raises(NoBaselineError, match=r"it has no manifest\.json"):
        checked(tmp_path / "b", manifest, against=str(tmp_path))
    renamed = tuple(replace(one, name=f"other.{one.recipe}.pte") for one in manifest.artifacts)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text(to_json(replace(manifest, artifacts=renamed)))
    with pytest.raises(NoBaselineError, match="it holds none of"):
        checked(tmp_path / "b", manifest, against=str(tmp_path / "other"))


def test_tolerances_come_from_the_manifest_and_the_command_line_goes_before(tmp_path: Path) -> None:
    built(tmp_path / "a", instructions=1_000_000)
    plain = built(tmp_path / "b", instructions=1_020_000)
    loose = replace(plain, tolerances=Tolerances(instructions_percent=3.0))
    against = str(tmp_path / "a")
    assert outcomes(checked(tmp_path / "b", plain, against=against))["instructions"] == "worse"
    assert outcomes(checked(tmp_path / "b", loose, against=against))["instructions"] == "same"
    tight = checked(tmp_path / "b", loose, against=against, tolerances={"instructions_percent": 1.0})
    assert outcomes(tight)["instructions"] == "worse"
    with pytest.raises(ConfigError, match="not a number from 0 to 100"):
        checked(tmp_path / "b", loose, against=against, tolerances={"instructions_percent": float("nan")})


def test_a_history_that_fails_is_noted_where_it_only_helps(tmp_path: Path, own_history: Path) -> None:
    own_history.write_text("no database" * 100)
    manifest = tiny_build(tmp_path / "b")
    measured(tmp_path / "b", manifest, session="one", emulated=False)
    result = checked(tmp_path / "b", manifest, against=str(tmp_path / "b"))
    assert "latencies are compared without it" in result.notes[0]
    with pytest.raises(ConfigError, match="is no SQLite database"):
        checked(tmp_path / "b", manifest, against="history")


@pytest.fixture
def failing(tmp_path: Path) -> CheckResult:
    built(tmp_path / "a", instructions=1_000_000)
    manifest = replace(built(tmp_path / "b", instructions=1_100_000), model="tiny | <b>", limits=Limits())
    return checked(tmp_path / "b", manifest, [limit("missed"), limit("cannot tell")], against=str(tmp_path / "a"))


def test_junit_has_a_case_for_each_outcome_and_failures_with_text(failing: CheckResult) -> None:
    suite = ET.fromstring(as_junit(failing))[0]  # noqa: S314  # our own
    assert (suite.get("failures"), suite.get("skipped")) == ("3", "1")
    assert len(suite) == len(failing.limits) + len(failing.changes)
    messages = [case[0].get("message", "") for case in suite if case[0].tag == "failure"]
    assert "so many" in messages
    assert any("1.10" in message for message in messages)


def test_a_strict_check_fails_in_junit_what_cannot_be_told(failing: CheckResult) -> None:
    suite = ET.fromstring(as_junit(replace(failing, strict=True)))[0]  # noqa: S314  # our own
    assert (suite.get("failures"), suite.get("skipped")) == ("4", "0")


def test_markdown_has_the_worst_first_and_the_rest_below_a_fold(failing: CheckResult) -> None:
    text = as_markdown(failing)
    short, full = text.split("<details>")
    assert "**failed: 1 missed, 2 worse, 1 cannot tell, " in short
    rows = [line.split(" |")[0].strip("|* ") for line in short.splitlines() if line.startswith("| ")]
    assert rows == ["Outcome", "missed", "worse", "worse", "cannot tell"]
    assert full.count("\n|") == len(failing.limits) + len(failing.changes) + 2
    assert "tiny \\| &lt;b&gt;" in text


def test_files_are_written_in_each_format(failing: CheckResult, tmp_path: Path) -> None:
    files = write(failing, ("md", "junit", "json", "md"), tmp_path / "out")
    assert [path.name for path in files] == ["check.md", "check.xml", "check.json"]
    assert json.loads(files[2].read_text())["passed"] is False
