from __future__ import annotations

import pytest

from edgeq.stages.report import figures

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (0.32, "0.320"),
        (0.9996, "1.00"),
        (999.6, "1,000"),
        (5e-7, "0.000000500"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1,234"),
        (9.999, "10.0"),
    ],
)
def test_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert figures.significant(value) == text


def test_units_stay_with_their_number() -> None:
    assert figures.ms(17.04) == f"17.0{NBSP}ms"
    assert figures.ms(0.01987) == f"19.9{NBSP}\u00b5s"
    assert figures.ms_range(17.314, 17.441) == f"17.31 to 17.44{NBSP}ms"
    assert figures.ms_range(0.01987, 0.0201) == f"19.87 to 20.10{NBSP}\u00b5s"
    assert figures.megabytes(44_512) == f"44.5{NBSP}kB"
    assert figures.megabytes(8_321_000_000) == f"8.32{NBSP}GB"
    assert figures.megabytes(4_912_345) == f"4.91{NBSP}MB"
    assert figures.millions(124_200_000) == f"124.2{NBSP}M"
    assert figures.millions(3_825_304) == f"3.83{NBSP}M"
    assert figures.some(1, "core") == "1 core"
    assert figures.thousands(154_279) == f"154{NBSP}k"
    assert figures.some(4, "core") == "4 cores"
    assert figures.some(3, "class", "classes") == "3 classes"


def test_a_share_is_called_whole_only_when_it_is() -> None:
    assert figures.percent(1.0) == f"100.0{NBSP}%"
    assert figures.percent(0.99999) == f"> 99.9{NBSP}%"
    assert figures.percent(0.00001) == f"< 0.1{NBSP}%"
    assert figures.percent(0.0) == f"0.0{NBSP}%"


def test_a_second_decimal_needs_samples_behind_it() -> None:
    assert figures.percent(0.90312, 200) == f"90.3{NBSP}%"
    assert figures.percent(0.90312, 10_000) == f"90.31{NBSP}%"
    assert figures.points(-0.126, 10_000) == f"\u22120.13{NBSP}pp"


def test_zero_has_no_sign() -> None:
    assert figures.signed(-0.001, 1) == "0.0"
    assert figures.signed(0.16, 1) == "+0.2"


def test_small_p_values_are_bounded() -> None:
    assert figures.p_value(0.0) == f"p{NBSP}<{NBSP}0.001"
    assert figures.p_value(0.0213) == f"p{NBSP}={NBSP}0.021"
    assert figures.p_value(1) == f"p{NBSP}={NBSP}1.00"


def test_identical_outputs_have_no_decibels() -> None:
    assert figures.decibels(None, identical=True) == "identical"
    assert figures.decibels(None, identical=False) == figures.NOTHING
    assert figures.decibels(16.34, identical=False) == f"16.3{NBSP}dB"


def test_moments_are_in_utc() -> None:
    assert figures.moment("2026-11-21T02:30:00+01:00") == "2026-11-21 01:30 UTC"
    assert figures.moment("yesterday") == "yesterday"


def test_lists_read_as_a_sentence() -> None:
    assert figures.listed(["a"]) == "a"
    assert figures.listed(["a", "b", "c"]) == "a, b and c"


def test_steering_characters_are_made_visible() -> None:
    hostile = "a\x1b[31mb\u202ec\nd\x00\ud800"
    assert figures.printable(hostile) == "a\ufffd[31mb\ufffdc d\ufffd\ufffd"
