"""Exported Swift packages, compiled by a Swift compiler; their own tests run on Linux, in the real runtimes.

What is not Apple's is the packages that bring the runtimes: ``swift/README.md``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Literal

import numpy as np
import pytest
import swift_toolchain
from example_builds import example_build

from edgeq.evaluation import EvaluationSet, subset
from edgeq.files import write_bytes, write_text
from edgeq.mobile import image, ios, vectors
from edgeq.mobile.content import IMAGES, AppModel, Content
from edgeq.pipeline import export, read_build
from edgeq.progress import SILENT
from edgeq.records import ImageInput, Requires, TensorSpec
from edgeq.runner.build import bundle
from edgeq.testing import sample_artifact, sample_manifest

STAND_INS = Path(__file__).parent / "swift"
EXAMPLES = ("fashion_mnist", "efficientnet_lite0")

CLASSIFIED = """import XCTest
@testable import {module}

final class ClassifiedTests: XCTestCase {{
    func testTheImagesAreClassified() throws {{
        let model = try {type}()
        for image in try cases("images.vectors") {{
            guard case .uint8(let bytes, _)? = image.inputs.first else {{ return XCTFail("no bytes") }}
            for one in try model.classify(Pixels(bytes), best: 1) {{ print("classified: \\(one.index) \\(one.label)") }}
        }}
    }}
}}
"""


@pytest.fixture(scope="module", autouse=True)
def _a_swift_compiler_can_run() -> None:
    if reason := swift_toolchain.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the compiler sees: the stand-ins and the runners that they start."""
    folder = tmp_path_factory.mktemp("swift")
    shutil.copytree(STAND_INS, folder / "stand-ins")
    (folder / "runners").mkdir()
    for engine in ("executorch", "onnxruntime"):
        for name, file in bundle(engine, "x86_64-linux-gnu", progress=SILENT).files.items():
            shutil.copy2(file, folder / "runners" / name)
    return folder


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A package as it was exported, a copy whose runtimes are the stand-ins, and what its tests said there."""

    build: Path
    exported: Path
    here: Path
    said: CompletedProcess[str]


@pytest.fixture(scope="module")
def tried(work: Path) -> dict[str, Tried]:
    """Each example with its int8 .pte and .onnx."""
    found = {}
    for example in EXAMPLES:
        build, exported, here = example_build(example), work / example, work / f"{example}-here"
        record = export(read_build(build), "ios", exported, artifacts=["int8-static"]).record
        _with_stand_ins(exported, here)
        shown = CLASSIFIED.format(module=record.package, type=record.type_name)
        write_text(here / "Tests" / f"{record.package}Tests" / "ClassifiedTests.swift", shown)
        found[example] = Tried(build=build, exported=exported, here=here, said=_test(here, work))
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_exported_package_passes_its_own_tests_in_the_real_runtimes_to_the_bit(
    example: str, tried: dict[str, Tried]
) -> None:
    said = tried[example].said
    assert said.returncode == 0, said.stdout
    assert "warning: " not in said.stdout
    assert _named(said, "passed") >= {
        "testInt8StaticPteGivesTheOutputsOfTheBuildMachine",
        "testInt8StaticOnnxGivesTheOutputsOfTheBuildMachine",
        "testEveryBitIsThatOfTheEvaluation",
        "testThreadsMayShareAModel",
        "testTheHighestScoreIsFirstAndOfEqualOnesTheFirstClass",
    }
    record = json.loads((tried[example].exported / "export.json").read_text())
    assert record["images"]["as_evaluated"] is True  # an image of the evaluation is among those compared


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_image_of_the_evaluation_gets_the_class_that_the_build_machine_gave_it(
    example: str, tried: dict[str, Tried]
) -> None:
    manifest = read_build(tried[example].build).manifest
    samples = EvaluationSet.of(tried[example].build, manifest)
    first = int(subset(samples.labels, samples.samples, 1)[0])
    best = int(np.argmax(samples.host_outputs(manifest.chosen(["int8-static"])[0].name)[first]))
    *_, last = re.findall(r"^classified: (\d+) (.*)$", tried[example].said.stdout, re.MULTILINE)
    assert last == (str(best), manifest.labels[best])


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_manifest_pins_the_runtimes_of_the_build(example: str, tried: dict[str, Tried], work: Path) -> None:
    exported = tried[example].exported
    package = _dumped(exported, work)
    tools = json.loads((exported / "export.json").read_text())["tools"]
    (executorch,), (onnxruntime,) = (one["sourceControl"] for one in package["dependencies"])
    assert executorch["requirement"] == {"branch": [f"swiftpm-{tools['executorch']}"]}
    assert onnxruntime["requirement"] == {"exact": [tools["onnxruntime"]]}
    (library, tests) = package["targets"]
    products = {one["product"][0] for one in library["dependencies"]}
    assert products == {"executorch", "backend_xnnpack", "onnxruntime"}
    assert len(library["resources"]) == 2
    assert (library["type"], tests["type"]) == ("regular", "test")


def test_a_damaged_model_other_outputs_and_wrong_arithmetic_fail_the_exported_tests(
    tried: dict[str, Tried], work: Path
) -> None:
    package = tried["fashion_mnist"].here
    module = package / "Sources" / "FashionMnistModel"
    model = module / "Resources" / "fashion-mnist.int8-static.pte"
    model.write_bytes(model.read_bytes()[:2000])
    arithmetic = module / "Preprocessing.swift"
    code = arithmetic.read_text()
    arithmetic.write_text(code.replace(") / std[channel]", ") * (1 / std[channel])"))
    assert arithmetic.read_text() != code
    expected = package / "Tests/FashionMnistModelTests/Resources/fashion-mnist.int8-static.onnx.vectors"
    cases = vectors.read(expected.read_bytes())
    expected.write_bytes(vectors.write([replace(one, outputs=tuple(-array for array in one.outputs)) for one in cases]))

    done = _test(package, work)

    assert done.returncode != 0
    assert _named(done, "failed") == {
        "testInt8StaticPteGivesTheOutputsOfTheBuildMachine",
        "testInt8StaticOnnxGivesTheOutputsOfTheBuildMachine",
        "testTensorsOfAnotherShapeAreRefused",  # it loads the damaged model first, as do the next two
        "testThreadsMayShareAModel",
        "testTheImagesAreClassified",
        "testEveryBitIsThatOfTheEvaluation",
    }
    assert 'runtime("ExecuTorch cannot load' in done.stdout
    assert re.search(r"case 0 of fashion-mnist.int8-static.onnx: -6\.0\d+ dB", done.stdout)


def test_code_for_every_kind_of_model_compiles_and_prepares_its_images(work: Path) -> None:
    folder = work / "variants"
    contents = [
        _content("folded-nhwc", image=_image("NHWC", folded=True), labels=('a "quoted\\(name)"', "naïve 犬", "\\")),
        _content("plain-nhwc", image=_image("NHWC", folded=False), outputs=("float32", "uint8")),
        _content("four-channels", image=_image("NCHW", folded=True, channels=4)),
        _content("tokens", inputs=("int64", "int32"), outputs=("int32",)),
    ]
    for content in contents:
        _write_variant(content, folder)
    write_text(folder / "Package.swift", _one_package(contents))

    done = _test(folder, work, "--skip", "GoldenTests", "-Xswiftc", "-strict-concurrency=complete")

    assert done.returncode == 0, done.stdout
    assert "warning: " not in done.stdout
    assert done.stdout.count("testEveryBitIsThatOfTheEvaluation' passed") == 3
    assert done.stdout.count("testTheHighestScoreIsFirstAndOfEqualOnesTheFirstClass' passed") == 3


def _test(package: Path, work: Path, *options: str) -> CompletedProcess[str]:
    """``swift test`` in a package below ``work``."""
    inside = Path("/work") / package.relative_to(work)
    # SwiftPM's own sandbox is Apple's; Debian's clang would look for a linker that is not there.
    return swift_toolchain.swift(
        work,
        *("test", "--disable-sandbox", "-Xswiftc", "-use-ld=lld", "-Xswiftc", "-gnone"),
        *("--package-path", str(inside), "--scratch-path", "/work/scratch", *options),
    )


def _dumped(package: Path, work: Path) -> dict[str, Any]:
    """The manifest of an exported package as SwiftPM reads it."""
    done = swift_toolchain.swift(work, "package", "--package-path", f"/work/{package.name}", "dump-package")
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def _with_stand_ins(package: Path, copy: Path) -> Path:
    """A copy whose runtimes are the stand-ins; nothing else differs from what was exported."""
    shutil.copytree(package, copy)
    manifest = copy / "Package.swift"
    text, replaced = re.subn(
        r'\.package\(url: "[^"]*/([\w-]+?)(?:\.git)?", [^)]*\)',
        r'.package(path: "../stand-ins/\1")',
        manifest.read_text(),
    )
    assert replaced == 2
    manifest.write_text(text)
    return copy


def _named(done: CompletedProcess[str], how: str) -> set[str]:
    """The tests that ``passed`` or ``failed``."""
    return set(re.findall(rf"Test Case '\w+\.(\w+)' {how}", done.stdout))


def _image(layout: Literal["NCHW", "NHWC"], *, folded: bool, channels: int = 3) -> ImageInput:
    return ImageInput(
        height=17,
        width=19,
        channels=channels,
        layout=layout,
        mean=(0.0,) * channels if folded else (123.675, 116.28, 103.53),
        std=(1.0,) * channels if folded else (58.395, 57.12, 57.375),
        folded=folded,
    )


def _content(
    model: str,
    *,
    image: ImageInput | None = None,
    inputs: tuple[str, ...] = ("float32",),
    outputs: tuple[str, ...] = ("float32",),
    labels: tuple[str, ...] = (),
) -> Content:
    """What an export of such a model would be made of; there is no model behind it."""
    specs = [TensorSpec(name=f"in{place}", shape=(1, 3), dtype=dtype) for place, dtype in enumerate(inputs)]
    images: tuple[vectors.Case, ...] = ()
    if image is not None:
        images = _images(image)
        (tensor,) = images[0].outputs
        specs = [TensorSpec(name="image", shape=tensor.shape, dtype=tensor.dtype.name)]
    results = tuple(TensorSpec(name=f"out{place}", shape=(1, 3), dtype=dtype) for place, dtype in enumerate(outputs))
    artifact = replace(sample_artifact(), name=f"{model}.fp32.pte", inputs=tuple(specs), outputs=results)
    app_model = AppModel(
        artifact=artifact,
        path=Path(__file__),
        file=artifact.name,
        format="pte",
        requires=Requires(runtime="executorch", version="1.5.1", backends=("XnnpackBackend",)),
        vectors=(vectors.Case(inputs=(np.zeros(1, np.float32),), outputs=()),),
    )
    return Content(
        manifest=replace(sample_manifest(), model=model),
        package=ios.package(model, None),
        type_name=ios.type_name(model),
        models=(app_model,),
        inputs=tuple(specs),
        outputs=results,
        image=image,
        images=images,
        labels=labels,
        left_out=(),
    )


def _images(how: ImageInput) -> tuple[vectors.Case, ...]:
    pixels = image.every_byte(how)
    return (vectors.Case(inputs=(pixels,), outputs=(image.prepared(pixels, how),)),)


def _write_variant(content: Content, folder: Path) -> None:
    for path, text in ios.files(content).items():
        if path not in ("Package.swift", "README.md"):
            write_text(folder / path, text)
    write_bytes(folder / ios.resources(content) / content.models[0].file, b"no model")
    if content.images:
        write_bytes(folder / ios.golden_resources(content) / IMAGES, vectors.write(content.images))


def _one_package(contents: list[Content]) -> str:
    """One package with the targets of all, so that what they share is compiled once."""
    targets = ""
    for content in contents:
        name, tested = content.package, '[.copy("Resources")]' if content.images else "[]"
        targets += (
            f'.target(name: "{name}", dependencies: [.product(name: "executorch", package: "executorch")], '
            f'resources: [.copy("Resources/{content.models[0].file}")]),\n'
            f'.testTarget(name: "{name}Tests", dependencies: ["{name}"], resources: {tested}),\n'
        )
    return (
        '// swift-tools-version:5.9\nimport PackageDescription\nlet package = Package(name: "variants",\n'
        f'dependencies: [.package(path: "../stand-ins/executorch")], targets: [\n{targets}])\n'
    )
