"""A case as an edgeq project, for the recipes that score what they try; edgeq calls the functions by their names."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch
from accuracy.built import SkippedError

from edgeq.files import write_text
from edgeq.pipeline import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from accuracy.cases import Case
    from torch import nn

    from edgeq.pipeline import Build

CASE: ContextVar[Case] = ContextVar("CASE")

PROJECT = """
[model]
name = {name}
factory = "accuracy.searching:network"
inputs = [{{ shape = {shape}, dtype = "{dtype}" }}]

[data]
calibration = "accuracy.searching:calibration"
evaluation = "accuracy.searching:evaluation"
metric = "top1"
"""


def searched(case: Case, folder: Path, recipe: str, *, target: str, max_drop_pp: float) -> Build:
    """Build the .pte of a recipe that is a search, which tries its ideas on the samples set apart for that."""
    if case.search is None:
        raise SkippedError("there are no labelled samples beside those of the table to search on")
    project = folder / "project"
    (example,) = case.example()
    told = PROJECT.format(name=json.dumps(case.name), shape=list(example.shape), dtype=example.dtype)
    write_text(project / "edgeq.toml", told)
    token = CASE.set(case)
    try:
        return build(
            project, target=target, recipes=[recipe], formats=["pte"], out=folder / recipe, max_drop_pp=max_drop_pp
        )
    finally:
        CASE.reset(token)


def network() -> nn.Module:
    """The float model of the case at hand."""
    return CASE.get().network


def calibration() -> Iterator[tuple[torch.Tensor]]:
    """Its calibration samples."""
    return ((torch.from_numpy(row[None]),) for row in CASE.get().calibration)


def evaluation() -> Iterator[tuple[tuple[torch.Tensor], int]]:
    """The labelled samples a search may look at."""
    rows, labels = CASE.get().search or ((), ())
    return (((torch.from_numpy(row[None]),), int(label)) for row, label in zip(rows, labels, strict=True))
