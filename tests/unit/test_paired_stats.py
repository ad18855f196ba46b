from __future__ import annotations

import numpy as np
import pytest

from edgeq import paired_stats as stats
from edgeq.stats import mcnemar_p_value


def test_holms_p_values_are_those_of_a_worked_example() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert stats.holm([]) == ()
    assert stats.holm([0.6, 0.9]) == (1.0, 1.0)


def test_a_class_that_loses_is_told_with_its_counts_and_comes_first() -> None:
    labels = np.repeat([3, 5, 7, 9], 20)
    reference, candidate = np.ones(80, bool), np.ones(80, bool)
    candidate[:12] = False  # class 3
    reference[20:22] = False  # class 5
    candidate[40] = reference[41] = False  # class 7

    first, second, third = stats.class_changes(reference, candidate, labels)

    assert (first.label, first.samples, first.lost, first.gained) == (3, 20, 12, 0)
    assert first.p_value == pytest.approx(4 * mcnemar_p_value(12, 0))
    assert (second.label, second.lost, second.gained) == (7, 1, 1)
    assert (third.label, third.lost, third.gained) == (5, 0, 2)


def test_what_differs_by_chance_in_a_thousand_classes_is_seldom_called_significant() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 50)
    found = 0
    for _ in range(40):
        reference, candidate = (generator.random((2, labels.size)) < 0.7).astype(bool)
        found += any(one.p_value <= 0.05 for one in stats.class_changes(reference, candidate, labels))
    assert found <= 5


def test_classes_of_another_number_of_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        stats.class_changes(np.ones(3, bool), np.ones(3, bool), np.zeros(2, np.int64))


@pytest.mark.parametrize("differing", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("drop_pp", [0.5, 1.0])
def test_so_many_samples_find_the_drop_about_four_times_of_five(drop_pp: float, differing: float) -> None:
    needed = stats.samples_to_find(drop_pp, differing=differing)
    assert needed is not None
    generator = np.random.default_rng(1)
    lost = (differing + drop_pp / 100) / 2
    cells = generator.multinomial(needed, [lost, differing - lost, 1 - differing], size=600)
    found = sum(mcnemar_p_value(int(row[0]), int(row[1])) <= 0.05 for row in cells) / 600

    assert 0.72 <= found <= 0.86  # the exact test is a little more careful than the formula


def test_a_sample_size_grows_with_the_disagreement_and_is_none_for_no_drop() -> None:
    few, many = (stats.samples_to_find(0.5, differing=share) or 0 for share in (0.005, 0.05))
    assert few < many
    assert stats.samples_to_find(0.0, differing=0.1) is None
    assert stats.samples_to_find(0.5, differing=0.0) == few
    with pytest.raises(ValueError, match="no share"):
        stats.samples_to_find(0.5, differing=1.5)
