"""An LSTM that reads an image of Fashion-MNIST row by row, with the weights that ``train.py`` made.

28 steps of 28 pixels; the state after the last row names the class. 1.3 million multiply-accumulates and 49,000
parameters an image, all but 960 of the products in the recurrent layer: a network that only dynamic quantization
makes small, as the state of one step is the input of the next.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

WEIGHTS = Path(__file__).parent / "weights.npz"
ROWS, PIXELS, STATE = 28, 28, 96


class RowReader(nn.Module):
    """(N, 1, 28, 28) normalised grey images to the logits of the 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(PIXELS, STATE, batch_first=True)
        self.head = nn.Linear(STATE, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Rows are the steps, pixels the values of a step."""
        states, _ = self.lstm(image.reshape(-1, ROWS, PIXELS))
        return self.head(states[:, -1])


def load() -> nn.Module:
    """The trained network in eval mode."""
    network = RowReader()
    with np.load(WEIGHTS) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return network.eval()
