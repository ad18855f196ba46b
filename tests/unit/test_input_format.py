"""Bytes found again in what a data function made of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import NotBytesError
from edgeq.input_format import Layout, Pixels

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
RAW = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 10)).astype(np.uint8)


def _pixels(layout: Layout = "NCHW", *, mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    return Pixels(layout=layout, model_shape=(1, 3, 8, 10), mean=mean, std=std)


def _normalised(raw: np.ndarray, *, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """As most people write it, in float32 with the numbers of torchvision."""
    mean32, std32 = (np.asarray(values, np.float32).reshape(1, 3, 1, 1) / np.float32(255) for values in (mean, std))
    normalised: np.ndarray = (raw.astype(np.float32) / np.float32(255) - mean32) / std32
    return normalised


@pytest.mark.parametrize(
    "numbers", [IMAGENET, {"mean": (127.0,) * 3, "std": (128.0,) * 3}, {"mean": (127.5,) * 3, "std": (127.5,) * 3}]
)
def test_every_byte_is_found_again(numbers: dict[str, tuple[float, ...]]) -> None:
    every = np.tile(np.arange(256, dtype=np.uint8)[:240].reshape(1, 1, 8, 30)[..., :10], (1, 3, 1, 1))
    for raw in (RAW, every, 255 - every):
        found = _pixels(**numbers).to_bytes(_normalised(raw, **numbers), where="data.py:evaluation", index=0)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, raw)


def test_bytes_lie_as_the_layout_says() -> None:
    pixels = _pixels("NHWC", **IMAGENET)
    assert pixels.shape == (1, 8, 10, 3)
    found = pixels.to_bytes(_normalised(RAW, **IMAGENET), where="data.py:evaluation", index=0)
    assert found.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(found, RAW.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(("change", "told"), [(0.3, "9.3"), (-10.0, "-1"), (251.0, "260")])
def test_a_value_that_no_byte_gives_is_named_with_its_sample_and_what_to_do(change: float, told: str) -> None:
    numbers = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    image = np.full((1, 3, 8, 10), 9.0, np.float32)
    image[0, 1, 2, 3] += change

    with pytest.raises(
        NotBytesError, match=rf"sample 5 of data.py:evaluation .* channel 1 .* a pixel of {told}"
    ) as caught:
        _pixels(**numbers).to_bytes(image, where="data.py:evaluation", index=5)
    assert "round pixels" in caught.value.hint


def test_another_mean_than_the_functions_is_noticed() -> None:
    image = _normalised(RAW, mean=(127.5,) * 3, std=(127.5,) * 3)
    with pytest.raises(NotBytesError):
        _pixels(**IMAGENET).to_bytes(image, where="data.py:evaluation", index=0)


@pytest.mark.parametrize("std", [1.0, 57.0, 58.395, 127.5, 128.0, 255.0])
@pytest.mark.parametrize("mean", [0.0, 127.0, 255.0])
def test_a_whole_mean_and_one_std_are_a_scale_and_a_zero_point(mean: float, std: float) -> None:
    found = _pixels(mean=(mean,) * 3, std=(std,) * 3).one_step
    assert found == (float(np.float32(1 / std)), int(mean))


@pytest.mark.parametrize(
    "numbers",
    [
        IMAGENET,
        {"mean": (127.5,) * 3, "std": (127.5,) * 3},
        {"mean": (104.0, 117.0, 123.0), "std": (1.0,) * 3},
        {"mean": (300.0,) * 3, "std": (1.0,) * 3},
        {"mean": (-1.0,) * 3, "std": (1.0,) * 3},
    ],
)
def test_other_means_are_not(numbers: dict[str, tuple[float, ...]]) -> None:
    assert _pixels(**numbers).one_step is None
