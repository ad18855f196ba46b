from __future__ import annotations

import numpy as np
import pytest

from edgeq.evaluation import spread, subset


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        ([0, 1, 2, 3], 4, [0, 1, 2, 3]),
        ([0, 0, 1, 1, 2, 2], 3, [0, 2, 4]),
        ([0, -1, 1, -1, 2, -1], 3, [0, 2, 4]),
        ([0, -1, -1, -1, -1, 2], 4, [0, 1, 3, 5]),
        ([-1, -1, -1, -1], 2, [0, 2]),
        ([0, 1], 0, []),
    ],
)
def test_a_part_of_the_set_is_spread_over_it_with_labelled_samples_first(
    labels: list[int], count: int, expected: list[int]
) -> None:
    assert subset(np.array(labels), len(labels), count).tolist() == expected


def test_a_set_without_labels_is_spread_too() -> None:
    assert subset(None, 10, 3).tolist() == [0, 4, 8]


@pytest.mark.parametrize("available", [1, 2, 7, 64, 1000])
def test_the_order_has_every_sample_once_and_every_beginning_is_spread(available: int) -> None:
    order = spread(None, available)
    assert sorted(order) == list(range(available))
    for count in (available // 16, available // 5, available // 2):
        if count > 1:
            gaps = np.diff([*sorted(order[:count]), available])
            assert gaps.max() <= 4 * available / count
