"""Outputs of one artifact from two machines, held against each other: pure numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeq import stats
from edgeq.records import LayerParity, ParityVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Layer

GOLDEN = None
"""The number of the golden input, which is no sample of the evaluation set."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All outputs of one sample of the evaluation set, or of the golden input."""

    sample: int | None
    outputs: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How near two machines are; the fields are those of :class:`edgeq.records.ParityRow`."""

    verdict: ParityVerdict
    reason: str
    samples: int
    identical: int
    same_top1: int | None
    sqnr_db: float | None
    worst_sample: int | None
    worst_sqnr_db: float | None
    largest_difference: float | None
    largest_difference_steps: float | None


def compare(
    reference: Sequence[Answer],
    other: Sequence[Answer],
    *,
    least_sqnr_db: float,
    scales: Sequence[float | None],
) -> Figures:
    """Hold ``other`` against ``reference``, the same samples in the same order, with at least one.

    They diverge where the ratio of signal to noise of a sample is less than
    ``least_sqnr_db``, or its top-1 is another one that a noise of that
    strength does not explain: the reference's lead over the other's answer
    is more than twice the noise's root mean square. Where one side knows
    fewer outputs of a sample those are compared. ``scales`` are the steps
    of outputs that are read from int8.
    """
    pairs = [
        (mine.sample, list(zip(mine.outputs, theirs.outputs, strict=False)))
        for mine, theirs in zip(reference, other, strict=True)
    ]
    sqnrs = [min(_sqnr_db(one, two) for one, two in outputs) for _, outputs in pairs]
    worst = int(np.argmin(sqnrs))
    steps = [
        _largest_difference(one, two) / scale
        for _, outputs in pairs
        for (one, two), scale in zip(outputs, scales, strict=False)
        if scale
    ]
    scored = all(outputs[0][0].size > 1 for _, outputs in pairs)
    reason = next(
        (
            said
            for (sample, outputs), sqnr in zip(pairs, sqnrs, strict=True)
            if (said := _why_diverges(sample, outputs[0], sqnr, least_sqnr_db, scored=scored))
        ),
        "",
    )
    same = math.isinf(min(sqnrs)) and min(sqnrs) > 0
    return Figures(
        verdict="diverges" if reason else "identical" if same else "within tolerance",
        reason=reason,
        samples=len(pairs),
        identical=sum(sqnr == math.inf for sqnr in sqnrs),
        same_top1=sum(_top1(one) == _top1(two) for _, ((one, two), *_rest) in pairs) if scored else None,
        sqnr_db=_finite(_whole_sqnr_db([outputs[0] for _, outputs in pairs])),
        worst_sample=pairs[worst][0],
        worst_sqnr_db=_finite(sqnrs[worst]),
        largest_difference=_finite(max(_largest_difference(*pair) for _, outputs in pairs for pair in outputs)),
        largest_difference_steps=_finite(max(steps)) if steps else None,
    )


def compare_layer(layer: Layer, reference: np.ndarray, other: np.ndarray, *, least_sqnr_db: float) -> LayerParity:
    """Hold one layer's result against the build machine's."""
    sqnr = _sqnr_db(reference, other)
    return LayerParity(
        layer=layer,
        identical=sqnr == math.inf,
        diverges=sqnr < least_sqnr_db,
        sqnr_db=_finite(sqnr),
        largest_difference=_finite(_largest_difference(reference, other)),
    )


def nearest_db(reference: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The ratio of the output that differs most, infinite where all are the same bits."""
    return min(_sqnr_db(one, two) for one, two in zip(reference, other, strict=True))


def name_of(sample: int | None) -> str:
    """What a person calls it."""
    return "the golden input" if sample is GOLDEN else f"sample {sample}"


def _why_diverges(
    sample: int | None, outputs: tuple[np.ndarray, np.ndarray], sqnr: float, least_sqnr_db: float, *, scored: bool
) -> str:
    reference, other = (output.reshape(-1).astype(np.float64) for output in outputs)
    if sqnr < least_sqnr_db:
        apart = f"{sqnr:.1f} dB" if math.isfinite(sqnr) else "of another shape, or not finite"
        return f"{name_of(sample)}: {apart}, at least {least_sqnr_db:g} dB are due"
    if not scored or _top1(reference) == _top1(other):
        return ""
    lead = reference.max() - reference[_top1(other)]
    noise = math.sqrt(float(np.square(reference).mean())) * 10 ** (-least_sqnr_db / 20)
    if lead <= 2 * noise:
        return ""
    return f"{name_of(sample)}: another top-1, {lead:.3g} behind the right one where noise explains {2 * noise:.3g}"


def _sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Infinite for the same bits, also where those say NaN; minus infinity for other shapes."""
    if reference.shape != other.shape or not reference.size:
        return math.inf if reference.shape == other.shape else -math.inf
    if reference.dtype == other.dtype and reference.tobytes() == other.tobytes():
        return math.inf
    return stats.sqnr_db(reference, other)  # +0 and -0 are one value, and no difference


def _whole_sqnr_db(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Over the first outputs of all samples."""
    if any(one.shape != two.shape for one, two in pairs):
        return -math.inf
    return _sqnr_db(*(np.concatenate([pair[side].reshape(-1) for pair in pairs]) for side in (0, 1)))


def _largest_difference(reference: np.ndarray, other: np.ndarray) -> float:
    if reference.shape != other.shape:
        return math.inf
    if not reference.size or reference.tobytes() == other.tobytes():
        return 0.0
    return float(np.abs(reference.astype(np.float64) - other.astype(np.float64)).max())


def _top1(scores: np.ndarray) -> int:
    return int(stats.top1(scores.reshape(1, -1))[0])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
