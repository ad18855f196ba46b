"""Artifacts that take an image's bytes: the outputs of those that take what a project's function makes of it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from quantize_models import dataset, settled
from torch import nn

from edgeq.host import HostRuntime
from edgeq.input_format import Layout, Pixels
from edgeq.lower import lower
from edgeq.lower.xnnpack import PassManager
from edgeq.model import Model
from edgeq.progress import Silent
from edgeq.quantize import FloatGraph, quantize
from edgeq.quantize.macs import operator_name
from edgeq.recipe import named
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path

    from torch.export import ExportedProgram

    from edgeq.lower import Coverage
    from edgeq.quantize import QuantizedProgram

SHAPE = (1, 3, 24, 20)
ONE_STEP = ((127.0,) * 3, (128.0,) * 3)
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
Numbers = tuple[tuple[float, ...], tuple[float, ...]]


class Net(nn.Module):
    """A convolution with or without padding, or ``unequal`` padding as TensorFlow pads, and what usually follows."""

    def __init__(self, padding: str) -> None:
        super().__init__()
        before = [nn.ZeroPad2d((0, 1, 0, 1))] if padding == "unequal" else []
        self.layers = nn.Sequential(
            *before,
            nn.Conv2d(3, 16, 3, stride=2, padding=1 if padding == "equal" else 0, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Attention(nn.Module):
    """Something else than a convolution reads the image."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Linear(20, 20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.softmax(self.weigh(x), -1).mean((1, 2)) + x.mean((1, 2)))


def raw_images(count: int = 8) -> list[np.ndarray]:
    """Noise in which each channel has the smallest and the largest byte."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, SHAPE).astype(np.uint8) for _ in range(count)]
    images[0][0, :, 0, 0], images[0][0, :, 0, 1] = 0, 255
    return images


class Folding:
    """A module's artifacts on raw images, with and without its preprocessing."""

    def __init__(self, module: nn.Module, numbers: Numbers, folder: Path) -> None:
        torch.manual_seed(0)
        mean, std = (np.asarray(values, np.float32).reshape(1, 3, 1, 1) for values in numbers)
        self._numbers = numbers
        self._images = raw_images()
        self._floats = [(image.astype(np.float32) - mean) / std for image in self._images]
        self._given = [(torch.from_numpy(image),) for image in self._floats]
        self._model = Model(name="small", module=settled(module), example_inputs=self._given[0])
        self._folder = folder

    def program(self, recipe: str, layout: Layout | None) -> QuantizedProgram:
        source = FloatGraph(self._model, dataset(self._given), pixels=self._pixels(layout), progress=Silent())
        return quantize(source, named(recipe), progress=Silent())

    def lowered(
        self, program: QuantizedProgram, form: str, layout: Layout | None, target: str = "rpi4"
    ) -> tuple[Coverage, np.ndarray]:
        path = self._folder / f"{layout}.{form}"
        coverage = lower(program, form, load_target(target), path)
        runtime, pixels = HostRuntime(path, form), self._pixels(layout)
        inputs = [image if pixels is None else pixels.to_bytes(image, where="", index=0) for image in self._floats]
        return coverage, np.concatenate([runtime.run((image,))[0] for image in inputs])

    def _pixels(self, layout: Layout | None) -> Pixels | None:
        mean, std = self._numbers
        return layout and Pixels(layout=layout, model_shape=SHAPE, mean=mean, std=std)


def _step(outputs: np.ndarray) -> float:
    return float(outputs.max() - outputs.min()) / 255


CASES: tuple[tuple[Layout, str, str], ...] = (
    ("NCHW", "pte", "rpi4"),
    ("NHWC", "pte", "rpi4"),
    ("NHWC", "onnx", "rpi4"),
    ("NCHW", "onnx", "host"),
)


@pytest.mark.parametrize("padding", ["none", "equal", "unequal"])
@pytest.mark.parametrize("numbers", [ONE_STEP, IMAGENET], ids=["one_step", "imagenet"])
def test_a_folded_artifact_gives_what_the_other_gives(numbers: Numbers, padding: str, tmp_path: Path) -> None:
    folding = Folding(Net(padding), numbers, tmp_path)
    for recipe in ("fp32", "int8-static"):
        plain = folding.program(recipe, None)
        expected = {form: folding.lowered(plain, form, None)[1] for form in ("pte", "onnx")}
        programs = {layout: folding.program(recipe, layout) for layout in ("NCHW", "NHWC")}
        for layout, form, target in CASES:
            where = (recipe, layout, form, target)
            coverage, outputs = folding.lowered(programs[layout], form, layout, target)
            allowed = _step(expected[form]) if recipe == "int8-static" else 1e-5 * np.abs(expected[form]).max()
            assert np.abs(outputs - expected[form]).max() <= allowed, where
            (taken,) = coverage.inputs
            assert (taken.dtype, taken.shape) == ("uint8", SHAPE if layout == "NCHW" else (1, 24, 20, 3)), where
            assert coverage.int8_mac_share == (0.0 if recipe == "fp32" else 1.0), where
            assert (coverage.partitions, coverage.delegated_mac_share) == (1, 1.0), where
            outside = {"quantized_decomposed::dequantize_per_tensor.out"} if form == "pte" else set()
            assert {op for op in coverage.requires.ops if "::" in op} == outside, where


@pytest.mark.parametrize("recipe", ["int8-dynamic", "int8-weight-only", "int8-static-per-tensor"])
def test_every_recipe_takes_bytes(recipe: str, tmp_path: Path) -> None:
    folding = Folding(Net("equal"), IMAGENET, tmp_path)
    for form in ("pte", "onnx"):
        _, expected = folding.lowered(folding.program(recipe, None), form, None)
        _, outputs = folding.lowered(folding.program(recipe, "NHWC"), form, "NHWC")
        assert np.abs(outputs - expected).max() <= _step(expected)


@pytest.mark.parametrize(
    ("numbers", "padding", "recipe", "form"),
    [
        (ONE_STEP, "equal", "fp32", "read"),
        (ONE_STEP, "equal", "int8-static", "read"),
        (IMAGENET, "none", "fp32", "absorbed"),
        (IMAGENET, "equal", "fp32", "subtracted"),
        (IMAGENET, "unequal", "int8-weight-only", "subtracted"),
        (IMAGENET, "none", "int8-static", "computed"),
        (IMAGENET, "none", "int8-dynamic", "computed"),
    ],
)
def test_the_cheapest_exact_form_is_taken(
    numbers: Numbers, padding: str, recipe: str, form: str, tmp_path: Path
) -> None:
    program = Folding(Net(padding), numbers, tmp_path).program(recipe, "NCHW")
    assert program.folded is not None
    assert program.folded.form == form


def test_where_no_convolution_reads_the_image_its_normalisation_is_computed(tmp_path: Path) -> None:
    folding = Folding(Attention(), IMAGENET, tmp_path)
    program = folding.program("fp32", "NHWC")
    assert program.folded is not None
    assert program.folded.form == "computed"
    for form in ("pte", "onnx"):
        _, expected = folding.lowered(folding.program("fp32", None), form, None)
        _, outputs = folding.lowered(program, form, "NHWC")
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_a_mean_between_two_bytes_gives_the_same_floats_and_so_the_same_integers(tmp_path: Path) -> None:
    """Each pixel then lies in the middle of two integers: a float in its last bit decides."""
    folding = Folding(Net("equal"), ((127.5,) * 3, (127.5,) * 3), tmp_path)
    _, expected = folding.lowered(folding.program("int8-static", None), "pte", None)
    _, outputs = folding.lowered(folding.program("int8-static", "NHWC"), "pte", "NHWC")
    np.testing.assert_array_equal(outputs, expected)


def test_an_int8_artifact_holds_each_byte_as_it_is(tmp_path: Path) -> None:
    folding = Folding(Net("equal"), ONE_STEP, tmp_path)
    program = folding.program("int8-static", "NCHW")
    nodes = program.program.graph.nodes
    read, stored = (
        next(node for node in nodes if f".{name}_per_tensor" in str(node.target)) for name in ("dequantize", "quantize")
    )
    assert stored.args[0] is read
    assert (stored.args[1], stored.args[2] + 128) == read.args[1:3]


def test_an_x86_file_hands_the_bytes_to_the_first_kernel(tmp_path: Path) -> None:
    folding = Folding(Net("equal"), ONE_STEP, tmp_path)
    coverage, _ = folding.lowered(folding.program("int8-static", "NCHW"), "onnx", "NCHW", "host")
    graph = onnx.load(tmp_path / "NCHW.onnx").graph
    read, kinds = graph.input[0].name, []
    while "DequantizeLinear" not in kinds:
        (reader,) = (node for node in graph.node if read in node.input)
        kinds.append(reader.op_type)
        read = reader.output[0]
    assert set(kinds) <= {"Reshape", "Transpose", "DequantizeLinear"}  # bytes are moved, and read as they are
    assert [node.op_type for node in graph.node if read in node.input] == ["Conv"]
    assert coverage.int8_mac_share == 1.0


def test_an_executorch_file_names_the_kernel_that_reads_bytes(tmp_path: Path) -> None:
    folding = Folding(Net("equal"), ONE_STEP, tmp_path)
    coverage, _ = folding.lowered(folding.program("int8-static", "NCHW"), "pte", "NCHW")
    assert coverage.requires.ops == ("quantized_decomposed::dequantize_per_tensor.out",)
    assert [node.reason.partition(":")[0] for node in coverage.undelegated] == ["uint8-input"]


def test_a_process_that_lowers_nothing_runs_a_file_that_takes_bytes(tmp_path: Path) -> None:
    folding = Folding(Net("equal"), ONE_STEP, tmp_path)
    folding.lowered(folding.program("fp32", "NHWC"), "pte", "NHWC")
    code = f"""
import numpy, pathlib, edgeq.host
runtime = edgeq.host.HostRuntime(pathlib.Path({str(tmp_path / "NHWC.pte")!r}), "pte")
print(runtime.run((numpy.zeros((1, 24, 20, 3), numpy.uint8),))[0].shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "(1, 10)\n", done.stderr


@pytest.mark.parametrize("padding", ["equal", "unequal"])
@pytest.mark.parametrize("recipe", ["fp32", "int8-static"])
def test_xnnpack_takes_channels_that_lie_side_by_side_as_they_lie(
    recipe: str, padding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitions, before = [], PassManager.transform

    def transform(manager: PassManager) -> ExportedProgram:
        partitions.append(before(manager))
        return partitions[-1]

    monkeypatch.setattr(PassManager, "transform", transform)
    folding = Folding(Net(padding), IMAGENET, tmp_path)
    folding.lowered(folding.program(recipe, "NHWC"), "pte", "NHWC")

    (partition,) = partitions
    moves = [node for node in partition.graph.nodes if operator_name(node) in ("permute_copy", "_to_copy")]
    assert [node.kwargs.get("memory_format") for node in moves] == [torch.contiguous_format]  # of the result
