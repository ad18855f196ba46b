from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from edgeq.records import Tolerances
from edgeq.stages import history
from edgeq.stages.history import place_of_build, shown
from edgeq.stages.history.trend import Trend, trend


def trend_of(shop: Any, *sessions: dict[str, Any]) -> Trend:
    for day, changes in enumerate(sessions, start=1):
        rows = shop.rows(f"day {day}", started_at=f"2026-01-0{day}T00:00:00+00:00", **changes)
        history.remember(shop.build, shop.manifest, rows)
    past = history.read(place_of_build(shop.build), history.Wanted(model="tiny"))
    return trend(past, "tiny", Tolerances())


def text_of(found: Trend) -> str:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(shown.renderable(found))
    return captured.get()


def test_each_artifact_on_each_device_is_a_series(shop: Any) -> None:
    found = trend_of(shop, {}, {}, {"device": "pi"})
    assert [(one.device, one.artifact, len(one.points)) for one in found.series] == [
        ("fake", "tiny.fp32.pte", 2),
        ("fake", "tiny.int8-static.pte", 2),
        ("pi", "tiny.fp32.pte", 1),
        ("pi", "tiny.int8-static.pte", 1),
    ]
    assert [(one.id, one.device, one.artifacts) for one in found.sessions] == [
        ("day 1", "fake", 2),
        ("day 2", "fake", 2),
        ("day 3", "pi", 2),
    ]


def test_the_last_is_held_against_the_first(shop: Any) -> None:
    found = trend_of(shop, {"peak_rss_bytes": 8_000_000}, {"peak_rss_bytes": 9_000_000}, {"peak_rss_bytes": 16_000_000})
    change = next(one for one in found.series[0].changes if one.figure == "peak_rss_bytes")
    assert (change.outcome, change.difference) == ("worse", pytest.approx(100))


def test_one_session_has_nothing_to_be_held_against(shop: Any) -> None:
    assert all(one.changes == () for one in trend_of(shop, {}).series)


def test_an_emulated_row_has_no_latency(shop: Any) -> None:
    found = trend_of(shop, {"timing": "emulated", "instructions": 1_000_000})
    assert [(point.p50_ms, point.instructions) for one in found.series for point in one.points] == [
        (None, 1_000_000),
        (None, 1_000_000),
    ]


def test_a_person_sees_a_line_for_each_figure_and_the_sessions(shop: Any) -> None:
    text = text_of(trend_of(shop, {"peak_rss_bytes": 8_000_000}, {"peak_rss_bytes": 16_000_000}))
    assert "fake, built for rpi4" in text
    assert "▁█" in text
    assert "worse" in text
    assert "c0ffee" in text
    assert "day 2" in text


def test_nothing_measured_says_what_to_run(shop: Any) -> None:
    assert "nothing was measured of tiny yet" in text_of(trend_of(shop))
    assert "run edgeq bench" in text_of(trend_of(shop))


@pytest.mark.parametrize(
    ("values", "bars"),
    [((1.0,), "▁"), ((1.0, 2.0, 3.0), "▁▅█"), ((100.0, 100.1, 99.9), "▅▅▄"), ((0.0, 0.0), "▁▁"), ((3.0, 1.0), "█▁")],
)
def test_a_bar_is_as_high_as_its_value_and_noise_looks_flat(values: tuple[float, ...], bars: str) -> None:
    assert shown.spark(values) == bars
