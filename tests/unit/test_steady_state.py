from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeq.steady_state import FEWEST, by_position, change_of_level, steady_from

if TYPE_CHECKING:
    from collections.abc import Callable

Series = np.ndarray

TRIALS = 200


def _noise(rng: np.random.Generator, runs: int, spread: float = 0.01) -> Series:
    return 1e6 * (1 + spread * rng.standard_normal(runs))


def _resembling(rng: np.random.Generator, runs: int, like_the_last: float, spread: float) -> Series:
    """Noise whose every value resembles the one before: AR(1)."""
    values, shocks = np.zeros(runs), spread * rng.standard_normal(runs)
    for index in range(1, runs):
        values[index] = like_the_last * values[index - 1] + shocks[index]
    return 1e6 * (1 + values)


def _share(found: Callable[[], object]) -> float:
    return sum(bool(found()) for _ in range(TRIALS)) / TRIALS


@pytest.mark.parametrize("runs", [20, 60, 300])
def test_noise_alone_is_no_change_of_level(runs: int) -> None:
    rng = np.random.default_rng(1)

    assert _share(lambda: change_of_level(_noise(rng, runs, 0.05)) is not None) <= 0.03


@pytest.mark.parametrize("runs", [60, 300])
def test_noise_that_resembles_itself_is_seldom_taken_for_a_change(runs: int) -> None:
    rng = np.random.default_rng(2)

    assert _share(lambda: change_of_level(_resembling(rng, runs, 0.6, 0.01)) is not None) <= 0.1


def test_spikes_are_no_change_of_level() -> None:
    rng = np.random.default_rng(3)

    def spiked() -> Series:
        return _noise(rng, 60) * np.where(rng.random(60) < 0.05, 6, 1)

    assert _share(lambda: change_of_level(spiked()) is not None) <= 0.03


@pytest.mark.parametrize("slow", [6, 12, 30])
def test_a_step_is_found_where_it_is(slow: int) -> None:
    rng = np.random.default_rng(4)

    def cut() -> int | None:
        samples = _noise(rng, 60)
        samples[:slow] *= 1.1
        return steady_from(samples)

    assert _share(lambda: (found := cut()) is not None and abs(found - slow) <= 2) >= 0.9


def test_a_step_upwards_is_a_step() -> None:
    samples = _noise(np.random.default_rng(5), 60)
    samples[25:] *= 1.2

    assert steady_from(samples) == 25


def test_several_steps_are_cut_off_one_by_one() -> None:
    samples = _noise(np.random.default_rng(6), 200)
    samples[:40] *= 2
    samples[40:90] *= 1.3

    assert steady_from(samples) == 90


def test_a_decay_is_steady_where_it_has_gone() -> None:
    samples = _noise(np.random.default_rng(7), 100) * (1 + 0.5 * np.exp(-np.arange(100) / 8))
    found = steady_from(samples)

    assert found is not None
    assert 12 <= found <= 45


def test_a_ramp_is_never_steady() -> None:
    samples = _noise(np.random.default_rng(8), 100) * np.linspace(1, 2, 100)

    assert steady_from(samples) is None


def test_a_change_near_the_end_leaves_too_little_to_be_sure_of() -> None:
    samples = _noise(np.random.default_rng(9), 60)
    samples[48:] *= 1.3

    assert steady_from(samples) is None


def test_a_difference_that_decides_nothing_is_no_change() -> None:
    samples = _noise(np.random.default_rng(10), 400, 0.001)
    samples[200:] *= 1.015

    assert steady_from(samples) == 0


@pytest.mark.parametrize("samples", [(), (5,) * (FEWEST - 1)])
def test_of_a_few_runs_nothing_can_be_said(samples: tuple[int, ...]) -> None:
    assert steady_from(samples) is None


def test_a_clock_with_coarse_ticks_is_steady() -> None:
    rng = np.random.default_rng(11)

    assert steady_from((7,) * FEWEST) == 0
    assert steady_from(np.round(_noise(rng, 60, 0.3) / 1e6)) == 0


def test_what_no_single_round_shows_all_of_them_together_do() -> None:
    rng = np.random.default_rng(12)
    rounds = [_noise(rng, 20, 0.1) * np.where(np.arange(20) < 6, 1.12, 1) * rng.uniform(0.8, 1.2) for _ in range(10)]
    alone = sum(change_of_level(each) is not None for each in rounds)
    levels = by_position([each.astype(int).tolist() for each in rounds])

    assert alone <= 5
    assert change_of_level(levels) in range(4, 9)


def test_rounds_of_unlike_lengths_are_held_together_as_far_as_the_shortest() -> None:
    assert by_position([(1, 2, 3), (2, 4, 6, 4)]) == (0.5, 1.0, 1.5)


def test_a_slow_drift_does_not_hide_a_step() -> None:
    samples = 1e6 + np.arange(60.0)
    samples[:30] *= 2

    assert steady_from(samples) == 30
