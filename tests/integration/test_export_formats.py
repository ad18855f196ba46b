"""What an export makes of artifacts: ORT format on an emulated ARM board, files for Vulkan and for Core ML."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from example_builds import example_build

from edgeq import pipeline
from edgeq.files import sha256_file
from edgeq.host import HostRuntime
from edgeq.mobile import ort_format, vectors
from edgeq.progress import Silent
from edgeq.quiet import quietly
from edgeq.records import Export
from edgeq.runner import bundle, execute
from edgeq.schema import from_json
from edgeq.stages.parity.comparing import nearest_db
from edgeq.stages.parity.running import arrays_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from edgeq.device.transport import Transport
    from edgeq.records import Delegated, ExportedFile

INT8, FLOAT = "fashion-mnist.int8-static", "fashion-mnist.fp32"

LOWER = """
import contextlib, hashlib, json, sys
from pathlib import Path

import torch
from torch import nn

from edgeq.errors import EdgeqError
from edgeq.lower import delegates
from edgeq.lower.delegates import coreml, vulkan
from edgeq.schema import to_data


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.cumsum(x, 1)
        x = nn.functional.elu(x)
        return torch.acosh(1 + self.last(x).abs())


def lowered(delegate, path):
    torch.manual_seed(0)
    net, image = Net().eval(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        case = ((image.numpy(),), (net(image).numpy(),))
    expected = delegates.Expected(macs=64 * 8 * (27 + 6), cases=(case,), least_sqnr_db=10.0)
    made, _ = delegates.lower_for(delegate, torch.export.export(net, (image,)), path, expected)
    return {**to_data(made), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


told = {delegate: lowered(delegate, Path(sys.argv[1])) for delegate in ("vulkan", "coreml")}
vulkan._without_patterns_that_cannot_match = lambda program: contextlib.nullcontext()
told["looked for everything"] = lowered("vulkan", Path(sys.argv[1]))
sys.modules["coremltools"] = None
coreml._exporter.cache_clear()
try:
    lowered("coreml", Path(sys.argv[1]))
except EdgeqError as error:
    told["without coremltools"] = [error.exit_code, error.message, error.hint]
print(json.dumps(told))
"""

CONVERT = """
import sys
from pathlib import Path
from edgeq.mobile.ort_format import convert

build, folder = map(Path, sys.argv[1:])
for onnx in build.glob("*.onnx"):
    convert(onnx, folder / f"{onnx.stem}.ort")
"""


class Exported:
    """An exported folder and its record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = from_json(Export, (folder / "export.json").read_bytes(), where="export.json")

    def file(self, name: str) -> ExportedFile:
        (found,) = [one for one in self.record.files if one.file.endswith(f"/{name}")]
        return found

    def path(self, name: str) -> Path:
        return self.folder / self.file(name).file

    def cases(self, name: str) -> tuple[vectors.Case, ...]:
        golden = self.file(name).golden
        assert golden is not None
        return vectors.read((self.folder / golden.file).read_bytes())

    def delegated(self, name: str) -> Delegated:
        found = self.file(name).delegated
        assert found is not None
        return found


def _python(*args: object) -> subprocess.CompletedProcess[str]:
    # In a process of its own: torch and executorch warn of their own deprecations, which are errors here.
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, check=False, timeout=300)


def _export(build: Path, out: Path, *options: object) -> Exported:
    done = _python("-m", "edgeq", "export", build, "--out", out, "--json", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folder"] == str(out)
    return Exported(out)


@pytest.fixture(scope="module")
def build() -> Path:
    return example_build("fashion_mnist")


@pytest.fixture(scope="module")
def android(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    chosen = [option for name in (f"{INT8}.pte", f"{INT8}.onnx", f"{FLOAT}.onnx") for option in ("--artifact", name)]
    options = (*chosen, "--ort", "--delegate", "vulkan")
    return _export(build, tmp_path_factory.mktemp("android") / "out", "--platform", "android", *options)


@pytest.fixture(scope="module")
def ios(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    options = ("--artifact", f"{INT8}.pte", "--delegate", "coreml")
    return _export(build, tmp_path_factory.mktemp("ios") / "out", "--platform", "ios", *options)


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is known of a net of which each delegate lacks operators."""
    done = _python("-c", LOWER, tmp_path_factory.mktemp("partly") / "net.pte")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_an_ort_takes_the_place_of_the_onnx(android: Exported) -> None:
    assert {one.format for one in android.record.files} == {"pte", "ort"}
    for name in (INT8, FLOAT):
        one = android.file(f"{name}.ort")
        assert one.artifact == f"{name}.onnx"
        assert one.sha256 == sha256_file(android.path(f"{name}.ort"))
        assert one.dependency.name == "com.microsoft.onnxruntime:onnxruntime-android"


@pytest.mark.parametrize("name", [INT8, FLOAT])
def test_an_ort_computes_the_bits_of_its_onnx_without_what_is_for_x86_alone(
    build: Path, android: Exported, name: str
) -> None:
    made = HostRuntime(android.path(f"{name}.ort"), "onnx")
    twin = HostRuntime(build / f"{name}.onnx", "onnx", left_out=ort_format.ONLY_ON_X86)
    cases = android.cases(f"{name}.ort")
    assert len(cases) > 1
    for case in cases:
        assert nearest_db(twin.run(case.inputs), made.run(case.inputs)) == math.inf


def test_the_record_says_whether_an_ort_gives_the_bits_of_the_onnx(build: Path, android: Exported) -> None:
    for name in (INT8, FLOAT):
        made = HostRuntime(android.path(f"{name}.ort"), "onnx")
        twin = HostRuntime(build / f"{name}.onnx", "onnx")
        nearest = min(nearest_db(twin.run(one.inputs), made.run(one.inputs)) for one in android.cases(f"{name}.ort"))
        said = android.file(f"{name}.ort").ort
        assert said is not None
        assert said.identical == (nearest == math.inf)
        assert said.sqnr_db == (None if nearest == math.inf else pytest.approx(nearest))
        assert bool(said.note) != said.identical


def test_the_same_onnx_gives_the_same_ort_in_another_process(build: Path, android: Exported, tmp_path: Path) -> None:
    done = _python("-c", CONVERT, build, tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (INT8, FLOAT):
        assert sha256_file(tmp_path / f"{name}.ort") == android.file(f"{name}.ort").sha256


def test_the_operator_lists_have_what_is_in_the_files_and_nothing_else(android: Exported) -> None:
    held: dict[str, dict[int, set[str]]] = {}
    looked_in = list(sys.path)
    for name in (INT8, FLOAT):
        with quietly():  # it leaves its file to Python to close, which warns of that
            ort_format._ort_format().OrtFormatModelProcessor(str(android.path(f"{name}.ort")), held, None).process()
    assert sys.path == looked_in  # ONNX Runtime's tools would add a folder
    names = {operator for sets in held.values() for some in sets.values() for operator in some}
    assert {"QLinearConv", "FusedConv"} <= names
    plain, typed = ((android.folder / path).read_text() for path in android.record.operator_lists)
    listed = [line.split(";") for line in plain.splitlines() if not line.startswith("#")]
    assert {(domain, int(opset), one) for domain, opset, some in listed for one in some.split(",")} == {
        (domain, opset, one) for domain, sets in held.items() for opset, some in sets.items() for one in some
    }
    assert 'QLinearConv{"inputs": {"0": ["int8_t"]}}' in typed
    assert str(android.folder.parent) not in plain + typed


def test_an_ort_runs_on_an_arm_board_and_gives_the_bits_of_the_onnx_there(build: Path, android: Exported) -> None:
    what = pipeline.read_build(build)
    with pipeline.connected(what, "board", progress=Silent()) as board:
        files = bundle("onnxruntime", what.target.triple, progress=Silent()).files
        for name, path in files.items():
            board.put(path, f"formats/{name}", mode=0o755)
        try:
            for name in (INT8, FLOAT):
                (artifact,) = what.manifest.chosen([f"{name}.onnx"])
                inputs = [case.inputs[0] for case in android.cases(f"{name}.ort")]
                board.put(android.path(f"{name}.ort"), f"formats/{name}.ort")
                board.put(build / artifact.name, f"formats/{artifact.name}")
                made, twin = (_run(board, model, inputs) for model in (f"{name}.ort", artifact.name))
                assert made == twin
                for output, case in zip(made, android.cases(f"{name}.ort"), strict=True):
                    assert nearest_db(case.outputs, arrays_of(output, artifact)) > 25
        finally:
            board.run(["rm", "-rf", "formats"])


def _run(board: Transport, model: str, inputs: list[np.ndarray]) -> list[bytes]:
    outputs: list[bytes] = []
    execute(
        board,
        folder="formats",
        executable="edgeq-runner-onnxruntime",
        model=model,
        threads=1,
        warmup=0,
        repeats=0,
        count_instructions=False,
        samples=(one.tobytes() for one in inputs),
        on_outputs=lambda _, data: outputs.append(data),
        timeout_s=60,
    )
    return outputs


def test_vulkan_has_all_of_the_network_in_its_int8_kernels(android: Exported) -> None:
    made = android.delegated(f"{INT8}.vulkan.pte")
    assert (made.mac_share, made.partitions, made.undelegated) == (1.0, 1, ())
    assert sum(count for name, count in made.kernels.items() if name.startswith("et_vk.q8ta_conv2d")) == 11
    assert "aten.convolution" not in made.kernels
    assert android.file(f"{INT8}.vulkan.pte").requires.backends == ("VulkanBackend",)


def test_what_vulkan_is_handed_computes_the_model_by_executorchs_own_descriptions(
    android: Exported, partly: dict[str, Any]
) -> None:
    fused = android.delegated(f"{INT8}.vulkan.pte")
    assert fused.described_db is not None
    assert fused.described_db > 25
    for checked in (fused.checked, partly["vulkan"]["checked"]):
        assert any("descriptions of its kernels" in said for said in checked)


def test_what_was_not_checked_is_in_the_record_and_the_readme(android: Exported, ios: Exported) -> None:
    for one, name in ((android, f"{INT8}.vulkan.pte"), (ios, f"{INT8}.coreml.pte")):
        unchecked = one.delegated(name).unchecked
        assert any("runs" in said for said in unchecked)
        readme = (one.folder / "README.md").read_text()
        for said in unchecked:
            assert f"Not checked: {said}." in readme


def test_an_app_with_vulkan_takes_the_one_package_that_has_both(android: Exported) -> None:
    gradle = (android.folder / "build.gradle.kts").read_text()
    assert 'implementation("org.pytorch:executorch-android-vulkan:' in gradle
    assert 'implementation("org.pytorch:executorch-android:' not in gradle


def test_core_ml_has_all_of_the_network_with_int8_activations(ios: Exported) -> None:
    made = ios.delegated(f"{INT8}.coreml.pte")
    assert (made.mac_share, made.partitions, made.undelegated) == (1.0, 1, ())
    assert made.kernels["conv"] == 11
    assert made.kernels["constexpr_affine_dequantize"] == 12
    assert made.kernels["quantize"] > 11
    assert "backend_coreml" in (ios.folder / "Package.swift").read_text()


def test_the_same_program_gives_the_same_core_ml_file_in_another_process(
    build: Path, ios: Exported, tmp_path: Path
) -> None:
    again = _export(build, tmp_path / "again", "--platform", "ios", "--artifact", f"{INT8}.pte", "--delegate", "coreml")
    assert again.record == ios.record


def test_what_a_delegate_leaves_is_told_with_its_reason_and_who_computes_it(partly: dict[str, Any]) -> None:
    reasons = {row["op"]: row["reason"] for row in partly["vulkan"]["undelegated"]}
    assert reasons.keys() == {"aten.cumsum.default", "aten.elu.default", "aten.acosh.default"}
    assert reasons["aten.elu.default"] == "no-kernel: Vulkan has no kernel for elu; XNNPACK computes it on the CPU"
    assert reasons["aten.cumsum.default"].startswith(
        "no-kernel: Vulkan has no kernel for cumsum; ExecuTorch's own kernel"
    )
    assert (partly["vulkan"]["partitions"], partly["vulkan"]["cpu_partitions"]) == (2, 1)
    (row,) = partly["coreml"]["undelegated"]
    assert row["op"] == "aten.acosh.default"
    assert row["reason"].startswith("constraint: ExecuTorch keeps this acosh from Core ML")


def test_a_graph_without_rotary_embeddings_gives_the_same_file_if_none_are_looked_for(partly: dict[str, Any]) -> None:
    assert partly["vulkan"]["sha256"] == partly["looked for everything"]["sha256"]


def test_a_machine_without_coremltools_is_told_what_helps(partly: dict[str, Any]) -> None:
    exit_code, message, hint = partly["without coremltools"]
    assert exit_code == 3
    assert "coremltools, which does not load here" in message
    assert "pip install coremltools==" in hint
