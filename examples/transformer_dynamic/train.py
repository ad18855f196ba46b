"""Train the network of ``model.py`` and write ``weights.npz``; under four minutes on one core.

python examples/transformer_dynamic/train.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from model import WEIGHTS, PatchReader

sys.path.append(str(Path(__file__).parents[1] / "fashion_mnist"))

from training import command  # lies in the folder just named

if __name__ == "__main__":
    command(PatchReader, WEIGHTS, epochs=6, peak_rate=0.003, threads=1)
