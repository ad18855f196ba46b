"""What the trials of a search amount to: which of them is best, and what may be said of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeq import stats
from edgeq.stages.report.evidence import CHANCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeq.records import Outcome, Trial


def best_of(trials: Iterable[Trial]) -> Trial:
    """The scored trial that loses least; among equals the one nearest to fp32's outputs, the not finite last."""
    scored = [trial for trial in trials if trial.drop_pp is not None]
    return min(scored, key=lambda trial: (trial.drop_pp, -_nearness(trial)))


def _nearness(trial: Trial) -> float:
    """Of its outputs to fp32's, in dB."""
    if trial.sqnr_db is None:
        return math.inf if trial.identical else -math.inf
    return trial.sqnr_db


def cheapest_of(trials: Iterable[Trial]) -> Trial | None:
    """The trial within the budget that leaves the fewest MACs in float; None if there is none."""
    met = [trial for trial in trials if trial.outcome == "met"]
    return min(met, key=lambda trial: trial.float_macs or 0) if met else None


def too_few(trial: Trial, limit_pp: float) -> bool:
    """Whether the drop of a trial may be chance, on samples that could not show one of ``limit_pp`` either."""
    may_be_chance = trial.drop_p_value is not None and trial.drop_p_value > CHANCE
    return may_be_chance and _cannot_show(trial.labelled, limit_pp)


def verdict(chosen: Trial, trials: Iterable[Trial], limit_pp: float) -> tuple[Outcome, str]:
    """Whether the one ``chosen`` of ``trials`` keeps the budget on the samples judged, and the evidence in a sentence.

    "met" is what was measured, within the budget; the sentence says so
    where the samples are too few to show more than that. What does not keep
    it is "cannot tell" where its drop may be chance and they are too few,
    else "missed". What failed is named where nothing keeps the budget.
    """
    told = f"a drop of {chosen.drop_pp:.2f} pp on {chosen.labelled:,} samples"
    limits = _limits_of_evidence(chosen.labelled, limit_pp)
    if chosen.outcome == "met":
        return "met", f"{_told(chosen)} keeps {limit_pp:g} pp: {told}{limits}"
    failed = "".join(f"; {trial.recipe} failed: {trial.error}" for trial in trials if trial.outcome == "failed")
    best = f"no recipe keeps {limit_pp:g} pp; the best, {_told(chosen)}, has {told}{failed}"
    return ("cannot tell", best + limits) if too_few(chosen, limit_pp) else ("missed", best)


def _told(trial: Trial) -> str:
    """The recipe, and how much of the model it leaves in float."""
    layers = len(trial.keep_float)
    return trial.recipe + (f" with {layers} layer{'s' if layers > 1 else ''} in float" if layers else "")


def _limits_of_evidence(labelled: int, limit_pp: float) -> str:
    """What so many samples cannot show, and how many could; nothing where they are enough."""
    if not _cannot_show(labelled, limit_pp):
        return ""
    needed = stats.samples_to_show(limit_pp)
    return f"; {labelled:,} samples cannot show {limit_pp:g} pp" + (f"; {needed:,} could" if needed else "")


def _cannot_show(labelled: int, limit_pp: float) -> bool:
    needed = stats.samples_to_show(limit_pp)
    return needed is None or labelled < needed
