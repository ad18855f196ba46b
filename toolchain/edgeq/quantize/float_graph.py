"""The float graph of a model, simplified: what every recipe starts from."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING

from edgeq.errors import EmptyDatasetError
from edgeq.quantize.calibrate import calibrate
from edgeq.quantize.capture import capture, export
from edgeq.quantize.fingerprint import graph_sha256
from edgeq.quantize.fold_input import example_bytes, fold_input, range_of_bytes
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.rewrite import simplify
from edgeq.quantize.rewrite.recurrent import step_by_step
from edgeq.quantize.source import mark_origins
from edgeq.quantize.threads import torch_threads
from edgeq.quiet import quietly

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

    from edgeq.input_format import Pixels
    from edgeq.model import Dataset, Model
    from edgeq.progress import Progress
    from edgeq.quantize.statistics import Statistics
    from edgeq.recipe import Recipe
    from edgeq.records import FoldedInput


class FloatGraph:
    """A model captured and simplified once, and calibrated once, for all recipes of a build.

    The module in ``model`` is not changed. ExportError if it cannot be
    exported. ``graph`` is never changed either: a recipe works on a
    :meth:`copy`. With ``converge``, calibration stops when the ranges no
    longer move. With ``pixels``, what is exported takes their bytes, and the
    int8 input holds each of them as it is where a range can say so.
    """

    def __init__(  # noqa: PLR0913  # what a project says of it
        self,
        model: Model,
        calibration: Dataset | None,
        *,
        threads: int = 1,
        converge: bool = True,
        pixels: Pixels | None = None,
        progress: Progress,
    ) -> None:
        self.model = model.name
        self.pixels = pixels
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
        self.learned = {**model.learned, **self._ranges_of_input()}
        self._statistics: Statistics | None = None

    def copy(self) -> GraphModule:
        """The graph with tensors of its own."""
        with quietly():
            return copy.deepcopy(self.graph)

    def _ranges_of_input(self) -> dict[str, tuple[float, float]]:
        ends = None if self.pixels is None else range_of_bytes(self.pixels)
        inputs = [node.name for node in self.graph.graph.nodes if node.op == "placeholder"]
        return {} if ends is None else dict.fromkeys(inputs, ends)

    @cached_property
    def sha256(self) -> str:
        """Of the graph's code and its tensors: two equal ones compute the same."""
        return graph_sha256(self.graph)

    @cached_property
    def program(self) -> ExportedProgram:
        """The float graph as an exported program, which takes what the user's module takes."""
        return export(self.graph, self.example_inputs)

    @property
    def artifact_inputs(self) -> tuple[torch.Tensor, ...]:
        """Example inputs of what is lowered."""
        return self.example_inputs if self.pixels is None else (example_bytes(self.pixels),)

    def exported(self, graph: GraphModule) -> tuple[ExportedProgram, FoldedInput | None]:
        """A copy of the graph, quantized or not, as the program that is lowered; it is consumed."""
        folded = None if self.pixels is None else fold_input(graph, self.pixels)
        return export(graph, self.artifact_inputs), folded

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
        whole, folded = (self.program, None) if self.pixels is None else self.exported(self.copy())
        unrolled = step_by_step(self.graph)
        return QuantizedProgram(
            model=self.model,
            recipe=recipe,
            program=whole if unrolled is None else self.exported(unrolled)[0],
            looped=None if unrolled is None else whole,
            float_program=self.program,
            example_inputs=self.artifact_inputs,
            calibration=None,
            folded=folded,
        )
