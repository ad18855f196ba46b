"""A lowered program run in PyTorch: delegates' kernels as ExecuTorch describes them, all else as it is.

It shows what the exporter made of a model (fused operators, packed weights,
scales), and nothing of the processor that is to run it. Where a description
forgets how ExecuTorch 1.5.1 packs what it describes, that is made up for here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter

from edgeq.quantize.macs import operator_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from torch.export import ExportedProgram

Handed = dict[bytes, "ExportedProgram"]
"""What a delegate wrote into a file, by the bytes of its piece, as a graph of its own kernels."""

_LINEAR = ("q8ta_linear", "q8ta_linear_gemv")
_CONVOLUTIONS = ("q8ta_conv2d", "q8ta_conv2d_pw", "q8ta_conv2d_transposed")
_WEIGHTS, _PADDED, _KERNEL_SIZE, _GROUPS = 3, (4, 5, 8), 9, -2
"""Places among the arguments of these kernels; ``_PADDED`` is as long as the weights are high, or longer."""


def outputs(lowered: ExportedProgram, handed: Handed, inputs: Iterable[np.ndarray]) -> tuple[np.ndarray, ...]:
    """What the program gives for the inputs; whatever PyTorch raises where a kernel has no description."""
    with torch.no_grad():
        given = _run(lowered, [torch.from_numpy(array.copy()) for array in inputs], handed)
    return tuple(value.numpy() for value in given)


def _run(program: ExportedProgram, inputs: list[torch.Tensor], handed: Handed) -> tuple[torch.Tensor, ...]:
    given = _Descriptions(program, handed).run(*_arguments(program, inputs))
    return tuple(given)


def _arguments(program: ExportedProgram, inputs: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """What the graph takes: weights first, then the inputs of the model."""
    held: Mapping[str, Any] = {**program.state_dict, **program.constants}
    waiting = iter(inputs)
    for spec in program.graph_signature.input_specs:
        yield next(waiting) if spec.target is None else held[spec.target]


class _Descriptions(Interpreter):
    def __init__(self, program: ExportedProgram, handed: Handed) -> None:
        super().__init__(program.graph_module)
        self._handed = handed

    def run_node(self, n: torch.fx.Node) -> Any:  # noqa: ANN401  # any value of a graph
        name = operator_name(n)
        args, _ = self.fetch_args_kwargs_from_env(n)
        if name == "executorch_call_delegate":
            module, *inputs = args
            inside = self._handed.get(bytes(module.processed_bytes))
            return module.original_module.module()(*inputs) if inside is None else _run(inside, inputs, self._handed)
        if name in _LINEAR:
            return self.call_function(n.target, _without_padding(args), {})
        if name in _CONVOLUTIONS:
            return self.call_function(n.target, _channels_first(args), {})
        if name == "conv_with_clamp":
            return self.call_function(n.target, tuple(map(_in_float32, args)), {})
        return super().run_node(n)


def _without_padding(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """ExecuTorch pads what has a value for each row of the weights to whole texels, which its description forgets."""
    rows = args[_WEIGHTS].shape[0]
    return tuple(
        arg[:rows] if place in _PADDED and isinstance(arg, torch.Tensor) else arg for place, arg in enumerate(args)
    )


def _channels_first(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """ExecuTorch packs rows of weights in the order height, width, channel; its description reads channels first."""
    height, width = args[_KERNEL_SIZE]
    channels = args[0].shape[1] // args[_GROUPS]
    weights = args[_WEIGHTS][:, : height * width * channels].reshape(-1, height, width, channels)
    return (*args[:_WEIGHTS], weights.permute(0, 3, 1, 2).flatten(1), *args[_WEIGHTS + 1 :])


def _in_float32(arg: Any) -> Any:  # noqa: ANN401  # any argument of an operator
    """A bound beyond all float32, which ExecuTorch writes where there is none and PyTorch refuses, as infinity."""
    largest = torch.finfo(torch.float32).max
    return math.copysign(math.inf, arg) if isinstance(arg, float) and abs(arg) > largest else arg
