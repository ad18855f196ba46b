from __future__ import annotations

import pytest

from edgeq.stages.bench.budget import Budget


def _allowed(available: int, seconds_each: float, *, seconds: float = 60.0, ahead: int = 0) -> int:
    """How many samples go out to a device that answers at a steady pace, ``ahead`` of them before each answer."""
    now = 0.0
    budget = Budget(seconds, available, clock=lambda: now)
    for sent in range(available):
        if not budget.allows(sent):
            return sent
        if sent >= ahead:
            now += seconds_each
            budget.answered()
    return available


@pytest.mark.parametrize(
    ("available", "seconds_each", "expected"),
    [
        (10_000, 0.005, 10_000),
        (10_000, 0.015, 10_000),
        (10_000, 0.030, 2_000),
        (20, 3.5, 20),
        (500, 3.5, 18),
        (500, 60.0, 10),
        (5, 100.0, 5),
    ],
)
def test_a_minute_is_used_or_three_if_that_is_enough(available: int, seconds_each: float, expected: int) -> None:
    assert _allowed(available, seconds_each) == expected


def test_what_is_on_its_way_is_all_that_is_too_much() -> None:
    assert _allowed(500, 3.5, ahead=4) == 18 + 4


def test_a_device_that_answers_nothing_gets_no_more() -> None:
    now = 0.0
    budget = Budget(60.0, 500, clock=lambda: now)
    now = 61.0
    assert budget.allows(9)
    assert not budget.allows(10)
