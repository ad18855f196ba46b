"""What edgeq holds builds against before a push, held against the runtimes themselves."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeq import runner
from edgeq.packages.locks import load_wheel_lock
from edgeq.progress import Silent
from edgeq.runner.elf import floor_of, loader_of, version_key
from edgeq.stages.compatibility import ONNX_LIMITS
from edgeq.stages.compatibility.onnx_header import read_header
from edgeq.triple import KINDS

if TYPE_CHECKING:
    from edgeq.triple import Triple

NEWEST = ONNX_LIMITS[importlib.metadata.version("onnxruntime")]

LISTS_THE_REGISTRY = """
import ctypes, json, sys
class Span(ctypes.Structure):
    _fields_ = [("first", ctypes.c_void_p), ("count", ctypes.c_size_t)]
class Kernel(ctypes.Structure):  # executorch/runtime/kernel/operator_registry.h
    _fields_ = [("name", ctypes.c_char_p), ("key", ctypes.c_char_p), ("function", ctypes.c_void_p)]
libraries = [ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) for path in sys.argv[1:]]
registered = libraries[0]["_ZN10executorch7runtime22get_registered_kernelsEv"]
registered.restype = Span
span = registered()
kernels = (Kernel * span.count).from_address(span.first)
print(json.dumps([kernel.name.decode() for kernel in kernels]))
"""


def _wheel() -> Path:
    spec = importlib.util.find_spec("executorch")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _libraries() -> list[Path]:
    names = ("executorch", "executorch_threadpool", "executorch_kernels_optimized", "executorch_kernels_quantized")
    return [_wheel() / "lib" / f"lib{name}.so" for name in names]


def _registered() -> set[str]:
    """What the libraries of the runner register when they are loaded, as the runtime lists it."""
    command = [sys.executable, "-c", LISTS_THE_REGISTRY, *map(str, _libraries())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout)
    return set(names)


def test_every_kernel_that_the_runtime_registers_is_found_in_its_libraries_by_name() -> None:
    registered = _registered()
    assert len(registered) > 200
    data = [path.read_bytes() for path in _libraries()]
    assert not [name for name in registered if not any(name.encode() + b"\0" in one for one in data)]


def test_what_looks_like_a_kernel_in_the_libraries_is_one() -> None:
    registered = _registered()
    domains = "|".join(sorted({re.escape(name.partition("::")[0]) for name in registered}))
    looks_like_one = re.compile(rb"(?<=\0)(?:%s)::[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)?(?=\0)" % domains.encode())
    found = {match.decode() for path in _libraries() for match in looks_like_one.findall(path.read_bytes())}
    # A kernel that was renamed before it was registered; its message kept the name.
    assert found - registered <= {"quantized_decomposed::embedding_xbit.dtype_out"}


def test_the_limits_are_those_of_the_onnx_runtime_that_the_runner_carries() -> None:
    locked = {one.runtime_version for one in load_wheel_lock().wheel if one.name.startswith("onnxruntime-")}
    assert locked == ONNX_LIMITS.keys()
    assert importlib.metadata.version("onnxruntime") in locked


@pytest.mark.parametrize(
    ("ir_version", "opset", "microsoft", "loads"),
    [
        (NEWEST.ir, NEWEST.opsets[""], NEWEST.opsets["com.microsoft"], True),
        (NEWEST.ir + 1, 20, 1, False),
        (10, NEWEST.opsets[""] + 1, 1, False),
        (10, 20, NEWEST.opsets["com.microsoft"] + 1, False),
    ],
)
def test_onnx_runtime_refuses_what_is_newer(
    tmp_path: Path, ir_version: int, opset: int, microsoft: int, *, loads: bool
) -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", values[:1], values[1:])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", microsoft)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    path = tmp_path / "a.onnx"
    onnx.save(model, path)

    header = read_header(path)
    assert header is not None
    assert (header.ir_version, header.opsets) == (ir_version, {"": opset, "com.microsoft": microsoft})
    providers = ["CPUExecutionProvider"]
    if loads:
        onnxruntime.InferenceSession(path, providers=providers)
    else:
        with pytest.raises(Exception, match=r"version|opset"):
            onnxruntime.InferenceSession(path, providers=providers)


@pytest.mark.parametrize("triple", ["aarch64-linux-gnu", "arm-linux-gnueabihf"])
def test_the_runners_of_boards_need_what_a_doctor_asks_for(triple: Triple) -> None:
    kind = KINDS[triple]
    bundles = [runner.bundle(engine, triple, progress=Silent()) for engine in kind.engines]
    floors = [floor_of(one.files.values()) for one in bundles]
    assert max((one.glibc for one in floors), key=version_key) == kind.glibc
    assert max((one.glibcxx for one in floors), key=version_key) == kind.glibcxx
    loaders = {loader_of(one.files[one.executable]) for one in bundles}
    assert loaders == {kind.loader}
    assert [one.built_with for one in bundles] == [
        importlib.metadata.version(engine).partition("+")[0] for engine in kind.engines
    ]
