"""What a recipe does to the numbers of a model: the record that ``edgeq explain --numerics`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.quantize.findings import find
from edgeq.quantize.sensitivity import affordable_samples, measure, that_round
from edgeq.records import LayerNumerics, NumericFinding, Numerics

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.quantize.scheme import Scheme
    from edgeq.quantize.sensitivity import Sensitivity
    from edgeq.quantize.statistics import Statistics

_DOMINANT = 0.5
_AUDIBLE_DB = 30.0
"""Above this, hardly an answer changes; no layer needs a remedy."""


def numerics_of(  # noqa: PLR0913  # all that a scheme came from
    recipe: str,
    graph: GraphModule,
    scheme: Scheme,
    statistics: Statistics,
    calibration: Dataset,
    *,
    saturating: bool = False,
    progress: Progress,
) -> Numerics:
    """Measure every operation of ``scheme`` that rounds, and look for known patterns.

    ``graph`` is the float graph as it is about to be emitted; it is not
    changed. ``statistics`` are those that ``scheme`` was settled with. A few
    samples of ``calibration`` are read: as many as take some seconds.
    ``saturating`` is that of :func:`edgeq.quantize.findings.find`.
    """
    operations = that_round(scheme)
    samples = affordable_samples(operations)
    found = measure(graph, scheme, operations, calibration, samples=samples, progress=progress)
    return Numerics(
        recipe=recipe,
        samples=found.samples,
        final_sqnr_db=found.final_sqnr_db,
        answers_changed=found.answers_changed,
        layers=found.operations,
        findings=(*_dominant(found), *find(graph, scheme, statistics, saturating=saturating)),
    )


def _dominant(found: Sensitivity) -> tuple[NumericFinding, ...]:
    """A layer that makes most of the noise, where there is enough of it to matter."""
    worst = max(found.operations, key=lambda row: row.noise_share, default=None)
    if worst is None or found.final_sqnr_db is None or found.final_sqnr_db > _AUDIBLE_DB or _alone(found.operations):
        return ()
    if worst.kind != "layer" or worst.noise_share <= _DOMINANT:
        return ()
    name = worst.module or worst.node
    finding = NumericFinding(
        code="dominant-layer",
        layer=name,
        source=worst.source,
        sentence=f"{name} ({worst.node}) makes {100 * worst.noise_share:.0f} % of the noise at the model's output with "
        f"{100 * worst.mac_share:.2g} % of its MACs",
        remedy=f'a recipe of your own with keep_float = ["{name}"]; int8-mixed finds such layers by itself',
        numbers={"noise_share": worst.noise_share, "mac_share": worst.mac_share},
    )
    return (finding,)


def _alone(operations: tuple[LayerNumerics, ...]) -> bool:
    return sum(row.noise_share > 0 for row in operations) < 3  # noqa: PLR2004  # of two, one always makes half
