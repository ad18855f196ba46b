"""Static post-training quantization: scales from one pass over the calibration samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.bias import MeanInputs, correct_biases
from edgeq.quantize.observer import ActivationObserver
from edgeq.quantize.pt2e import convert_pt2e, prepare_pt2e
from edgeq.quantize.quantizer import Int8Quantizer
from edgeq.quantize.ranges import fit_to_kernels
from edgeq.quantize.source import source_of
from edgeq.quantize.tidy import tidy
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.recipe import Recipe


def quantize_static(graph: GraphModule, recipe: Recipe, calibration: Dataset, *, progress: Progress) -> GraphModule:
    """Turn the simplified float ``graph`` into one with int8 weights and quantize/dequantize pairs.

    ``graph`` is consumed. EmptyDatasetError if there is no sample,
    NonFiniteActivationError if a layer gives NaN or infinity for one.
    """
    with quietly():
        prepared = prepare_pt2e(graph, Int8Quantizer(per_channel=recipe.per_channel))
    _name_observers(prepared)
    means = _calibrate(prepared, calibration, progress=progress)
    fit_to_kernels(prepared)
    correct_biases(prepared, means)
    progress.step("converting to int8")
    with quietly():
        converted: GraphModule = convert_pt2e(prepared)
    tidy(converted)
    return converted


def _calibrate(prepared: GraphModule, calibration: Dataset, *, progress: Progress) -> MeanInputs:
    progress.step("calibrating")
    means = MeanInputs(prepared)
    with torch.no_grad():
        for count, sample in enumerate(calibration, 1):
            means.observe(sample.inputs)
            progress.advance(count, calibration.samples)
    return means


def _name_observers(prepared: GraphModule) -> None:
    """Tell each observer which layer it watches, for its errors."""
    for node in prepared.graph.nodes:
        if node.op == "call_module":
            observer = getattr(prepared, str(node.target))
            if isinstance(observer, ActivationObserver) and not observer.where:
                watched = node.args[0]
                observer.where = source_of(watched) or watched.name
