"""Fashion-MNIST from Debian's package ``dataset-fashion-mnist``.

60,000 training and 10,000 test images of 28x28 grey pixels in ten classes,
as gzipped idx files. ``EDGEQ_FASHION_MNIST`` names another folder with the
same four files.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
CALIBRATION_SAMPLES = 512
CALIBRATION_SEED = 1

# Of the training images' pixels, from 0 to 255.
MEAN = 72.94
STD = 90.02

Inputs = tuple[torch.Tensor]


def calibration() -> Iterator[Inputs]:
    """The samples the int8 scales come from: 512 training images, the same ones each time."""
    images, _ = read("train")
    chosen = np.random.default_rng(CALIBRATION_SEED).choice(len(images), CALIBRATION_SAMPLES, replace=False)
    return ((normalised(images[index : index + 1]),) for index in chosen)


def evaluation() -> Iterator[tuple[Inputs, int]]:
    """The 10,000 test images and their classes."""
    images, labels = read("t10k")
    return (((normalised(images[index : index + 1]),), int(label)) for index, label in enumerate(labels))


evaluation.note = "the 10,000 test images of Fashion-MNIST"  # read by edgeq for its report


def normalised(images: np.ndarray) -> torch.Tensor:
    """Pixels (N, 28, 28) as the model takes them: (N, 1, 28, 28) float32, mean 0 and deviation 1."""
    return torch.from_numpy((images[:, np.newaxis].astype(np.float32) - MEAN) / STD)


def read(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,), both uint8; ``part`` is ``train`` or ``t10k``."""
    images = read_idx(f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(f"{part}-labels-idx1-ubyte.gz")
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(f"Fashion-MNIST's {part} files do not belong together: {images.shape} and {labels.shape}")
    return images, labels


def read_idx(name: str) -> np.ndarray:
    """An array of unsigned bytes in the idx format: two zeros, type 8, number of axes, big-endian lengths, data."""
    folder = Path(os.environ.get("EDGEQ_FASHION_MNIST") or DEBIAN_FOLDER)
    try:
        data = gzip.decompress((folder / name).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder / name} does not exist; run: sudo apt-get install dataset-fashion-mnist, "
            "or set EDGEQ_FASHION_MNIST to a folder with Fashion-MNIST's four .gz files"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{folder / name} cannot be read: {error}") from error
    try:
        zeros, kind, axes = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{axes}I", data, 4)
        array = np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (struct.error, ValueError) as error:
        raise ValueError(f"{folder / name} is not an idx file: {error}") from error
    if (zeros, kind) != (0, 8):
        raise ValueError(f"{folder / name} is not an idx file of unsigned bytes")
    return array
