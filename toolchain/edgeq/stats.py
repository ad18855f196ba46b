"""Pure numbers: what is derived from raw samples and counts.

Nothing here reads or writes anything. Every function takes arrays or counts
and returns a number, an interval or a verdict; its docstring gives the
formula and where it comes from. Intervals are two-sided, 95 % unless
``confidence`` says otherwise. Every random draw is seeded, so the same rows
always give the same report. docs/measuring.md says it in prose.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeq.resampling import Clusters, Rounds, drawn_rounds, expanded_percentiles, student_t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_ROUNDS = 5
"""Fewer rounds than this give no interval: the spread between them is what an interval is made of."""

MEDIAN = 50
"""In percent."""

MIN_TAIL_ROUNDS = 10
MIN_IN_TAIL = 4
"""Below these a percentile above the median has no interval. In simulations, ones of 95 % then hold the truth 80 to 96
times of a hundred, and with fewer as seldom as 68 times."""

SAME_WITHIN = 0.02
"""Two medians whose ratio certainly lies within 1 +- this are called the same."""

NO_ANSWER = -2
"""The top-1 of a sample whose scores hold NaN."""

_CHUNK = 1 << 22
_POWER = 0.8
_SURE = 0.98
"""One-sided: at most four of a hundred equal pairs are called different, half of them in each direction."""


@dataclass(frozen=True, kw_only=True)
class MedianRatio:
    """Median of a reference over the median of a candidate: above 1, the candidate is faster.

    ``low`` and ``high`` are None when there are too few rounds for an
    interval. ``smallest_effect`` is the relative difference that rounds as
    noisy as these show in 80 of 100 cases, None likewise.
    """

    ratio: float
    low: float | None
    high: float | None
    verdict: Literal["faster", "slower", "same", "cannot tell"]
    smallest_effect: float | None = None


@dataclass(frozen=True, kw_only=True)
class PairedDrop:
    """How much worse a candidate scores than a reference on the same samples.

    ``drop_pp`` is in percentage points, positive when the candidate is
    worse; ``low_pp`` and ``high_pp`` bound it. ``lost`` samples were right
    in the reference alone, ``gained`` ones in the candidate alone.
    ``p_value`` is the chance of a split at least this uneven when neither
    is better.
    """

    drop_pp: float
    low_pp: float
    high_pp: float
    p_value: float
    lost: int
    gained: int


def percentile(samples: Sequence[int], percent: float) -> float | None:
    """The value below which ``percent`` of the samples lie, linear between order statistics.

    Hyndman and Fan (1996), definition 7, as in numpy. None when there are
    fewer than ``100 / (100 - percent)`` samples: the tail that the figure
    is about would then hold none of them.
    """
    if len(samples) * (100 - percent) < 100:  # noqa: PLR2004  # per cent
        return None
    return float(np.percentile(np.asarray(samples, dtype=np.float64), percent))


def interquartile_mean(samples: Sequence[int]) -> float:
    """The mean of the middle half of the samples: hardly moved by outliers, and not bound to the ticks of a clock.

    A sample that lies partly inside counts as far as it does.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("there is no sample")
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    quarter = len(ordered) / 4
    position = np.arange(len(ordered))
    weights = np.clip(np.minimum(position + 1, len(ordered) - quarter) - np.maximum(position, quarter), 0.0, 1.0)
    return float((ordered * weights).sum() / weights.sum())


def split_rounds(samples: Sequence[int], lengths: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Samples in the order they were taken, cut into rounds of ``lengths``.

    Raises:
        ValueError: the lengths do not add up to the number of samples.
    """
    if sum(lengths) != len(samples):
        raise ValueError(f"rounds of {list(lengths)} do not make up {len(samples)} samples")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return tuple(tuple(samples[end - length : end]) for end, length in zip(ends, lengths, strict=True))


def percentile_interval(rounds: Rounds, percent: float, *, confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval of the value below which ``percent`` of all samples in ``rounds`` lie.

    Samples of one round resemble each other (temperature, clock, layout of
    memory), so whole rounds are drawn with replacement, never single
    samples: the cluster bootstrap of Davison and Hinkley (1997, section
    3.8), the top level of Kalibera and Jones (2013). The percentiles are
    widened for the number of rounds as in Hesterberg (2015, "expanded
    percentile interval"), since a plain one is too narrow for few. No draw
    reaches beyond the largest sample, so an interval far out in a tail that
    few samples show would be too narrow (Davison and Hinkley, section 2.6).

    Returns:
        (low, high) in the unit of the samples, or None below MIN_ROUNDS
        rounds, and for a percentile above the median also below
        MIN_TAIL_ROUNDS, and with fewer than MIN_IN_TAIL samples above it.

    Raises:
        ValueError: there is no round, or an empty one.
    """
    clusters = Clusters.of(rounds)
    if len(rounds) < (MIN_TAIL_ROUNDS if percent > MEDIAN else MIN_ROUNDS):
        return None
    if percent > MEDIAN and clusters.ordered.size * (100 - percent) < 100 * MIN_IN_TAIL:
        return None
    return expanded_percentiles(clusters.percentiles(drawn_rounds(len(rounds)), percent), len(rounds), confidence)


def median_ratio(
    reference: Rounds, candidate: Rounds, *, same_within: float = SAME_WITHIN, confidence: float = 0.95
) -> MedianRatio:
    """Ratio of medians of two artifacts that were measured in turn, round by round.

    Round i of both happened side by side, so each draw takes the same
    rounds of both: what drifts over a session cancels out. The interval is
    that of :func:`percentile_interval`, of the ratio; Kalibera and Jones (2012)
    on why an effect size with an interval and not a test.

    The verdict is "same" when the whole interval lies within 1 +-
    ``same_within``, else "faster" or "slower" when it lies on one side of 1
    and the ratio's logarithm is more than ``t(0.98) s`` from 0, else
    "cannot tell"; s is its standard error, t Student's over the rounds. So
    the bootstrap and Student's t agree wherever two are called different.
    The smallest effect is ``(t(0.98) + t(0.8)) s`` (Cohen 1988, section
    2.4, for a difference of means).

    Raises:
        ValueError: the two have different numbers of rounds, or there is an empty round.
    """
    if len(reference) != len(candidate):
        raise ValueError(f"{len(reference)} rounds against {len(candidate)}: not measured in turn")
    first, second = Clusters.of(reference), Clusters.of(candidate)
    count = len(reference)
    once = np.ones((1, count), dtype=np.int64)
    ratio = float(first.percentiles(once, MEDIAN)[0] / second.percentiles(once, MEDIAN)[0])
    if count < MIN_ROUNDS:
        return MedianRatio(ratio=ratio, low=None, high=None, verdict="cannot tell")
    drawn = drawn_rounds(count)
    ratios = first.percentiles(drawn, MEDIAN) / second.percentiles(drawn, MEDIAN)
    low, high = expanded_percentiles(ratios, count, confidence)
    error = float(np.log(ratios).std()) * math.sqrt(count / (count - 1))  # redrawing n rounds finds (n - 1) / n of it
    sure = student_t_quantile(_SURE, count - 1) * error
    verdict: Literal["faster", "slower", "same", "cannot tell"] = "cannot tell"
    if 1 - same_within <= low and high <= 1 + same_within:
        verdict = "same"
    elif low > 1 and math.log(ratio) > sure:
        verdict = "faster"
    elif high < 1 and math.log(ratio) < -sure:
        verdict = "slower"
    effect = math.expm1(sure + student_t_quantile(_POWER, count - 1) * error)
    return MedianRatio(ratio=ratio, low=low, high=high, verdict=verdict, smallest_effect=effect)


def wilson_interval(successes: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion, ``successes`` of ``total``: the score interval of Wilson (1927).

    ``(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)``. It stays
    within 0 and 1 and keeps its coverage near both ends and for small n,
    where p +- z se does not (Brown, Cai and DasGupta 2001).

    Raises:
        ValueError: ``total`` is not positive or ``successes`` lies outside 0..total.
    """
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"{successes} of {total} is no proportion")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == total else (centre + half) / scale
    return low, high


def mcnemar_p_value(lost: int, gained: int) -> float:
    """Exact two-sided p-value that two classifiers, judged on the same samples, are equally good.

    Of the ``lost + gained`` samples that only one of them got right, each
    is as likely to be either's when they are equal: twice the smaller tail
    of Binomial(n, 1/2), at most 1. McNemar (1947); Dietterich (1998) on its
    use for classifiers. 1.0 when they never differ.
    """
    n, smaller = lost + gained, min(lost, gained)
    term = tail = 1
    for k in range(smaller):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def samples_to_show(drop_pp: float, *, chance: float = 0.05) -> int | None:
    """The fewest samples on which a drop of ``drop_pp`` percentage points can be more than chance.

    At best every sample that differs is lost. Of those it takes the n with
    which :func:`mcnemar_p_value` of (n, 0), ``2 * 2**-n``, is at most
    ``chance``: six for 0.05. None for no drop at all, which no number of
    samples shows.
    """
    if drop_pp <= 0:
        return None
    losses = next(n for n in itertools.count(1) if mcnemar_p_value(n, 0) <= chance)
    return math.ceil(round(losses * 100 / drop_pp, 6))


def paired_drop(
    reference_right: NDArray[np.bool_], candidate_right: NDArray[np.bool_], *, confidence: float = 0.95
) -> PairedDrop:
    """Compare two classifiers on the same samples; arrays of shape (samples,), true where right.

    The interval of the drop is that of Agresti and Min (2005): half a
    sample is added to each of the four cells, then
    ``d +- z sqrt((b + c) - (b - c)^2 / n) / n`` with b lost and c gained.
    It has width even when the two never differ, as it should.

    Raises:
        ValueError: the shapes differ, or there are no samples.
    """
    if reference_right.shape != candidate_right.shape or reference_right.size == 0:
        raise ValueError(f"no pairs in shapes {reference_right.shape} and {candidate_right.shape}")
    total = reference_right.size
    lost = int((reference_right & ~candidate_right).sum())
    gained = int((~reference_right & candidate_right).sum())
    n = total + 2
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (lost - gained) / n
    half = z * math.sqrt(lost + gained + 1 - (lost - gained) ** 2 / n) / n
    return PairedDrop(
        drop_pp=100 * (lost - gained) / total,
        low_pp=100 * max(-1.0, centre - half),
        high_pp=100 * min(1.0, centre + half),
        p_value=mcnemar_p_value(lost, gained),
        lost=lost,
        gained=gained,
    )


def sqnr_db(reference: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """Signal-to-quantization-noise ratio of ``other`` against ``reference``, in decibels.

    ``10 log10(sum(reference^2) / sum((reference - other)^2))`` over all
    elements, in float64. Identical arrays have no noise and give
    ``math.inf``; JSON has no infinity, so a record stores None for that.
    NaN or infinite elements, and a silent reference that ``other`` does not
    match, give ``-math.inf``: no ratio can be claimed.

    Raises:
        ValueError: the shapes differ, or there are no elements.
    """
    if reference.shape != other.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {other.shape}")
    if reference.size == 0:
        raise ValueError("no elements to compare")
    signal_power = noise_power = 0.0
    flat, other_flat = reference.reshape(-1), other.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        signal = flat[start : start + _CHUNK].astype(np.float64)
        compared = other_flat[start : start + _CHUNK].astype(np.float64)
        if not (np.isfinite(signal).all() and np.isfinite(compared).all()):
            return -math.inf
        signal_power += float(np.square(signal).sum())
        noise_power += float(np.square(signal - compared).sum())
    if noise_power == 0.0:
        return math.inf
    return 10 * math.log10(signal_power / noise_power) if signal_power else -math.inf


def top1(outputs: NDArray[np.generic]) -> NDArray[np.int64]:
    """The index of the largest score of each sample; ``outputs`` is (samples, ...), the result (samples,).

    The first of equal scores wins, on every runtime alike. A sample with
    NaN among its scores has NO_ANSWER, which equals no label.

    Raises:
        ValueError: the samples have no scores.
    """
    scores = outputs.reshape(len(outputs), math.prod(outputs.shape[1:]))
    if scores.shape[1] == 0:
        raise ValueError(f"no scores in outputs of shape {outputs.shape}")
    best: NDArray[np.int64] = scores.argmax(axis=1).astype(np.int64)
    best[np.isnan(scores).any(axis=1)] = NO_ANSWER
    return best


def agreements(reference: NDArray[np.generic], other: NDArray[np.generic]) -> int:
    """How many samples have the same top-1 in both outputs, each of shape (samples, ...).

    Raises:
        ValueError: the numbers of samples differ.
    """
    if len(reference) != len(other):
        raise ValueError(f"{len(reference)} samples against {len(other)}")
    first = top1(reference)
    return int(((first == top1(other)) & (first != NO_ANSWER)).sum())
