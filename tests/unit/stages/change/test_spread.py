from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeq.stages.change import Spread, between_sessions

if TYPE_CHECKING:
    from edgeq.records import Measurement, Observation


def like(one: Observation) -> Measurement:
    assert one.measured is not None
    return one.measured


def test_four_sessions_of_a_file_are_too_few(observe: Any) -> None:
    sessions = [observe(session=str(number), ms=4.0) for number in range(4)]
    assert between_sessions(sessions, like(sessions[0])) is None


def test_the_spread_is_that_of_the_logarithms_of_the_medians(observe: Any) -> None:
    times = (4.0, 4.1, 3.9, 4.05, 3.95)
    sessions = [observe(session=str(number), ms=ms) for number, ms in enumerate(times)]
    found = between_sessions(sessions, like(sessions[0]))
    assert found is not None
    assert found.freedom == 4
    assert found.deviation == pytest.approx(float(np.std(np.log(times), ddof=1)), rel=1e-4)


def test_a_change_of_the_file_is_not_taken_for_noise(observe: Any) -> None:
    slow = [observe(session=f"slow {number}", ms=8.0) for number in range(3)]
    fast = [observe(session=f"fast {number}", ms=4.0, artifact_sha256="another") for number in range(3)]
    found = between_sessions([*slow, *fast], like(slow[0]))
    assert found is not None
    assert found.deviation == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        {"threads": 1},
        {"cpus": (2, 3)},
        {"device": "another"},
        {"timing": "host"},
        {"artifact": "another"},
        {"unfit": ("hot",)},
    ],
)
def test_sessions_under_other_conditions_do_not_count(observe: Any, other: dict[str, Any]) -> None:
    sessions = [observe(session=str(number)) for number in range(4)]
    sessions += [observe(session=f"other {number}", **other) for number in range(4)]
    assert between_sessions(sessions, like(sessions[0])) is None


def test_a_session_that_is_known_twice_counts_once(observe: Any) -> None:
    sessions = [observe(session=str(number)) for number in range(4)]
    assert between_sessions(sessions * 3, like(sessions[0])) is None


def test_the_interval_of_equal_files_covers_one_in_95_of_100_cases() -> None:
    generator = np.random.default_rng(7)
    freedom, trials = 4, 2000
    covered = 0
    for _ in range(trials):
        sessions = generator.normal(0.0, 0.03, size=freedom + 1)
        spread = Spread(deviation=float(np.std(sessions, ddof=1)), freedom=freedom)
        low, high = spread.interval(math.exp(float(generator.normal(0.0, 0.03 * math.sqrt(2)))))
        covered += low <= 1 <= high
    assert 0.94 <= covered / trials <= 0.96
