"""The float graph of a model, simplified: what every recipe starts from."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING

from edgeq.errors import EmptyDatasetError
from edgeq.quantize.calibrate import calibrate
from edgeq.quantize.capture import capture, export
from edgeq.quantize.fingerprint import graph_sha256
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.rewrite import simplify
from edgeq.quantize.source import mark_origins
from edgeq.quantize.threads import torch_threads
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

    from edgeq.model import Dataset, Model
    from edgeq.progress import Progress
    from edgeq.quantize.statistics import Statistics
    from edgeq.recipe import Recipe


class FloatGraph:
    """A model captured and simplified once, and calibrated once, for all recipes of a build.

    The module in ``model`` is not changed. ExportError if it cannot be
    exported. ``graph`` is never changed either: a recipe works on a
    :meth:`copy`. With ``converge``, calibration stops when the ranges no
    longer move.
    """

    def __init__(
        self,
        model: Model,
        calibration: Dataset | None,
        *,
        threads: int = 1,
        converge: bool = True,
        progress: Progress,
    ) -> None:
        self.model = model.name
        self.learned = model.learned
        self.converge = converge
        self.threads = threads
        self.calibration = calibration
        # A channels-last input would be written into the .pte, which then fails whenever it runs.
        self.example_inputs = tuple(tensor.contiguous() for tensor in model.example_inputs)
        with torch_threads(threads):
            progress.step(f"exporting {model.name}")
            self.graph = capture(model.name, model.module, self.example_inputs)
            simplify(self.graph)
            mark_origins(self.graph.graph)
        self._statistics: Statistics | None = None

    def copy(self) -> GraphModule:
        """The graph with tensors of its own."""
        with quietly():
            return copy.deepcopy(self.graph)

    @cached_property
    def sha256(self) -> str:
        """Of the graph's code and its tensors: two equal ones compute the same."""
        return graph_sha256(self.graph)

    @cached_property
    def program(self) -> ExportedProgram:
        """The float graph as an exported program."""
        return export(self.graph, self.example_inputs)

    def statistics(self, *, progress: Progress) -> Statistics:
        """What one pass over the calibration samples shows of every tensor that may become int8.

        EmptyDatasetError without a sample, NonFiniteActivationError if a
        layer gives NaN or infinity for one.
        """
        if self._statistics is None:
            self._statistics = self.statistics_of(self.graph, progress=progress)
        return self._statistics

    def statistics_of(self, graph: GraphModule, *, progress: Progress) -> Statistics:
        """The same for a changed copy of the graph."""
        return calibrate(
            graph,
            self.samples(),
            tensors=frozenset(plan_int8(graph.graph).leader),
            converge=self.converge,
            progress=progress,
        )

    def samples(self) -> Dataset:
        """The calibration samples; EmptyDatasetError if the project has none."""
        if self.calibration is None:
            raise EmptyDatasetError("calibration")
        return self.calibration

    def float_twin(self, recipe: Recipe) -> QuantizedProgram:
        """The program of a ``recipe`` that quantizes nothing."""
        return QuantizedProgram(
            model=self.model,
            recipe=recipe,
            program=self.program,
            float_program=self.program,
            example_inputs=self.example_inputs,
            calibration=None,
        )
