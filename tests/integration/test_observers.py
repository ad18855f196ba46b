"""Each rule for ranges, on a tensor that needs it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeq.quantize.histogram import Histogram
from edgeq.quantize.observers import RANGES
from edgeq.quantize.statistics import TensorStatistics

LEVELS = 255
CUTTING = ("histogram", "percentile", "mse", "entropy")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observed(values: list[torch.Tensor], **how: object) -> TensorStatistics:
    statistics = TensorStatistics(**how)
    for value in values:
        assert statistics.add(value)
    return statistics


def sqnr_db(values: torch.Tensor, low: float, high: float) -> float:
    """Of ``values`` on the int8 grid from ``low`` to ``high``, with zero on the grid."""
    scale = (high - low) / LEVELS
    zero_point = round(-low / scale)
    rounded = ((values / scale).round() + zero_point).clamp(0, LEVELS).sub(zero_point) * scale
    return 10 * float(torch.log10(values.square().mean() / (rounded - values).square().mean()))


def bulk_with_one_outlier() -> list[torch.Tensor]:
    """64 samples of a normal distribution; in one of them a single value is 50 times as large as any."""
    values = [torch.randn(1, 8, 16, 16, generator=generator(seed)) for seed in range(64)]
    values[40][0, 0, 0, 0] = 250.0
    return values


@pytest.mark.parametrize("rule", CUTTING)
def test_a_rare_huge_value_does_not_take_the_steps_from_all_others(rule: str) -> None:
    values = bulk_with_one_outlier()
    bulk = torch.cat([value.flatten() for value in values])
    bulk = bulk[bulk.abs() < 10]
    statistics = observed(values)
    by_rule, by_extremes = (sqnr_db(bulk, *RANGES[name](statistics, LEVELS)) for name in (rule, "minmax"))
    assert by_extremes < 12
    assert by_rule > by_extremes + 20


@pytest.mark.parametrize("rule", sorted(RANGES))
def test_evenly_spread_values_are_not_cut(rule: str) -> None:
    values = [torch.rand(1, 8, 16, 16, generator=generator(seed)) * 5 - 2 for seed in range(40)]
    low, high = RANGES[rule](observed(values), LEVELS)
    assert low == pytest.approx(-2.0, rel=0.03)
    assert high == pytest.approx(3.0, rel=0.03)


def test_extremes_are_kept_to_the_last_value_by_minmax_alone() -> None:
    low, high = RANGES["minmax"](observed(bulk_with_one_outlier()), LEVELS)
    assert high == 250.0
    assert low == float(torch.cat(bulk_with_one_outlier()).min())


def test_a_moving_average_follows_values_that_drift() -> None:
    values = [
        torch.rand(1, 8, 8, 8, generator=generator(index)) * (10.0 if index < 200 else 1.0) for index in range(800)
    ]
    statistics = observed(values)
    low, high = RANGES["moving-average"](statistics, LEVELS)
    assert low == 0.0
    assert 1.0 < high < 1.1
    late = torch.cat(values[-100:])
    assert sqnr_db(late, low, high) > sqnr_db(late, *RANGES["minmax"](statistics, LEVELS)) + 15


def test_the_first_samples_of_a_moving_average_weigh_the_same() -> None:
    values = [torch.full((1, 4), float(size)) for size in (8.0, 2.0, 2.0, 4.0)]
    assert observed(values).average_maximum == pytest.approx(4.0)


@pytest.mark.parametrize("rule", sorted(RANGES))
def test_what_a_relu_leaves_takes_no_steps_below_zero(rule: str) -> None:
    values = [torch.randn(1, 8, 16, 16, generator=generator(seed)).relu() for seed in range(40)]
    low, high = RANGES[rule](observed(values), LEVELS)
    assert low == 0.0
    assert 1.5 < high < 6.0


@pytest.mark.parametrize("rule", sorted(RANGES))
def test_what_is_never_positive_takes_no_steps_above_zero(rule: str) -> None:
    values = [-torch.randn(1, 8, 16, 16, generator=generator(seed)).relu() for seed in range(40)]
    low, high = RANGES[rule](observed(values), LEVELS)
    assert high == 0.0
    assert -6.0 < low < -1.5


@pytest.mark.parametrize("rule", sorted(RANGES))
@pytest.mark.parametrize(
    "values",
    [torch.zeros(1, 4, 4), torch.full((1, 4, 4), 3.0), torch.full((1, 4, 4), -1e-30), torch.tensor([[[0.0, 1e30]]])],
    ids=["zeros", "constant", "tiny", "huge"],
)
def test_degenerate_tensors_give_a_range_around_zero_within_what_was_seen(rule: str, values: torch.Tensor) -> None:
    statistics = observed([values] * 3)
    low, high = RANGES[rule](statistics, LEVELS)
    assert statistics.minimum <= low <= 0.0 <= high <= statistics.maximum
    assert (low < high) == bool(values.any())


def test_a_heavy_tail_costs_least_where_every_value_was_rounded_for_real() -> None:
    values = torch.distributions.StudentT(torch.tensor(3.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = values.sample((64, 1, 2048))
    statistics = observed(list(drawn))
    scores = {rule: sqnr_db(drawn, *RANGES[rule](statistics, LEVELS)) for rule in RANGES}
    assert scores["mse"] >= max(scores.values()) - 0.02
    assert scores["mse"] > scores["minmax"] + 1


def test_mse_knows_that_zero_must_lie_on_the_grid() -> None:
    """Of 3 steps, the plain noise model would cut evenly; with a grid through zero another range fits better."""
    values = torch.cat((torch.full((900,), 1.0), torch.full((100,), -0.5))).reshape(1, 10, 100)
    statistics = observed([values])
    low, high = RANGES["mse"](statistics, 3)
    assert sqnr_of(values, low, high, 3) > sqnr_of(values, -0.5, 0.9, 3)
    assert sqnr_of(values, low, high, 3) > 25


def sqnr_of(values: torch.Tensor, low: float, high: float, levels: int) -> float:
    scale = (high - low) / levels
    zero_point = round(-low / scale)
    rounded = ((values / scale).round() + zero_point).clamp(0, levels).sub(zero_point) * scale
    return 10 * float(torch.log10(values.square().mean() / (rounded - values).square().mean()))


def test_a_percentile_holds_just_so_many_values() -> None:
    values = [torch.randn(1, 4, 50, 50, generator=generator(seed)) for seed in range(20)]
    low, high = RANGES["percentile"](observed(values), LEVELS)
    flat = torch.cat([value.flatten() for value in values])
    assert int((flat < low).sum()) <= 10  # half of a ten-thousandth of 200,000
    assert int((flat > high).sum()) <= 10
    assert int((flat < low).sum()) + int((flat > high).sum()) >= 10


def test_entropy_keeps_the_shape_of_the_bulk_rather_than_its_tail() -> None:
    """Migacz's case: what a ReLU leaves, with a thin and far tail."""
    values = [torch.randn(1, 8, 32, 32, generator=generator(seed)).relu() for seed in range(20)]
    for index, value in enumerate(values):
        value[0, 0, 0, 0] = 10.0 + index
    statistics = observed(values)
    low, high = RANGES["entropy"](statistics, LEVELS)
    assert low == 0.0
    assert 4.0 < high < 15.0
    assert RANGES["mse"](statistics, LEVELS)[1] > 25.0


def parts() -> list[torch.Tensor]:
    return [
        torch.randn(1, 3, 40, generator=generator(0)) * 1e-4,
        torch.randn(1, 3, 40, generator=generator(1)).relu() * 7,
        -torch.rand(1, 3, 40, generator=generator(2)) * 300,
        torch.zeros(1, 3, 40),
        torch.tensor([[[-(2.0**-127), 2.0**-130, 65504.0, -1.0]]]),
    ]


def same(one: Histogram, other: Histogram) -> bool:
    mine, others = one.state(), other.state()
    return all(np.array_equal(mine[name], others[name]) for name in (*mine, *others))


def counted(values: list[torch.Tensor]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value, float(value.min()), float(value.max()))
    return histogram


def test_histograms_depend_on_the_values_and_not_on_their_order() -> None:
    assert same(counted(parts()), counted(parts()[::-1]))


def test_merged_histograms_are_that_of_all_values() -> None:
    whole = counted(parts())
    assert same(counted(parts()[:2]).merged(counted(parts()[2:])), whole)
    assert same(counted(parts()[3:]).merged(counted(parts()[1:3]), counted(parts()[:1])), whole)


def test_a_histogram_counts_every_value_in_the_bin_that_holds_it() -> None:
    values = torch.randn(5000, generator=generator()) * 3
    histogram = counted([values])
    edges = (histogram.first + np.arange(len(histogram.counts) + 1)) * histogram.width
    assert 2048 <= len(histogram.counts) <= 4096
    assert np.array_equal(histogram.counts, np.histogram(values.double().numpy(), edges)[0])
    assert histogram.counts.sum() + histogram.zeros == 5000


def test_merging_statistics_gives_those_of_one_tensor_with_the_values_of_both() -> None:
    values = parts()[:3] * 12
    both = observed(values)
    merged = observed(values[::2]).merged(observed(values[1::2]))
    assert same(merged.histogram, both.histogram)
    for name in ("minimum", "maximum", "believable_minimum", "believable_maximum"):
        assert getattr(merged, name) == getattr(both, name)


@pytest.mark.parametrize("ends", [(0.0, 6.0), (-1.0, 1.0), (-2.0, 0.0), (-100.0, 100.0)])
def test_statistics_of_cut_values_are_those_of_the_values_cut(ends: tuple[float, float]) -> None:
    values = [torch.randn(1, 4, 20, 20, generator=generator(seed)) * 3 for seed in range(40)]
    cut, expected = observed(values).clamped(*ends), observed([value.clamp(*ends) for value in values])
    for name in ("minimum", "maximum", "believable_minimum", "believable_maximum"):
        assert getattr(cut, name) == pytest.approx(getattr(expected, name), rel=0.03)
    counted = [(each.histogram.zeros, each.histogram.counts.sum()) for each in (cut, expected)]
    assert counted[0][0] == counted[1][0]
    assert sum(counted[0]) == sum(counted[1]) == 40 * 1600
    for rule in ("histogram", "mse"):
        assert RANGES[rule](cut, LEVELS) == pytest.approx(RANGES[rule](expected, LEVELS), abs=0.15)


def test_one_odd_sample_of_many_is_believed_at_most_twice_as_far_as_the_others() -> None:
    values = [torch.tensor([[-1.0, 2.0]])] * 63 + [torch.tensor([[-1.0, 90.0]])]
    statistics = observed(values)
    assert statistics.maximum == 90.0
    assert statistics.believable_minimum == -1.0
    assert statistics.believable_maximum == pytest.approx(4.0, rel=0.012)
    assert observed(values[-31:]).believable_maximum == 90.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_and_changes_nothing(value: float) -> None:
    statistics = observed([torch.ones(1, 4)], channel_axis=1)
    before = statistics.state()
    assert not statistics.add(torch.tensor([[1.0, value, 0.0, 2.0]]))
    after = statistics.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_channels_are_those_of_all_samples() -> None:
    values = [torch.randn(1, 3, 5, 5, generator=generator(seed)) for seed in range(10)]
    statistics = observed(values, channel_axis=1)
    together = torch.cat(values)
    assert torch.equal(statistics.channel_minimum, together.amin(dim=(0, 2, 3)))
    assert torch.equal(statistics.channel_maximum, together.amax(dim=(0, 2, 3)))


def test_what_is_kept_is_restored_bit_by_bit() -> None:
    first, second = (TensorStatistics(channel_axis=2) for _ in range(2))
    values = [torch.randn(1, 4, 6, generator=generator(seed)) * 10.0 ** (seed % 9 - 3) for seed in range(40)]
    for value in values[:20]:
        first.add(value)
    second.restore(first.state())
    for value in values[20:]:
        first.add(value)
        second.add(value)
    one, other = first.state(), second.state()
    assert all(np.array_equal(one[name], other[name]) for name in (*one, *other))
