"""What is said of a sample that does not fit: what came, and what to give instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard, get_args, get_type_hints

import numpy as np
import torch

from edgeq.project import InputSpec

_MOST_NAMED = 4
"""Parts of a sample that a message names."""


def are_tensors(inputs: object) -> TypeGuard[tuple[torch.Tensor, ...] | list[torch.Tensor]]:
    """Whether these are a sample's inputs."""
    return isinstance(inputs, tuple | list) and all(isinstance(part, torch.Tensor) for part in inputs)


def kind(item: object) -> str:
    """What came, by its types: ``(Tensor, int)``."""
    if isinstance(item, tuple | list) and len(item) <= _MOST_NAMED:
        return f"({', '.join(kind(part) for part in item)}{',' if len(item) == 1 else ''})"
    return type(item).__name__


def how_to_give(item: object, *, labelled: bool) -> str:
    """The next step for what is no tuple of tensors, from the usual things that come instead."""
    parts = item if isinstance(item, tuple | list) else (item,)
    if any(isinstance(part, np.ndarray) for part in parts):
        return "make tensors of the arrays: torch.from_numpy(array)"
    if isinstance(item, Mapping):
        return "give its tensors as a tuple, in the order that the model's forward takes them"
    if not labelled and len(parts) == 2 and (isinstance(parts[0], torch.Tensor) or are_tensors(parts[0])):  # noqa: PLR2004  # inputs and label
        return "a calibration sample is a tuple of input tensors, without a label: yield (x,)"
    return "yield ((tensor, ...), label)" if labelled else "yield (tensor, ...)"


def how_to_fit(tensor: torch.Tensor, dtype: str, spec: InputSpec) -> str:
    """The next step for a tensor of another shape or dtype than ``spec``, from the usual ways to get there."""
    shape = tuple(tensor.shape)
    if shape == spec.shape:
        known = dtype in get_args(get_type_hints(InputSpec)["dtype"])
        return f"give it as tensor.to(torch.{spec.dtype})" + (
            f", or state {dtype} under [model] inputs" if known else ""
        )
    if shape == spec.shape[1:]:
        return "give it with its batch dimension: tensor[None]"
    if shape[1:] == spec.shape[1:]:
        return "give one sample at a time (a DataLoader: batch_size=1)"
    return "mend the data, or the shape under [model] inputs"
