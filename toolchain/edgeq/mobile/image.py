"""From an image's bytes to a model's input: what every exported app has to do, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeq.records import ImageInput

if TYPE_CHECKING:
    from edgeq.records import Artifact

_IMAGE_RANK = 4


def image_input(artifact: Artifact) -> ImageInput | str:
    """How the artifact's input is made of an image; in words why an app has to hand over tensors instead."""
    said, specs = artifact.preprocess, artifact.inputs
    if said is None:
        return "the project has no [preprocess], which would say how an image becomes the model's input"
    dtype = "uint8" if said.folded else "float32"
    if len(specs) != 1 or len(specs[0].shape) != _IMAGE_RANK or specs[0].dtype != dtype:
        told = ", ".join(f"{spec.dtype} {list(spec.shape)}" for spec in specs)
        return f"[preprocess] is for models of one image, {dtype} with four axes; this takes {told}"
    _, *sizes = specs[0].shape
    channels, height, width = sizes if said.layout == "NCHW" else (sizes[2], *sizes[:2])
    if not {len(said.mean), len(said.std)} <= {1, channels}:
        return f"[preprocess] has {len(said.mean)} means and {len(said.std)} stds for {channels} channels"
    return ImageInput(
        height=height,
        width=width,
        channels=channels,
        layout=said.layout,
        mean=_each(said.mean, channels),
        std=_each(said.std, channels),
        folded=said.folded,
    )


def prepared(pixels: np.ndarray, how: ImageInput) -> np.ndarray:
    """The model's input, with a batch dimension of one, from uint8 (height, width, channels)."""
    mean, std = (np.asarray(values, dtype=np.float32) for values in (how.mean, how.std))
    values = pixels if how.folded else (pixels.astype(np.float32) - mean) / std
    return np.ascontiguousarray((values.transpose(2, 0, 1) if how.layout == "NCHW" else values)[np.newaxis])


def pixels_of(tensor: np.ndarray, how: ImageInput) -> np.ndarray | None:
    """The bytes (height, width, channels) of which :func:`prepared` makes that very input; None if there are none."""
    values = tensor[0].transpose(1, 2, 0) if how.layout == "NCHW" else tensor[0]
    if how.folded:
        return np.ascontiguousarray(values)
    found = np.rint(values.astype(np.float64) * how.std + how.mean)
    if not (found.min() >= 0 and found.max() <= np.iinfo(np.uint8).max):  # NaN is neither
        return None
    pixels = np.ascontiguousarray(found.astype(np.uint8))
    return pixels if np.array_equal(prepared(pixels, how), tensor) else None


def every_byte(how: ImageInput) -> np.ndarray:
    """An image in which every channel runs through all bytes, if it has room for them, each at other places."""
    count = how.height * how.width
    steps = np.arange(count)[:, np.newaxis] + 85 * np.arange(how.channels)[np.newaxis]
    return (steps % 256).astype(np.uint8).reshape(how.height, how.width, how.channels)


def _each(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values
