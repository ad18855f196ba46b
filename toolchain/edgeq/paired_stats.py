"""Two classifiers judged on the same samples, class by class, and how many samples a difference takes to be seen.

Pure numbers, as in :mod:`edgeq.stats`.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from edgeq.records import ClassChange
from edgeq.stats import mcnemar_p_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def class_changes(
    reference_right: NDArray[np.bool_], candidate_right: NDArray[np.bool_], labels: NDArray[np.int64]
) -> tuple[ClassChange, ...]:
    """Every class in which the two differ, those that lost most first; all arrays of shape (samples,).

    Each class is a test of its own, and of a thousand tests fifty are below
    0.05 by chance. So the p-values are those of :func:`holm` over all
    classes that have a sample: the chance that any class at all is below
    0.05 is 0.05 where nothing has changed.

    Raises:
        ValueError: the shapes differ.
    """
    if not reference_right.shape == candidate_right.shape == labels.shape:
        raise ValueError(f"shapes differ: {reference_right.shape}, {candidate_right.shape}, {labels.shape}")
    classes, index = np.unique(labels, return_inverse=True)
    counts = [
        np.bincount(index[chosen], minlength=len(classes)).tolist()
        for chosen in (slice(None), reference_right & ~candidate_right, ~reference_right & candidate_right)
    ]
    rows = list(zip(classes.tolist(), *counts, strict=True))
    corrected = holm([mcnemar_p_value(lost, gained) for _, _, lost, gained in rows])
    changed = [
        ClassChange(label=label, samples=samples, lost=lost, gained=gained, p_value=p_value)
        for (label, samples, lost, gained), p_value in zip(rows, corrected, strict=True)
        if lost or gained
    ]
    return tuple(sorted(changed, key=lambda one: (one.gained - one.lost, one.p_value, one.label)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values adjusted for their number, in the order given: Holm's sequentially rejective method (1979).

    The k-th smallest of n is multiplied by ``n - k + 1``; none is smaller
    than one before it, none above 1. Holds however the tests depend on each other.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)


def samples_to_find(drop_pp: float, *, differing: float, power: float = 0.8, chance: float = 0.05) -> int | None:
    """How many samples find a true drop of ``drop_pp`` percentage points ``power`` of the time, by McNemar's test.

    ``differing`` is the share of samples that only one of the two gets
    right. With d the drop as a share and psi the larger of ``differing``
    and d, ``(z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2``, two-sided:
    Connor (1987), after Miettinen (1968). None for no drop.

    Raises:
        ValueError: ``differing`` is no share.
    """
    if not 0 <= differing <= 1:
        raise ValueError(f"{differing} is no share")
    if drop_pp <= 0:
        return None
    drop = drop_pp / 100
    psi = max(differing, drop)
    chance_z, power_z = NormalDist().inv_cdf(1 - chance / 2), NormalDist().inv_cdf(power)
    root = chance_z * math.sqrt(psi) + power_z * math.sqrt(max(0.0, psi - drop * drop))
    return math.ceil(round((root / drop) ** 2, 6))
