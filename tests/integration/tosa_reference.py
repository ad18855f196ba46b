"""A program for an Ethos-U, run on this machine: its partitions in Arm's TOSA reference model, the rest in torch.

TOSA says what each of its operators gives, to the bit, and an Ethos-U gives that: Vela is handed the same bytes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
import tosa_reference_model
from npu_models import arguments
from torch.fx import Interpreter

from edgeq.lower import ethos_u

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np


class Reference:
    """What an NPU and the core beside it would give for the program that was lowered inside of :func:`recorded`."""

    def __init__(self) -> None:
        self.programs: dict[bytes, bytes] = {}
        self.edge: Any = None

    def run(self, inputs: Sequence[torch.Tensor]) -> list[np.ndarray]:
        held = self.edge.exported_program()
        return [output.numpy() for output in _Run(held.graph_module, self.programs).run(*arguments(held, inputs))]


class _Run(Interpreter):
    def __init__(self, module: torch.fx.GraphModule, programs: dict[bytes, bytes]) -> None:
        super().__init__(module)
        self._programs = programs

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is not torch.ops.higher_order.executorch_call_delegate:
            return super().call_function(target, args, kwargs)
        delegate, *inputs = args
        outputs, status = tosa_reference_model.run(
            self._programs[bytes(delegate.processed_bytes)], [tensor.contiguous().numpy() for tensor in inputs]
        )
        assert status == tosa_reference_model.GraphStatus.TOSA_VALID
        return [torch.from_numpy(output) for output in outputs]


@contextlib.contextmanager
def recorded() -> Iterator[Reference]:
    """Keep the program that is lowered inside the block, and the TOSA of each partition by what Vela makes of it."""
    reference = Reference()
    backend, lower, compile_partition = (
        ethos_u.ethos_u_backend,
        ethos_u.to_edge_transform_and_lower,
        ethos_u.ethos_u_backend.vela_compile,
    )

    def keep_edge(*args: Any, **others: Any) -> Any:
        reference.edge = lower(*args, **others)
        return reference.edge

    def keep_tosa(tosa: bytes, flags: list[str], **others: Any) -> Any:
        made = compile_partition(tosa, flags, **others)
        reference.programs[bytes(made.processed_bytes)] = bytes(tosa)
        return made

    ethos_u.to_edge_transform_and_lower, backend.vela_compile = keep_edge, keep_tosa
    try:
        yield reference
    finally:
        ethos_u.to_edge_transform_and_lower, backend.vela_compile = lower, compile_partition
