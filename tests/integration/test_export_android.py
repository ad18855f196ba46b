"""The exported Android module: its Kotlin compiles against real classes, and does on a JVM what Python does."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import tree_sitter
import tree_sitter_kotlin
from example_builds import example_build
from kotlin_tools import KotlinTools, kotlin_tools

from edgeq import pipeline
from edgeq.evaluation import EvaluationSet, subset
from edgeq.mobile import image, vectors
from edgeq.records import Export, FoldedInput, Preprocess, TensorSpec
from edgeq.schema import to_json
from edgeq.testing import tiny_build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Manifest

NEWEST_IR_OF_THE_TEST_RUNTIME = 9
"""ONNX Runtime 1.17, the one with Java classes in a registry, reads no newer; the build's files say 10."""

DUMP = """package {package}

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The values of a file of test vectors as they were read; and, if asked, what Preprocessing makes of its inputs. */
fun main(arguments: Array<String>) {{
    val cases = testCasesOf(File(arguments[0]).readBytes())
    File(arguments[1]).writeBytes(raw(cases.flatMap {{ it.inputs + it.outputs }}.map {{ it.values }}))
    {prepared}
}}

private fun raw(tensors: List<Any>): ByteArray {{
    val bytes = ByteBuffer.allocate(32_000_000).order(ByteOrder.LITTLE_ENDIAN)
    for (values in tensors) {{
        when (values) {{
            is ByteArray -> bytes.put(values)
            is FloatArray -> values.forEach {{ bytes.putFloat(it) }}
            else -> error("not in these tests")
        }}
    }}
    return bytes.array().copyOf(bytes.position())
}}
"""
PREPARED = """if (arguments.size > 2) {
        val prepared = cases.map { Preprocessing.input(it.inputs.single().values as ByteArray) }
        File(arguments[2]).writeBytes(raw(prepared))
    }"""
SHOW = """package {package}

import androidx.test.platform.app.InstrumentationRegistry
import java.io.File
import java.util.concurrent.CompletableFuture

/** The two best classes of each image, asked for by four threads at once. */
object Show {{
    @JvmStatic
    fun main(arguments: Array<String>) {{
        {type}.load(InstrumentationRegistry.getInstrumentation().targetContext, threads = 1).use {{ model ->
            for (case in testCasesOf(File(arguments[0]).readBytes())) {{
                val pixels = case.inputs.single().values as ByteArray
                val asked = List(4) {{ CompletableFuture.supplyAsync {{ model.classify(pixels, 2) }} }}
                println(asked.map {{ it.get() }}.distinct().single())
            }}
        }}
    }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Module:
    """An exported folder and its record."""

    folder: Path
    record: Export

    def assets(self) -> str:
        return f"{self.folder}/src/main/assets:{self.folder}/src/androidTest/assets"

    def vectors(self, name: str) -> Path:
        return self.folder / "src" / "androidTest" / "assets" / self.record.package / f"{name}.vectors"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """All modules, compiled at once: the compiler takes longer to start than to compile."""

    tools: KotlinTools
    modules: dict[str, Module]
    classes: Path
    fakes: Path
    said: str

    def run(self, name: str, main: str, *arguments: object, storage: Path) -> str:
        module = self.modules[name]
        return self.tools.java(
            f"{module.record.package}.{main}" if "." not in main else main,
            *map(str, arguments),
            classes=[self.fakes, self.classes, self.tools.onnxruntime],
            assets=module.assets(),
            storage=str(storage),
        )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    root = tmp_path_factory.mktemp("android")
    modules = {
        "fashion onnx": _exported(
            root, example_build("fashion_mnist"), "fashion.onnx", "fashion-mnist.int8-static.onnx"
        ),
        "fashion pte": _exported(root, example_build("fashion_mnist"), "fashion.pte", None),
        "efficientnet onnx": _exported(
            root, example_build("efficientnet_lite0"), "lite0.onnx", "efficientnet-lite0.int8-static.onnx"
        ),
        "efficientnet both": _exported(root, example_build("efficientnet_lite0"), "lite0.both", "int8-static"),
        "tensors": _exported(root, _tokens(root / "tokens"), "tensors", None),
        "bytes": _exported(root, _folded(root / "folded"), "bytes", None),
    }
    dumps = [_dump(root, module) for module in modules.values()]
    dumps += [_show(root, module) for name, module in modules.items() if name.endswith(" onnx")]
    tools = kotlin_tools()
    said = tools.compile_module([module.folder for module in modules.values()], dumps, root / "classes")
    tools.compile_fakes(root / "fakes")
    for name in ("fashion onnx", "efficientnet onnx"):
        _made_readable(modules[name])
    return Compiled(tools=tools, modules=modules, classes=root / "classes", fakes=root / "fakes", said=said)


def _exported(root: Path, build: Path, name: str, artifact: str | None) -> Module:
    done = pipeline.export(
        pipeline.read_build(build),
        "android",
        root / "modules" / name,
        artifacts=[artifact] if artifact else [],
        package=f"org.example.{name.replace('.', '_')}",
    )
    return Module(folder=done.folder, record=done.record)


def _tokens(folder: Path) -> Path:
    """A build without [preprocess]: an app hands over tensors."""
    tiny_build(folder)
    return folder


def _folded(folder: Path) -> Path:
    """A build whose artifacts take the bytes of a grey image of 2 x 2 pixels."""
    manifest = tiny_build(folder)
    pixels = np.arange(manifest.evaluation.samples * 4, dtype=np.uint8).reshape(-1, 2, 2, 1)
    np.save(folder / "evaluation" / "input0.npy", pixels)
    artifacts = tuple(
        replace(
            one,
            inputs=(TensorSpec(name="image", shape=(1, 2, 2, 1), dtype="uint8"),),
            preprocess=Preprocess(layout="NHWC", mean=(0.0,), std=(1.0,), folded=True),
            folded=FoldedInput(layout="NHWC", mean=(127.0,), std=(128.0,), form="read"),
        )
        for one in manifest.artifacts
    )
    _rewrite(folder, replace(manifest, artifacts=artifacts))
    return folder


def _rewrite(folder: Path, manifest: Manifest) -> None:
    (folder / "manifest.json").write_text(to_json(manifest))


def _dump(root: Path, module: Module) -> Path:
    path = root / "dumps" / module.record.package / "Dump.kt"
    path.parent.mkdir(parents=True)
    path.write_text(DUMP.format(package=module.record.package, prepared=PREPARED if module.record.image else ""))
    return path


def _show(root: Path, module: Module) -> Path:
    path = root / "dumps" / module.record.package / "Show.kt"
    path.write_text(SHOW.format(package=module.record.package, type=module.record.type_name))
    return path


def _made_readable(module: Module) -> None:
    """Let the module's asset say that it is of an older version of the format, as nothing in it is newer."""
    (path,) = (module.folder / one.file for one in module.record.files)
    model = onnx.load(path)
    model.ir_version = NEWEST_IR_OF_THE_TEST_RUNTIME
    onnx.save(model, path)


def _raw(arrays: Sequence[np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)


IMAGE_MODULES = ("fashion onnx", "fashion pte", "efficientnet onnx", "efficientnet both", "bytes")


def test_everything_compiles_against_the_real_classes_without_a_warning(compiled: Compiled) -> None:
    assert not [line for line in compiled.said.splitlines() if "warning:" in line and "/modules/" in line]
    for module in compiled.modules.values():
        assert list((compiled.classes / module.record.package.replace(".", "/")).glob("GoldenVectorTest.class"))


@pytest.mark.parametrize("name", ["fashion onnx", "efficientnet onnx"])
def test_the_exported_tests_pass_on_a_jvm_with_the_real_onnx_runtime(
    compiled: Compiled, name: str, tmp_path: Path
) -> None:
    module = compiled.modules[name]
    said = compiled.run(
        name, "org.junit.runner.JUnitCore", f"{module.record.package}.GoldenVectorTest", storage=tmp_path
    )
    assert "OK (3 tests)" in said


@pytest.mark.parametrize("name", ["fashion onnx", "efficientnet onnx"])
def test_an_image_gets_the_class_that_it_has_in_the_build_by_its_name(
    compiled: Compiled, name: str, tmp_path: Path
) -> None:
    module = compiled.modules[name]
    build = example_build("fashion_mnist" if name.startswith("fashion") else "efficientnet_lite0")
    samples = EvaluationSet.of(build, pipeline.read_build(build).manifest)
    first = int(subset(samples.labels, samples.samples, 1)[0])
    scores = samples.host_outputs(module.record.files[0].artifact)[first].ravel()
    best = int(scores.argmax())
    said = compiled.run(name, "Show", module.vectors("images"), storage=tmp_path)
    assert f"[Prediction(index={best}, label={module.record.labels[best]}, score=" in said.splitlines()[1]


def test_an_exported_test_fails_where_the_model_gives_something_else(compiled: Compiled, tmp_path: Path) -> None:
    module = compiled.modules["fashion onnx"]
    path = module.vectors("fashion-mnist.int8-static.onnx")
    good = path.read_bytes()
    cases = vectors.read(good)
    path.write_bytes(vectors.write([replace(one, outputs=tuple(-array for array in one.outputs)) for one in cases]))
    try:
        with pytest.raises(AssertionError, match=r"int8StaticOnnxGivesTheExpectedOutputs[\s\S]*dB are due"):
            compiled.run(
                "fashion onnx",
                "org.junit.runner.JUnitCore",
                f"{module.record.package}.GoldenVectorTest",
                storage=tmp_path,
            )
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("name", IMAGE_MODULES)
def test_kotlin_makes_the_model_input_that_python_makes_bit_for_bit(
    compiled: Compiled, name: str, tmp_path: Path
) -> None:
    module = compiled.modules[name]
    how = module.record.image
    assert how is not None
    noise = np.random.default_rng(7).integers(0, 256, (4, how.height, how.width, how.channels), dtype=np.uint8)
    made = [*(case.inputs[0] for case in vectors.read(module.vectors("images").read_bytes())), *noise]
    file = tmp_path / "images.vectors"
    file.write_bytes(vectors.write([vectors.Case(inputs=(one,), outputs=()) for one in made]))
    compiled.run(name, "DumpKt", file, tmp_path / "values", tmp_path / "prepared", storage=tmp_path)
    assert (tmp_path / "values").read_bytes() == _raw(made)
    assert (tmp_path / "prepared").read_bytes() == _raw([image.prepared(one, how) for one in made])


@pytest.mark.parametrize("name", ["fashion pte", "efficientnet onnx", "tensors"])
def test_kotlin_reads_the_test_vectors_that_python_wrote(compiled: Compiled, name: str, tmp_path: Path) -> None:
    module = compiled.modules[name]
    (file,) = (one.golden.file for one in module.record.files if one.golden)
    cases = vectors.read((module.folder / file).read_bytes())
    compiled.run(name, "DumpKt", module.folder / file, tmp_path / "values", storage=tmp_path)
    assert (tmp_path / "values").read_bytes() == _raw([a for case in cases for a in (*case.inputs, *case.outputs)])


def test_the_images_of_the_examples_are_those_that_the_models_were_evaluated_on(compiled: Compiled) -> None:
    for name in ("fashion pte", "efficientnet onnx"):
        images = compiled.modules[name].record.images
        assert images is not None
        assert images.as_evaluated
        assert images.note == ""


def test_the_examples_have_names_for_their_classes(compiled: Compiled) -> None:
    for name, first, count in (("fashion pte", "T-shirt/top", 10), ("efficientnet onnx", "tench", 1000)):
        module = compiled.modules[name]
        lines = (module.folder / "src/main/assets" / module.record.package / "labels.txt").read_text().splitlines()
        assert lines == list(module.record.labels)
        assert (lines[0], len(lines)) == (first, count)


def test_the_build_file_is_kotlin_and_names_the_runtime_of_each_file(compiled: Compiled) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_kotlin.language()))
    for module in compiled.modules.values():
        for path in module.folder.rglob("*.kt*"):
            assert not parser.parse(path.read_bytes()).root_node.has_error, path
        text = (module.folder / "build.gradle.kts").read_text()
        named = set(re.findall(r'^    implementation\("(.*)"\)$', text, re.MULTILINE))
        assert named == {f"{one.dependency.name}:{one.dependency.version}" for one in module.record.files}
        assert f'namespace = "{module.record.package}"' in text


def test_the_record_in_the_folder_is_the_one_that_is_returned(compiled: Compiled) -> None:
    for module in compiled.modules.values():
        assert json.loads((module.folder / "export.json").read_text()) == json.loads(to_json(module.record))
