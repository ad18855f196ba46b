"""What a recipe does to the numbers of a model: the record that ``edgeq explain --numerics`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.quantize.findings import find
from edgeq.quantize.sensitivity import affordable_samples, measure, that_round
from edgeq.records import LayerNumerics, NumericFinding, Numerics

if TYPE_CHECKING:
    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.quantize.sensitivity import Sensitivity
    from edgeq.quantize.static import Settled
    from edgeq.target import Target

_DOMINANT = 0.5
_AUDIBLE_DB = 30.0
"""Above this, hardly an answer changes; no layer needs a remedy."""


def numerics_of(
    recipe: str, settled: Settled, calibration: Dataset, *, saturating: bool = False, progress: Progress
) -> Numerics:
    """Measure every operation that rounds, and look for known patterns.

    To be called before the graph is emitted; it is not changed. A few
    samples of ``calibration`` are read: as many as take some seconds.
    ``saturating`` is what :func:`sums_saturate` says of the target.
    """
    scheme = settled.scheme
    operations = that_round(scheme)
    samples = affordable_samples(operations)
    found = measure(settled.graph, scheme, operations, calibration, samples=samples, progress=progress)
    return Numerics(
        recipe=recipe,
        samples=found.samples,
        final_sqnr_db=found.final_sqnr_db,
        answers_changed=found.answers_changed,
        layers=found.operations,
        findings=(*_dominant(found), *find(settled.graph, scheme, settled.statistics, saturating=saturating)),
    )


def sums_saturate(target: Target) -> bool:
    """Whether ONNX Runtime multiplies uint8 by int8 there with instructions that cut sums of two to int16."""
    vnni = {"avx_vnni", "avx512_vnni"} & set(target.features)
    onnxruntime = target.runtimes.onnxruntime
    unsigned = onnxruntime is not None and onnxruntime.activations == "uint8"
    return target.triple.startswith("x86_64") and unsigned and not vnni


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
