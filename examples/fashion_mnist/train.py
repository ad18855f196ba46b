"""Train the network of ``model.py`` and write ``weights.npz``; about a minute on two cores.

python examples/fashion_mnist/train.py
"""

from __future__ import annotations

from model import WEIGHTS, FashionNet
from training import command

if __name__ == "__main__":
    command(FashionNet, WEIGHTS, epochs=7, peak_rate=0.02, threads=2)
