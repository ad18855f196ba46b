"""Train the network of ``model.py`` and write ``weights.npz``; a minute and a half on one core.

python examples/lstm_dynamic/train.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from model import WEIGHTS, RowReader

sys.path.append(str(Path(__file__).parents[1] / "fashion_mnist"))

from training import command  # lies in the folder just named

if __name__ == "__main__":
    command(RowReader, WEIGHTS, epochs=6, peak_rate=0.005, threads=1)
