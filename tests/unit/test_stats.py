from __future__ import annotations

import math

import numpy as np
import pytest

from edgeq import stats
from edgeq.resampling import Rounds, student_t_quantile

MS = 1_000_000


def median_interval(rounds: Rounds) -> tuple[float, float] | None:
    return stats.percentile_interval(rounds, stats.MEDIAN)


def simulated_rounds(seed: int, *, rounds: int, each: int, median_ms: float, between: float = 0.01) -> list[list[int]]:
    """Latencies in ns: log-normal within a round, and rounds that differ among themselves by ``between``."""
    generator = np.random.default_rng(seed)
    level = median_ms * np.exp(between * generator.normal(size=(rounds, 1)))
    times: list[list[int]] = (level * np.exp(0.01 * generator.normal(size=(rounds, each))) * MS).astype(int).tolist()
    return times


def test_a_percentile_is_linear_between_order_statistics() -> None:
    assert stats.percentile([10, 20, 30, 40], 50) == 25
    assert stats.percentile(list(range(101)), 90) == 90


def test_a_percentile_whose_tail_holds_no_sample_is_not_given() -> None:
    assert stats.percentile(list(range(99)), 99) is None
    assert stats.percentile(list(range(100)), 99) == pytest.approx(98.01)
    assert stats.percentile([], 50) is None


def test_samples_are_cut_into_their_rounds_in_order() -> None:
    assert stats.split_rounds([1, 2, 3, 4, 5], [2, 3]) == ((1, 2), (3, 4, 5))


def test_rounds_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="do not make up 3 samples"):
        stats.split_rounds([1, 2, 3], [2, 2])


def test_the_interval_of_a_median_is_the_same_each_time() -> None:
    rounds = simulated_rounds(1, rounds=10, each=20, median_ms=5)
    assert median_interval(rounds) == median_interval(rounds)


def test_the_interval_of_a_median_covers_the_truth_about_95_times_in_100() -> None:
    covered = 0
    for seed in range(100):
        interval = median_interval(simulated_rounds(seed, rounds=10, each=10, median_ms=5))
        assert interval is not None
        covered += interval[0] <= 5 * MS <= interval[1]
    assert 90 <= covered <= 100


def test_the_interval_of_a_90th_percentile_covers_the_truth_as_often_as_is_said() -> None:
    truth = np.percentile(np.concatenate(simulated_rounds(1000, rounds=400, each=100, median_ms=5)), 90)
    covered = 0
    for seed in range(100):
        interval = stats.percentile_interval(simulated_rounds(seed, rounds=10, each=20, median_ms=5), 90)
        assert interval is not None
        covered += interval[0] <= truth <= interval[1]
    assert 80 <= covered <= 100


def test_a_tail_that_few_samples_show_has_no_interval() -> None:
    few, many = (simulated_rounds(1, rounds=10, each=each, median_ms=5) for each in (10, 40))
    assert stats.percentile_interval(few, 99) is None
    assert stats.percentile_interval(few, 90) is not None
    assert stats.percentile_interval(many, 99) is not None
    assert stats.percentile_interval(simulated_rounds(1, rounds=9, each=100, median_ms=5), 99) is None


def test_rounds_that_differ_give_a_wider_interval_than_the_same_samples_shuffled() -> None:
    drifting = simulated_rounds(2, rounds=10, each=50, median_ms=5, between=0.05)
    shuffled = np.random.default_rng(0).permutation(np.array(drifting).ravel()).reshape(10, 50).tolist()
    wide, narrow = median_interval(drifting), median_interval(shuffled)
    assert wide is not None
    assert narrow is not None
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_rounds_may_differ_in_length() -> None:
    assert median_interval([[7], [7, 7], [7], [7, 7, 7], [7]]) == (7, 7)


def test_too_few_rounds_give_no_interval() -> None:
    assert median_interval([[1, 2, 3]] * (stats.MIN_ROUNDS - 1)) is None
    ratio = stats.median_ratio([[20, 20]], [[10, 10]])
    assert (ratio.ratio, ratio.low, ratio.high, ratio.verdict) == (2.0, None, None, "cannot tell")


def test_an_empty_round_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        median_interval([[1], []])
    with pytest.raises(ValueError, match="no round"):
        median_interval([])


def test_half_the_time_is_faster_and_twice_the_time_is_slower() -> None:
    slow = simulated_rounds(3, rounds=10, each=20, median_ms=10)
    fast = simulated_rounds(4, rounds=10, each=20, median_ms=5)
    ratio = stats.median_ratio(slow, fast)
    assert ratio.verdict == "faster"
    assert ratio.ratio == pytest.approx(2, rel=0.02)
    assert ratio.low is not None
    assert ratio.high is not None
    assert 1.9 < ratio.low < 2 < ratio.high < 2.1
    assert stats.median_ratio(fast, slow).verdict == "slower"


def test_a_ratio_surely_within_two_percent_is_the_same() -> None:
    one = simulated_rounds(5, rounds=20, each=50, median_ms=5, between=0.001)
    other = simulated_rounds(6, rounds=20, each=50, median_ms=5.02, between=0.001)
    assert stats.median_ratio(one, other).verdict == "same"
    assert stats.median_ratio(one, other, same_within=0.001).verdict != "same"


def test_an_interval_across_one_and_wider_than_two_percent_cannot_tell() -> None:
    one = simulated_rounds(7, rounds=6, each=10, median_ms=5, between=0.1)
    other = simulated_rounds(8, rounds=6, each=10, median_ms=5, between=0.1)
    assert stats.median_ratio(one, other).verdict == "cannot tell"


def test_a_drift_that_both_artifacts_share_cancels_out() -> None:
    drift = np.linspace(1, 2, 10)[:, np.newaxis]
    slow = (np.array(simulated_rounds(9, rounds=10, each=20, median_ms=6, between=0)) * drift).astype(int).tolist()
    fast = (np.array(simulated_rounds(10, rounds=10, each=20, median_ms=5, between=0)) * drift).astype(int).tolist()
    ratio = stats.median_ratio(slow, fast)
    assert ratio.verdict == "faster"
    assert ratio.low is not None
    assert ratio.low > 1.1


def test_a_session_shows_its_smallest_effect_in_about_four_of_five_cases() -> None:
    effects, shown = [], 0
    for seed in range(0, 200, 2):
        one = simulated_rounds(seed, rounds=10, each=5, median_ms=5, between=0.02)
        other = simulated_rounds(seed + 1, rounds=10, each=5, median_ms=5, between=0.02)
        found = stats.median_ratio(one, other, same_within=1e-9)
        assert found.smallest_effect is not None
        effects.append(found.smallest_effect)
    effect = float(np.median(effects))
    for seed in range(1000, 1200, 2):
        one = simulated_rounds(seed, rounds=10, each=5, median_ms=5 * (1 + effect), between=0.02)
        other = simulated_rounds(seed + 1, rounds=10, each=5, median_ms=5, between=0.02)
        shown += stats.median_ratio(one, other, same_within=1e-9).verdict == "faster"
    assert 68 <= shown <= 94


def test_different_numbers_of_rounds_were_not_measured_in_turn() -> None:
    with pytest.raises(ValueError, match="not measured in turn"):
        stats.median_ratio([[1], [2]], [[1]])


def test_the_wilson_interval_matches_a_published_example() -> None:
    # Newcombe (1998), table I: 81 of 263.
    low, high = stats.wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_the_wilson_interval_has_width_at_both_ends() -> None:
    # Newcombe (1998), table I: 0 of 20.
    low, high = stats.wilson_interval(0, 20)
    assert low == 0
    assert high == pytest.approx(0.1611, abs=5e-5)
    low, high = stats.wilson_interval(20, 20)
    assert high == 1
    assert low == pytest.approx(0.8389, abs=5e-5)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_an_impossible_proportion_is_refused(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        stats.wilson_interval(successes, total)


@pytest.mark.parametrize(
    ("lost", "gained", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (3, 3, 1.0), (5, 0, 2 / 32), (5, 1, 14 / 64), (0, 10, 2 / 1024), (1, 5, 14 / 64)],
)
def test_mcnemar_is_the_two_sided_binomial(lost: int, gained: int, expected: float) -> None:
    assert stats.mcnemar_p_value(lost, gained) == pytest.approx(expected)


def test_mcnemar_stays_exact_for_thousands_of_pairs() -> None:
    # The normal approximation with continuity correction, good to three digits here.
    z = (5000 - 4800 - 1) / math.sqrt(9800)
    assert stats.mcnemar_p_value(5000, 4800) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert stats.mcnemar_p_value(3000, 0) == 0.0


def test_a_paired_drop_counts_only_what_one_of_them_got_right() -> None:
    reference = np.array([True] * 90 + [False] * 10)
    candidate = reference.copy()
    candidate[:6] = False
    candidate[90:92] = True
    drop = stats.paired_drop(reference, candidate)
    assert (drop.lost, drop.gained) == (6, 2)
    assert drop.drop_pp == pytest.approx(4.0)
    assert drop.p_value == pytest.approx(2 * (1 + 8 + 28) / 2**8)
    # Agresti and Min (2005): (6.5 - 2.5)/102 +- 1.96 sqrt(9 - 16/102)/102
    assert drop.low_pp == pytest.approx(100 * (4 - 1.959964 * math.sqrt(9 - 16 / 102)) / 102, abs=1e-4)
    assert drop.high_pp == pytest.approx(100 * (4 + 1.959964 * math.sqrt(9 - 16 / 102)) / 102, abs=1e-4)


def test_no_difference_on_a_few_samples_does_not_prove_there_is_none() -> None:
    drop = stats.paired_drop(np.ones(20, dtype=bool), np.ones(20, dtype=bool))
    assert drop.drop_pp == 0
    assert drop.p_value == 1
    assert drop.high_pp > 5


def test_a_paired_drop_needs_pairs() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        stats.paired_drop(np.ones(2, dtype=bool), np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="no pairs"):
        stats.paired_drop(np.ones(0, dtype=bool), np.ones(0, dtype=bool))


def test_sqnr_of_a_tenth_of_the_amplitude_is_twenty_decibels() -> None:
    reference = np.array([[1.0, -2.0], [3.0, 0.5]], dtype=np.float32)
    assert stats.sqnr_db(reference, reference * 1.1) == pytest.approx(20, abs=1e-3)


def test_sqnr_of_rounding_to_a_grid_is_that_of_the_uniform_noise_model() -> None:
    signal = np.random.default_rng(0).uniform(-1, 1, 100_000)
    step = 2 / 255
    # Bennett (1948): signal power 1/3, noise power step^2 / 12.
    assert stats.sqnr_db(signal, np.round(signal / step) * step) == pytest.approx(10 * math.log10(4 / step**2), abs=0.1)


def test_identical_arrays_have_infinite_sqnr() -> None:
    assert stats.sqnr_db(np.arange(4), np.arange(4)) == math.inf
    assert stats.sqnr_db(np.zeros(4), np.zeros(4)) == math.inf


def test_nothing_is_claimed_of_values_that_are_no_numbers() -> None:
    assert stats.sqnr_db(np.array([1.0, math.nan]), np.array([1.0, 1.0])) == -math.inf
    assert stats.sqnr_db(np.array([1.0, 1.0]), np.array([1.0, math.inf])) == -math.inf
    assert stats.sqnr_db(np.zeros(2), np.ones(2)) == -math.inf


def test_sqnr_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, other = np.random.default_rng(1).normal(size=(2, 100, 7)).astype(np.float32)
    whole = stats.sqnr_db(reference, other)
    monkeypatch.setattr(stats, "_CHUNK", 64)
    assert stats.sqnr_db(reference, other) == pytest.approx(whole)


def test_top1_is_the_first_of_the_largest_scores_over_all_axes() -> None:
    outputs = np.array([[[1.0, 3.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 9.0]]], dtype=np.float32)
    assert stats.top1(outputs).tolist() == [1, 3]
    assert stats.top1(np.array([[3, 1], [1, 3]], dtype=np.int8)).tolist() == [0, 1]


def test_a_sample_with_nan_has_no_answer_and_agrees_with_nothing() -> None:
    broken = np.array([[math.nan, 1.0], [0.0, 1.0]])
    assert stats.top1(broken).tolist() == [stats.NO_ANSWER, 1]
    assert stats.agreements(broken, broken) == 1


def test_outputs_without_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        stats.top1(np.ones((3, 0)))


def test_agreement_needs_the_same_samples() -> None:
    with pytest.raises(ValueError, match="2 samples against 3"):
        stats.agreements(np.ones((2, 4)), np.ones((3, 4)))


def test_sqnr_does_not_wrap_around_in_integers() -> None:
    assert stats.sqnr_db(np.array([127, -128], dtype=np.int8), np.array([-128, 127], dtype=np.int8)) < 0


def test_sqnr_of_arrays_that_do_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        stats.sqnr_db(np.ones(2), np.ones((2, 1)))
    with pytest.raises(ValueError, match="no elements"):
        stats.sqnr_db(np.ones(0), np.ones(0))


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)])
def test_quantiles_of_student_t_match_the_tables(freedom: int, expected: float) -> None:
    assert student_t_quantile(0.975, freedom) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("drop_pp", "samples"), [(0.5, 1200), (0.3, 2000), (1.0, 600), (100.0, 6), (0.0, None)])
def test_as_few_samples_as_can_show_a_drop_lose_six_and_gain_none(drop_pp: float, samples: int | None) -> None:
    assert stats.mcnemar_p_value(5, 0) > 0.05 >= stats.mcnemar_p_value(6, 0)
    assert stats.samples_to_show(drop_pp) == samples


@pytest.mark.parametrize(
    ("samples", "mean"),
    [([5], 5), ([1, 3], 2), ([0, 1, 2, 1000], 1.5), ([0, 0, 1, 1, 1, 1, 2, 900], 1), ([3, 1, 2], 2)],
)
def test_the_middle_half_of_samples_has_a_mean(samples: list[int], mean: float) -> None:
    assert stats.interquartile_mean(samples) == pytest.approx(mean)


def test_the_mean_of_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no sample"):
        stats.interquartile_mean([])
