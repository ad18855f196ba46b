"""The examples: they load as edgeq loads them, their models are as good as stated, their data is what it says."""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from edgeq import pipeline
from edgeq.errors import UserCodeError
from edgeq.model import Dataset, load_dataset, load_model
from edgeq.project import Project, load_project

if TYPE_CHECKING:
    from edgeq.records import Format

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads beside a busy process are forty times slower than one."""
    monkeypatch.delenv("EDGEQ_IMAGENET", raising=False)
    monkeypatch.delenv("EDGEQ_FASHION_MNIST", raising=False)
    torch.set_num_threads(1)


def project(name: str) -> Project:
    return load_project(EXAMPLES / name)


def calibration(name: str) -> Dataset:
    found = project(name)
    return load_dataset(found, found.data.calibration, labelled=False)


def evaluation(name: str) -> Dataset:
    found = project(name)
    return load_dataset(found, found.data.evaluation, labelled=True)


def right(name: str, samples: int) -> int:
    """How many of the first samples the float model names rightly."""
    module = load_model(project(name)).module
    with torch.inference_mode():
        first = islice(evaluation(name), samples)
        return sum(int(module(*sample.inputs).argmax()) == sample.label for sample in first)


def folder_of_photos(root: Path, photos: dict[str, int]) -> None:
    """A tiny photo of one shade of grey for each name."""
    for name, shade in photos.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (shade, shade, shade)).save(path)


def shades_and_labels(data: Dataset) -> list[tuple[int, int | None]]:
    return [(round(float(sample.inputs[0].mean()) * 128 + 127), sample.label) for sample in data]


def test_efficientnet_names_at_least_17_of_the_20_packaged_photos() -> None:
    assert right("efficientnet_lite0", 20) >= 17


def test_the_labelled_photos_come_first_and_crops_carry_no_label() -> None:
    labels = [sample.label for sample in evaluation("efficientnet_lite0")]
    assert len(labels) == 200
    assert all(label is not None and 0 <= label < 1000 for label in labels[:20])
    assert labels[20:] == [None] * 180


def test_the_packaged_samples_are_the_same_each_time_and_none_is_in_both_sets() -> None:
    def fingerprints(data: Dataset) -> list[bytes]:
        return [sample.inputs[0].numpy().tobytes() for sample in data]

    evaluated = fingerprints(evaluation("efficientnet_lite0"))
    calibrated = fingerprints(calibration("efficientnet_lite0"))
    assert evaluated == fingerprints(evaluation("efficientnet_lite0"))
    assert len(calibrated) == 80
    assert len({*evaluated, *calibrated}) == 280


def test_each_evaluation_set_says_what_it_is() -> None:
    assert "20 labelled ImageNet photos" in evaluation("efficientnet_lite0").note
    assert "10,000 test images" in evaluation("fashion_mnist").note


def test_photos_are_taken_from_labels_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_photos(tmp_path, {"calibration/a.png": 10, "evaluation/b.png": 20, "evaluation/c.png": 30})
    (tmp_path / "calibration" / "labels.csv").write_text("file,label\na.png,5\n")
    (tmp_path / "evaluation" / "labels.csv").write_text("file,label\nc.png,999\nb.png,0\n")
    monkeypatch.setenv("EDGEQ_IMAGENET", str(tmp_path))
    assert shades_and_labels(evaluation("efficientnet_lite0")) == [(30, 999), (20, 0)]
    assert shades_and_labels(calibration("efficientnet_lite0")) == [(10, None)]


def test_photos_are_taken_from_one_folder_a_class_in_the_order_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_photos(tmp_path, {"calibration/x/1.png": 10, "evaluation/zebra/1.png": 30, "evaluation/ant/2.png": 20})
    (tmp_path / "evaluation" / "ant" / "notes.txt").write_text("no photo")
    monkeypatch.setenv("EDGEQ_IMAGENET", str(tmp_path))
    assert shades_and_labels(evaluation("efficientnet_lite0")) == [(20, 0), (30, 1)]
    assert shades_and_labels(calibration("efficientnet_lite0")) == [(10, None)]


def test_folders_named_by_numbers_carry_their_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_photos(tmp_path, {"evaluation/0100/1.png": 30, "evaluation/7/1.png": 20})
    monkeypatch.setenv("EDGEQ_IMAGENET", str(tmp_path))
    assert sorted(shades_and_labels(evaluation("efficientnet_lite0"))) == [(20, 7), (30, 100)]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name,class\nb.png,1\n", "must begin with the line 'file,label'"),
        ("file,label\nb.png,1000\n", r"line 2: the label must be a number from 0 to 999, not '1000'"),
        ("file,label\nb.png,cat\n", "not 'cat'"),
        ("file,label\nb.png\n", "the label must be a number"),
        ("file,label\nmissing.png,1\n", "no file 'missing.png'"),
        ("file,label\nlabels.csv,1\n", "is not an image that can be read"),
        ("file,label\n", "holds no photos"),
        ("", "must begin with"),
    ],
)
def test_a_malformed_labels_csv_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, words: str
) -> None:
    folder_of_photos(tmp_path, {"evaluation/b.png": 20})
    (tmp_path / "evaluation" / "labels.csv").write_text(table)
    monkeypatch.setenv("EDGEQ_IMAGENET", str(tmp_path))
    with pytest.raises(UserCodeError, match=words):
        list(evaluation("efficientnet_lite0"))


def test_some_wnid_folders_without_the_others_are_refused_as_they_do_not_say_the_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_photos(tmp_path, {"evaluation/n01440764/1.png": 20, "evaluation/n02119789/1.png": 30})
    monkeypatch.setenv("EDGEQ_IMAGENET", str(tmp_path))
    with pytest.raises(UserCodeError, match="2 of the 1000 wnid folders"):
        list(evaluation("efficientnet_lite0"))


def test_a_folder_that_is_not_there_is_refused_and_not_replaced_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_IMAGENET", str(tmp_path / "nowhere"))
    with pytest.raises(UserCodeError, match="is not a folder"):
        list(evaluation("efficientnet_lite0"))


def test_fashion_mnist_names_at_least_nine_tenths_of_a_thousand_test_images() -> None:
    assert right("fashion_mnist", 1000) >= 900


def test_the_training_script_makes_weights_that_the_model_takes(tmp_path: Path) -> None:
    weights = tmp_path / "weights.npz"
    script = EXAMPLES / "fashion_mnist" / "train.py"
    done = subprocess.run(
        [sys.executable, script, "--epochs", "1", "--threads", "1", "--out", weights],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"([\d,]+) of 10,000 test images right", done.stdout)
    assert found, done.stdout
    assert int(found[1].replace(",", "")) >= 8000
    expected = load_model(project("fashion_mnist")).module.state_dict()
    with np.load(weights) as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            name: tuple(tensor.shape) for name, tensor in expected.items()
        }


def first_images(source: Path, target: Path, count: int) -> None:
    """A part of Fashion-MNIST with its first images or labels alone."""
    data = gzip.decompress(source.read_bytes())
    axes = data[3]
    shape = struct.unpack_from(f">{axes}I", data, 4)
    head = struct.pack(f">HBB{axes}I", 0, 8, axes, count, *shape[1:])
    content = data[4 + 4 * axes :][: count * math.prod(shape[1:])]
    target.write_bytes(gzip.compress(head + content, compresslevel=1))


@pytest.fixture(scope="module")
def small_fashion_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first 1,280 training and 1,000 test images."""
    folder = tmp_path_factory.mktemp("fashion")
    for source in Path("/usr/share/datasets/fashion-mnist").glob("*.gz"):
        first_images(source, folder / source.name, 1280 if source.name.startswith("train") else 1000)
    return folder


@pytest.fixture
def reads_little(small_fashion_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_FASHION_MNIST", str(small_fashion_mnist))


@pytest.mark.parametrize(("example", "least"), [("lstm_dynamic", 870), ("transformer_dynamic", 860)])
def test_the_networks_without_convolutions_name_most_of_a_thousand_test_images(example: str, least: int) -> None:
    assert right(example, 1000) >= least


@pytest.mark.parametrize("example", ["lstm_dynamic", "transformer_dynamic"])
def test_the_other_training_scripts_share_one_loop_and_make_weights_that_their_models_take(
    example: str, small_fashion_mnist: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.npz"
    subprocess.run(
        [sys.executable, EXAMPLES / example / "train.py", "--epochs", "1", "--threads", "1", "--out", weights],
        capture_output=True,
        check=True,
        env={**os.environ, "EDGEQ_FASHION_MNIST": str(small_fashion_mnist)},
    )
    expected = load_model(project(example)).module.state_dict()
    with np.load(weights) as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            name: tuple(tensor.shape) for name, tensor in expected.items()
        }


@pytest.mark.usefixtures("reads_little")
@pytest.mark.parametrize(
    ("example", "formats", "shares"),
    [
        ("lstm_dynamic", ["onnx"], {"int8-dynamic": 0.99}),  # test_recurrent.py has .pte, which takes half a minute
        ("transformer_dynamic", ["pte", "onnx"], {"int8-dynamic": 0.9, "int8-static": 0.94}),
    ],
)
def test_a_build_is_in_int8_less_than_half_as_large_and_within_the_limits(
    example: str,
    formats: list[Format],
    shares: dict[str, float],
    tmp_path: Path,
) -> None:
    built = pipeline.build(EXAMPLES / example, target="rpi4", formats=formats, out=tmp_path / "build")
    pipeline.check(built.checks())
    artifacts = {(one.recipe, one.format): one for one in built.manifest.artifacts}
    assert set(artifacts) == {(recipe, form) for recipe in ("fp32", *shares) for form in formats}
    for recipe, share in shares.items():
        for form in formats:
            artifact = artifacts[recipe, form]
            assert artifact.int8_mac_share >= share
            assert artifact.size_bytes < artifacts["fp32", form].size_bytes / 2
            assert artifact.host.agree is not None
            assert artifact.host.agree >= 0.99 * artifact.host.total


def test_fashion_mnist_has_10000_test_images_and_calibrates_on_512_others() -> None:
    labels = [sample.label for sample in evaluation("fashion_mnist")]
    assert [labels.count(digit) for digit in range(10)] == [1000] * 10
    assert sum(1 for _ in calibration("fashion_mnist")) == 512


def test_missing_fashion_mnist_files_are_said_with_the_package_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_FASHION_MNIST", str(tmp_path))
    with pytest.raises(UserCodeError, match="apt-get install dataset-fashion-mnist"):
        list(evaluation("fashion_mnist"))


IDX = struct.pack(">HBBI", 0, 8, 1, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(IDX + bytes(3), mtime=0)[:-9], "cannot be read"),
        (b"plain", "cannot be read"),
        (gzip.compress(IDX + bytes(2), mtime=0), "is not an idx file"),
        (gzip.compress(b"no", mtime=0), "is not an idx file"),
        (gzip.compress(struct.pack(">HBBI", 0, 13, 1, 3) + bytes(3), mtime=0), "not an idx file of unsigned bytes"),
        (gzip.compress(IDX + bytes(3), mtime=0), "do not belong together"),
    ],
)
def test_damaged_fashion_mnist_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("EDGEQ_FASHION_MNIST", str(tmp_path))
    with pytest.raises(UserCodeError, match=words):
        list(evaluation("fashion_mnist"))


def test_a_fashion_mnist_folder_of_ones_own_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 2, 28, 28) + images.tobytes())
    )
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2) + bytes([4, 9]))
    )
    monkeypatch.setenv("EDGEQ_FASHION_MNIST", str(tmp_path))
    assert [sample.label for sample in evaluation("fashion_mnist")] == [4, 9]
