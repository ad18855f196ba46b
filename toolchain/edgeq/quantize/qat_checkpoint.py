"""The state of a training, in the cache: written whole or not at all."""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from edgeq.files import cache_dir, write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeq.quantize.fake import FakeActivation

_KEPT = 8
"""Files that stay in the cache; the oldest go."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How far a training was when it was saved."""

    done: int
    finished: bool


class TrainingCheckpoint:
    """A file of the cache named by ``key``, which covers all that the training depends on."""

    def __init__(self, key: str) -> None:
        self._folder = cache_dir() / "qat"
        self._path = self._folder / f"{key}.pt"

    def save(
        self, tensors: Mapping[str, torch.Tensor], activations: Mapping[str, FakeActivation], reached: Reached
    ) -> None:
        """Keep parameters, buffers and ranges in place of what was saved before; DiskFullError if there is no room."""
        buffer = io.BytesIO()
        state = {
            "tensors": {name: tensor.detach() for name, tensor in tensors.items()},
            "ranges": {name: activation.ends for name, activation in activations.items()},
            "done": reached.done,
            "finished": reached.finished,
        }
        torch.save(state, buffer)
        write_bytes(self._path, buffer.getvalue())
        files = sorted(self._folder.glob("*.pt"), key=lambda path: path.stat().st_mtime)
        for file in files[:-_KEPT]:
            file.unlink(missing_ok=True)

    def load(self, tensors: Mapping[str, torch.Tensor], activations: Mapping[str, FakeActivation]) -> Reached | None:
        """Fill ``tensors`` and ``activations``; None, and nothing is changed, if there is no file that can be read."""
        try:
            state = torch.load(self._path, weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            self._path.unlink(missing_ok=True)
            return None
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(state["tensors"][name])
            for name, activation in activations.items():
                activation.ends.copy_(state["ranges"][name])
        os.utime(self._path)
        return Reached(done=state["done"], finished=state["finished"])
