from __future__ import annotations

import math

import numpy as np
import pytest

from edgeq.records import Layer
from edgeq.stages.parity.comparing import GOLDEN, Answer, Figures, compare, compare_layer, nearest_db

REFERENCE = np.array([[0.0, 1.0, 2.0, 4.0]], dtype=np.float32)


def _compare(*others: np.ndarray, scale: float | None = 0.5, least: float = 10.0) -> Figures:
    reference = [Answer(sample=index or GOLDEN, outputs=(REFERENCE,)) for index in range(len(others))]
    given = [Answer(sample=index or GOLDEN, outputs=(other,)) for index, other in enumerate(others)]
    return compare(reference, given, least_sqnr_db=least, scales=(scale,))


def test_the_same_bits_are_identical_also_where_they_say_nan() -> None:
    found = _compare(REFERENCE.copy(), REFERENCE.copy())
    assert (found.verdict, found.identical, found.samples, found.same_top1) == ("identical", 2, 2, 2)
    assert (found.sqnr_db, found.worst_sqnr_db, found.largest_difference) == (None, None, 0.0)
    nan = Answer(sample=1, outputs=(np.array([math.nan, 1.0]),))
    assert compare([nan], [nan], least_sqnr_db=10, scales=()).verdict == "identical"


def test_rounding_is_within_tolerance_and_told_in_steps_of_the_scale() -> None:
    other = REFERENCE + np.array([[0, 0, 0.5, 0]], dtype=np.float32)
    found = _compare(REFERENCE, other)
    assert (found.verdict, found.reason) == ("within tolerance", "")
    assert (found.identical, found.worst_sample) == (1, 1)
    assert (found.largest_difference, found.largest_difference_steps) == (0.5, 1.0)
    assert found.worst_sqnr_db == pytest.approx(10 * math.log10(21 / 0.25))
    assert found.sqnr_db == pytest.approx(10 * math.log10(42 / 0.25))


def test_steps_are_not_guessed_where_the_output_has_no_scale() -> None:
    assert _compare(REFERENCE + 0.25, scale=None).largest_difference_steps is None


def test_a_sample_with_too_much_noise_diverges_and_is_named() -> None:
    found = _compare(REFERENCE, -REFERENCE)
    assert found.verdict == "diverges"
    assert found.reason == "sample 1: -6.0 dB, at least 10 dB are due"


def test_the_least_ratio_is_the_callers_to_say() -> None:
    other = REFERENCE + np.array([[0, 0, 0.5, 0]], dtype=np.float32)
    assert _compare(other, least=60.0).verdict == "diverges"


def test_another_answer_diverges_where_noise_does_not_explain_it() -> None:
    scores = np.zeros((1, 1000), dtype=np.float32) + 1
    scores[0, 7], scores[0, 8] = 3, 1
    swapped = scores.copy()
    swapped[0, [7, 8]] = [1, 3]
    reference, other = Answer(sample=4, outputs=(scores,)), Answer(sample=4, outputs=(swapped,))
    found = compare([reference], [other], least_sqnr_db=10, scales=())
    assert found.worst_sqnr_db is not None
    assert found.worst_sqnr_db > 10
    assert (found.verdict, found.same_top1) == ("diverges", 0)
    assert found.reason.startswith("sample 4: another top-1")


def test_another_answer_among_near_equals_is_within_tolerance() -> None:
    scores, others = np.array([[2.0, 2.01, 0.0]]), np.array([[2.02, 2.01, 0.0]])
    found = compare(
        [Answer(sample=0, outputs=(scores,))],
        [Answer(sample=0, outputs=(others,))],
        least_sqnr_db=10,
        scales=(),
    )
    assert (found.verdict, found.same_top1) == ("within tolerance", 0)


@pytest.mark.parametrize("other", [np.full_like(REFERENCE, math.nan), REFERENCE[:, :2]])
def test_what_is_not_finite_or_of_another_shape_diverges_without_a_ratio(other: np.ndarray) -> None:
    found = _compare(other)
    assert (found.verdict, found.worst_sqnr_db, found.worst_sample) == ("diverges", None, GOLDEN)
    assert "the golden input: of another shape, or not finite" in found.reason


def test_only_outputs_that_both_sides_know_are_compared() -> None:
    mine = Answer(sample=0, outputs=(REFERENCE,))
    theirs = Answer(sample=0, outputs=(REFERENCE, REFERENCE + 9))
    assert compare([mine], [theirs], least_sqnr_db=10, scales=(None, None)).verdict == "identical"


def test_an_output_without_scores_has_no_top1() -> None:
    one = Answer(sample=0, outputs=(np.array([[0.5]]),))
    assert compare([one], [one], least_sqnr_db=10, scales=()).same_top1 is None


def test_a_layer_is_judged_by_its_own_ratio() -> None:
    layer = Layer(node="conv2d", op="Conv")
    near = compare_layer(layer, REFERENCE, REFERENCE + np.float32(0.01), least_sqnr_db=10)
    far = compare_layer(layer, REFERENCE, -REFERENCE, least_sqnr_db=10)
    assert (near.identical, near.diverges, far.diverges) == (False, False, True)
    assert nearest_db([REFERENCE], [REFERENCE.copy()]) == math.inf
