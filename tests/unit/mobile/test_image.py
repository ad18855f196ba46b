from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from edgeq.mobile import image
from edgeq.records import Artifact, ImageInput, Preprocess, TensorSpec
from edgeq.testing import sample_artifact

GREY = ImageInput(height=4, width=3, channels=1, layout="NCHW", mean=(72.94,), std=(90.02,), folded=False)
RGB = ImageInput(
    height=2,
    width=5,
    channels=3,
    layout="NHWC",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    folded=False,
)


def artifact_of(shape: tuple[int, ...], dtype: str = "float32", **preprocess: object) -> Artifact:
    said = Preprocess(layout="NCHW", mean=(127.0,), std=(128.0,))
    return replace(
        sample_artifact(),
        inputs=(TensorSpec(name="x", shape=shape, dtype=dtype),),
        preprocess=replace(said, **preprocess),
    )


def some_pixels(how: ImageInput) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (how.height, how.width, how.channels), dtype=np.uint8)


def test_an_input_is_normalised_in_float32_step_by_step() -> None:
    pixels = some_pixels(RGB)
    made = image.prepared(pixels, RGB)
    assert made.shape == (1, 2, 5, 3)
    assert made.dtype == np.float32
    byte, mean, std = np.float32(pixels[1, 3, 2]), np.float32(103.53), np.float32(57.375)
    assert made[0, 1, 3, 2] == (byte - mean) / std


def test_the_layout_is_the_models() -> None:
    pixels = some_pixels(RGB)
    turned = replace(RGB, layout="NCHW")
    assert np.array_equal(image.prepared(pixels, turned), image.prepared(pixels, RGB).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_folded_bytes_only_change_their_order(layout: Literal["NCHW", "NHWC"]) -> None:
    how = replace(RGB, layout=layout, folded=True)
    pixels = some_pixels(how)
    made = image.prepared(pixels, how)
    assert made.dtype == np.uint8
    assert made.shape == ((1, 3, 2, 5) if layout == "NCHW" else (1, 2, 5, 3))
    found = image.pixels_of(made, how)
    assert found is not None
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("how", [GREY, RGB])
def test_the_pixels_of_an_input_are_found_again(how: ImageInput) -> None:
    pixels = some_pixels(how)
    found = image.pixels_of(image.prepared(pixels, how), how)
    assert found is not None
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize(
    "tensor",
    [
        np.full((1, 1, 4, 3), 0.123, dtype=np.float32),
        np.full((1, 1, 4, 3), 99.0, dtype=np.float32),
        np.full((1, 1, 4, 3), np.nan, dtype=np.float32),
        np.nextafter(image.prepared(some_pixels(GREY), GREY), np.float32(9)),
    ],
)
def test_an_input_that_the_arithmetic_cannot_make_has_no_pixels(tensor: np.ndarray) -> None:
    assert image.pixels_of(tensor, GREY) is None


def test_the_image_of_all_bytes_has_all_of_them_in_each_channel() -> None:
    pixels = image.every_byte(replace(RGB, height=16, width=16))
    for channel in range(3):
        assert set(pixels[..., channel].ravel().tolist()) == set(range(256))
    assert not np.array_equal(pixels[..., 0], pixels[..., 1])


def test_one_mean_is_every_channels() -> None:
    how = image.image_input(artifact_of((1, 3, 8, 6)))
    assert isinstance(how, ImageInput)
    assert (how.height, how.width, how.channels) == (8, 6, 3)
    assert how.mean == (127.0, 127.0, 127.0)
    assert how.std == (128.0, 128.0, 128.0)


def test_channels_last_are_found_last() -> None:
    how = image.image_input(artifact_of((1, 8, 6, 3), layout="NHWC"))
    assert isinstance(how, ImageInput)
    assert (how.height, how.width, how.channels) == (8, 6, 3)


@pytest.mark.parametrize(
    ("artifact", "said"),
    [
        (sample_artifact(), "no [preprocess]"),
        (artifact_of((1, 40)), "this takes float32 [1, 40]"),
        (artifact_of((1, 3, 8, 6), "int64"), "this takes int64"),
        (artifact_of((1, 3, 8, 6), folded=True), "models of one image, uint8"),
        (artifact_of((1, 3, 8, 6), mean=(1.0, 2.0)), "2 means and 1 stds for 3 channels"),
    ],
)
def test_what_is_no_image_is_said_in_words(artifact: Artifact, said: str) -> None:
    found = image.image_input(artifact)
    assert isinstance(found, str)
    assert said in found
