from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import Change, ThreadsTried, Tolerances
from edgeq.stages.change import Spread, of_the_file, on_the_device
from edgeq.testing import sample_facts

if TYPE_CHECKING:
    from edgeq.records import Observation


def on_device(before: Observation, now: Observation, figure: str, spread: Spread | None = None) -> Change:
    found = {one.figure: one for one in on_the_device(before, now, Tolerances(), spread)}
    return found[figure]


def of_file(before: Observation, now: Observation, figure: str) -> Change:
    return {one.figure: one for one in of_the_file(before, now, Tolerances())}[figure]


@pytest.mark.parametrize(
    ("now", "outcome"),
    [(1_000_000, "same"), (1_004_000, "same"), (996_000, "same"), (1_006_000, "worse"), (994_000, "better")],
)
def test_instructions_have_no_noise_and_half_a_percent_is_a_change(observe: Any, now: int, outcome: str) -> None:
    first = observe(emulated=True, instructions=1_000_000)
    second = observe(emulated=True, instructions=now, session="two")
    assert on_device(first, second, "instructions").outcome == outcome


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"runner_sha256": "e" * 64}, "different builds of the runner"),
        ({"threads": 2}, "different numbers of threads: 1, now 2"),
        ({"device_facts": replace(sample_facts(emulated=True), cpu="cortex-a76")}, "cortex-a72, now cortex-a76"),
        ({"instructions": None}, "one of the two does not have it"),
    ],
)
def test_instructions_of_another_core_runner_or_thread_count_cannot_be_compared(
    observe: Any, change: dict[str, Any], why: str
) -> None:
    found = on_device(observe(emulated=True), observe(emulated=True, **change), "instructions")
    assert found.outcome == "cannot tell"
    assert why in found.text


def test_instructions_are_never_compared_across_precisions(observe: Any) -> None:
    first = observe(emulated=True, instructions=1_000_000)
    second = replace(observe(emulated=True, instructions=2_000_000, session="two"), int8_mac_share=0.9)
    found = on_device(first, second, "instructions")
    assert (found.outcome, "different precisions: 100.0" in found.text) == ("cannot tell", True)


def test_an_emulators_clock_is_never_compared(observe: Any) -> None:
    figures = [one.figure for one in on_the_device(observe(emulated=True), observe(emulated=True), Tolerances(), None)]
    assert "p50_ms" not in figures


def test_two_sessions_alone_tell_nothing_of_latency(observe: Any) -> None:
    found = on_device(observe(ms=4.0), observe(ms=8.0, session="two"), "p50_ms")
    assert found.outcome == "cannot tell"
    assert found.difference == pytest.approx(100)
    assert "edgeq compare" in found.text


@pytest.mark.parametrize(("now", "outcome"), [(4.2, "worse"), (3.8, "better"), (4.0, "same"), (4.04, "same")])
def test_latency_is_told_where_sessions_are_known_to_differ_by_less(observe: Any, now: float, outcome: str) -> None:
    spread = Spread(deviation=0.002, freedom=8)
    assert on_device(observe(ms=4.0), observe(ms=now), "p50_ms", spread).outcome == outcome


def test_a_difference_that_sessions_have_anyway_is_not_a_change(observe: Any) -> None:
    spread = Spread(deviation=0.05, freedom=8)
    assert on_device(observe(ms=4.0), observe(ms=4.3), "p50_ms", spread).outcome == "cannot tell"


def test_two_that_each_have_their_fastest_number_of_threads_are_compared(observe: Any) -> None:
    tried = (ThreadsTried(threads=1, latencies_ns=(5,), rounds=(1,)),)
    spread = Spread(deviation=0.002, freedom=8)
    chosen = on_device(observe(threads=2, tried=tried), observe(threads=1, tried=tried, ms=5.0), "p50_ms", spread)
    told = on_device(observe(threads=2), observe(threads=1, ms=5.0), "p50_ms", spread)
    assert (chosen.outcome, told.outcome) == ("worse", "cannot tell")


@pytest.mark.parametrize("change", [{"unfit": ("it is hot",)}, {"test_faults": True}])
def test_a_device_that_was_not_fit_tells_nothing_of_latency(observe: Any, change: dict[str, Any]) -> None:
    found = on_device(observe(), observe(ms=8.0, **change), "p50_ms", Spread(deviation=0.002, freedom=8))
    assert found.outcome == "cannot tell"


def test_latency_with_another_governor_cannot_be_compared(observe: Any) -> None:
    other = observe(device_facts=replace(sample_facts(), governor="performance"))
    found = on_device(observe(), other, "p50_ms", Spread(deviation=0.002, freedom=8))
    assert (found.outcome, "set otherwise" in found.text) == ("cannot tell", True)


@pytest.mark.parametrize(
    ("right", "outcome"),
    [
        ("1" * 860 + "0" * 140, "worse"),
        ("1" * 940 + "0" * 60, "better"),
        ("1" * 896 + "0" * 104, "cannot tell"),
    ],
)
def test_accuracy_is_paired_on_the_same_samples(observe: Any, right: str, outcome: str) -> None:
    changed = replace(observe(right=right, session="two"), artifact_sha256="another")
    assert on_device(observe(), changed, "accuracy").outcome == outcome


def test_a_file_that_is_the_same_and_answers_the_same_is_as_accurate_however_few_the_samples(observe: Any) -> None:
    assert on_device(observe(right="10"), observe(right="10"), "accuracy").outcome == "same"


def test_few_samples_without_a_difference_leave_room_for_one(observe: Any) -> None:
    other = replace(observe(right="1" * 20), artifact_sha256="another")
    assert on_device(observe(right="1" * 20), other, "accuracy").outcome == "cannot tell"


def test_a_shorter_run_is_held_against_the_beginning_of_the_longer_one(observe: Any) -> None:
    found = on_device(observe(right="1" * 500 + "0" * 500), observe(right="1" * 500), "accuracy")
    assert (found.outcome, found.before, found.now) == ("same", 1.0, 1.0)


@pytest.mark.parametrize(
    ("right", "outcome"), [("1" * 800 + "0" * 200, "worse"), ("1" * 890 + "0" * 110, "cannot tell")]
)
def test_accuracy_on_other_samples_is_told_by_two_intervals(observe: Any, right: str, outcome: str) -> None:
    found = on_device(observe(), replace(observe(right=right), labels_sha256="others"), "accuracy")
    assert found.outcome == outcome
    assert "cannot be paired" in found.text


def test_memory_has_its_own_tolerance(observe: Any) -> None:
    before, more, much_more = (observe(peak_rss_bytes=size) for size in (8_000_000, 8_300_000, 8_900_000))
    assert on_device(before, more, "peak_rss_bytes").outcome == "same"
    assert on_device(before, much_more, "peak_rss_bytes").outcome == "worse"


def test_a_file_that_grew_and_one_that_is_less_in_int8_are_worse(observe: Any) -> None:
    grown = replace(observe(), size_bytes=4000, int8_mac_share=0.9, delegated_mac_share=1.0)
    outcomes = {one.figure: one.outcome for one in of_the_file(observe(), grown, Tolerances())}
    assert outcomes == {"size_bytes": "worse", "int8_mac_share": "worse", "delegated_mac_share": "same"}


def test_what_got_better_is_told_too(observe: Any) -> None:
    was = replace(observe(), size_bytes=4000, delegated_mac_share=0.5)
    assert of_file(was, observe(), "size_bytes").outcome == "better"
    assert of_file(was, observe(), "delegated_mac_share").outcome == "better"


def test_tolerances_are_taken(observe: Any) -> None:
    grown = replace(observe(), size_bytes=1050)
    loose = {one.figure: one.outcome for one in of_the_file(observe(), grown, Tolerances(size_percent=6.0))}
    assert (of_file(observe(), grown, "size_bytes").outcome, loose["size_bytes"]) == ("worse", "same")


def test_a_count_that_was_nothing_is_compared_all_the_same(observe: Any) -> None:
    found = on_device(observe(peak_rss_bytes=0), observe(peak_rss_bytes=8_000_000), "peak_rss_bytes")
    assert (found.outcome, found.difference) == ("worse", 800_000_000)
