"""A built file on the evaluation data of its case, in its own runtime, against the float model on the same samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeq import stats
from edgeq.host import HostRuntime

if TYPE_CHECKING:
    from accuracy.built import Built
    from accuracy.cases import Case

UNLABELLED = -1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    ``detail`` is what a search settled on, ``problem`` why there are no
    figures. Shares are from 0 to 1.
    """

    model: str
    flow: str
    format: str = ""
    detail: str = ""
    problem: str = ""
    correct: int = 0
    labelled: int = 0
    top1_ci95: tuple[float, float] | None = None
    drop_pp: float | None = None
    drop_ci95_pp: tuple[float, float] | None = None
    drop_p_value: float | None = None
    lost: int = 0
    gained: int = 0
    agree: int = 0
    total: int = 0
    sqnr_db: float | None = None
    int8_mac_share: float = 0.0
    build_seconds: float = 0.0
    build_cpu_seconds: float = 0.0


def outputs(built: Built, case: Case) -> np.ndarray:
    """The model's first output for every sample, one row each."""
    runtime = HostRuntime(built.path, built.form)
    return np.stack([runtime.run((sample[None],))[0][0] for sample in case.evaluation])


def scored(case: Case, flow: str, built: Built, own: np.ndarray, reference: np.ndarray) -> Row:
    """The figures of ``own`` outputs, held against the ``reference`` ones of the float model."""
    labelled = case.labels != UNLABELLED
    before, after = ((stats.top1(rows) == case.labels)[labelled] for rows in (reference, own))
    drop = stats.paired_drop(before, after)
    sqnr = stats.sqnr_db(reference, own)
    return Row(
        model=case.name,
        flow=flow,
        format=built.form,
        detail=built.detail,
        correct=int(after.sum()),
        labelled=int(labelled.sum()),
        top1_ci95=stats.wilson_interval(int(after.sum()), int(labelled.sum())),
        drop_pp=drop.drop_pp,
        drop_ci95_pp=(drop.low_pp, drop.high_pp),
        drop_p_value=drop.p_value,
        lost=drop.lost,
        gained=drop.gained,
        agree=stats.agreements(reference, own),
        total=len(own),
        sqnr_db=sqnr if math.isfinite(sqnr) else None,
        int8_mac_share=built.int8_share,
        build_seconds=built.time.wall,
        build_cpu_seconds=built.time.cpu,
    )
