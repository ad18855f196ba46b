"""The wheel as a user meets it: installed far from the checkout, on a machine without a compiler.

Takes some 100 s: real builds, a real pip, a real emulated board.
"""

from __future__ import annotations

import email
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeq.files import cache_dir
from edgeq.packages import fetch_wheel
from edgeq.progress import Silent
from edgeq.runner import bundle
from edgeq.runner.notices import notices_name
from edgeq.triple import RUNNERS

ROOT = Path(__file__).parents[2]
COMPILERS = re.compile(r"(.*-)?(g\+\+|gcc|c\+\+|cc|c89|c99|cpp|clang|ld|as|ar|make|gmake|cmake|ninja)([-.].*)?$")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An installation of the wheel, a PATH without compilers, and a cache without runners."""

    python: Path
    env: dict[str, str]
    home: Path

    def edgeq(self, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.python.with_name("edgeq"), *map(str, arguments)],
            cwd=self.home,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == status, done.stderr + done.stdout
        return done


def _build_wheel(sources: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every program of this machine but those that build programs."""
    folder = tmp_path_factory.mktemp("programs")
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            if not COMPILERS.match(program.name) and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    assert shutil.which("sh", path=str(folder))
    assert not [tool for tool in ("cc", "g++", "cmake", "make") if shutil.which(tool, path=str(folder))]
    return folder


def _machine(home: Path, programs: Path, *, cached: tuple[str, ...]) -> Machine:
    """A machine with an empty virtual environment; of the user's cache it has what was fetched, not what was built."""
    venv.create(home / "venv", with_pip=True)
    (home / "cache").mkdir()
    for name in cached:
        (home / "cache" / name).symlink_to(cache_dir() / name)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGEQ"))}
    return Machine(
        python=home / "venv" / "bin" / "python",
        env={**env, "PATH": str(programs), "EDGEQ_CACHE": str(home / "cache"), "EDGEQ_HISTORY": "off"},
        home=home,
    )


def _pip(machine: Machine, *arguments: object) -> None:
    command = [machine.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, env=machine.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def whole(wheel: Path, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """edgeq from the wheel, and links to all other packages that are here; edgeq itself is one to the checkout here."""
    for triple, engine in RUNNERS:
        fetch_wheel(f"{engine}-{triple}", progress=Silent())
    fetched = ("wheels", "debs", "apt", "board-images", "board-keys", "board-snapshots")
    machine = _machine(tmp_path_factory.mktemp("whole"), programs, cached=fetched)
    _pip(machine, "--no-deps", "--no-index", wheel)
    (site,) = (machine.home / "venv" / "lib").glob("python*/site-packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if "edgeq" not in package.name and not (site / package.name).exists():
            (site / package.name).symlink_to(package)
    shutil.copytree(ROOT / "examples" / "fashion_mnist", machine.home / "fashion_mnist")
    return machine


@pytest.fixture(scope="module")
def build_for_this_machine(whole: Machine) -> Path:
    report = whole.edgeq(
        "run", "fashion_mnist", "--target", "host", "--device", "local", "--samples", 500, "--repeats", 20,
        "--threads", 1, "--out", "build/host", "--force", "--json",
    )  # fmt: skip
    rows = json.loads(report.stdout)["rows"]
    assert {row["format"] for row in rows} == {"pte", "onnx"}
    assert all(row["p50_ms"] and row["accuracy"] > 0.85 for row in rows)
    return whole.home / "build" / "host"


def _member(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def _in_dist_info(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (found,) = [one for one in archive.namelist() if one.endswith(f".dist-info/{name}")]
        return archive.read(found)


def _sha256_of_runners(wheel: Path) -> dict[str, str]:
    paths = [f"edgeq/runners/{triple}/edgeq-runner-{engine}" for triple, engine in RUNNERS]
    return {path: hashlib.sha256(_member(wheel, path)).hexdigest() for path in paths}


def test_it_works_on_this_machine_without_a_compiler(build_for_this_machine: Path, wheel: Path) -> None:
    deployment = json.loads((build_for_this_machine / "deployments" / "local.json").read_text())

    of_the_wheel = _sha256_of_runners(wheel)
    for engine, sha256 in deployment["runners"].items():
        assert sha256 == of_the_wheel[f"edgeq/runners/x86_64-linux-gnu/edgeq-runner-{engine}"]


def test_edgeq_comes_from_the_wheel_alone(whole: Machine) -> None:
    code = "import edgeq.pipeline, sys; print(edgeq.pipeline.__file__, *sys.path, sep='\\n')"
    done = subprocess.run(
        [whole.python, "-c", code], cwd=whole.home, env=whole.env, capture_output=True, text=True, check=True
    )
    file, *path = done.stdout.splitlines()

    assert whole.home in Path(file).parents
    assert str(ROOT / "toolchain") not in path


def test_it_works_on_an_emulated_board_without_a_compiler(whole: Machine, wheel: Path) -> None:
    report = whole.edgeq(
        "run", "fashion_mnist", "--target", "rpi4", "--recipe", "fp32", "--samples", 64, "--repeats", 3,
        "--out", "build/rpi4", "--json",
    )  # fmt: skip

    rows = json.loads(report.stdout)["rows"]
    assert {row["format"] for row in rows} == {"pte", "onnx"}
    assert all(row["timing"] == "emulated" and row["instructions"] for row in rows)
    deployment = json.loads((whole.home / "build" / "rpi4" / "deployments" / "board.json").read_text())
    of_the_wheel = _sha256_of_runners(wheel)
    for engine, sha256 in deployment["runners"].items():
        assert sha256 == of_the_wheel[f"edgeq/runners/aarch64-linux-gnu/edgeq-runner-{engine}"]
        assert notices_name(engine) in deployment["files"]


@pytest.fixture(scope="module")
def core(wheel: Path, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """What plain `pip install edgeq` gives, by a real pip."""
    machine = _machine(tmp_path_factory.mktemp("core"), programs, cached=("wheels",))
    _pip(machine, "--constraint", ROOT / "constraints.txt", wheel)
    shutil.copytree(ROOT / "examples" / "fashion_mnist", machine.home / "fashion_mnist")
    return machine


def test_the_core_brings_no_torch_and_says_what_it_lacks(core: Machine) -> None:
    told = json.loads(core.edgeq("--version", "--json").stdout)

    assert set(told["packages"].values()) == {None}
    assert all(one["came_with_edgeq"] for one in told["runner"]["builds"])
    assert "rpi4" in core.edgeq("targets").stdout


def test_the_core_deploys_measures_compares_checks_and_reports(core: Machine, build_for_this_machine: Path) -> None:
    build = core.home / "taken along"
    shutil.copytree(build_for_this_machine, build, ignore=shutil.ignore_patterns("deployments", "measurements.jsonl"))

    core.edgeq("deploy", build, "--device", "local")
    core.edgeq("bench", build, "--device", "local", "--samples", 100, "--repeats", 20, "--force")
    written = json.loads(core.edgeq("report", build, "--json").stdout)
    assert [Path(path).name for path in written["files"]] == ["report.md", "report.json"]
    assert "pip install 'edgeq[report]'" in written["left_out"][0]
    assert "int8-static" in (build / "report.md").read_text()
    checked = json.loads(core.edgeq("check", build, "--against", build, "--json").stdout)
    assert checked
    compared = core.edgeq("compare", build, build, "--device", "local", "--repeats", 20, "--force", "--json")
    assert all(row["verdict"] for row in json.loads(compared.stdout)["rows"])


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("build", "fashion_mnist"), "executorch"),
        (("run", "fashion_mnist", "--target", "host", "--format", "onnx"), "onnx"),
    ],
)
def test_the_core_names_the_extra_that_a_command_needs(core: Machine, command: tuple[str, ...], extra: str) -> None:
    done = core.edgeq(*command, "--json", status=3)

    assert json.loads(done.stdout)["error"]["hint"].startswith(f"pip install 'edgeq[{extra}]'")


def test_it_is_the_same_wheel_from_another_folder_at_another_time(wheel: Path, tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "copy" / name)
        os.utime(tmp_path / "copy" / name, (1e9, 1e9))

    again = _build_wheel(tmp_path / "copy", tmp_path / "out")

    assert again.name == wheel.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_its_tag_promises_no_more_than_its_programs_keep(wheel: Path) -> None:
    tags = email.message_from_bytes(_in_dist_info(wheel, "WHEEL")).get_all("Tag")

    assert tags == ["py3-none-manylinux_2_28_aarch64", "py3-none-manylinux_2_28_x86_64"]


def _sbom(wheel: Path) -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(_in_dist_info(wheel, "sboms/edgeq.cdx.json"))
    return listed


def test_its_sbom_names_every_program_in_it_by_its_hash(wheel: Path) -> None:
    listed = _sbom(wheel)

    told = {}
    for one in listed["components"]:
        properties = {entry["name"]: entry["value"] for entry in one.get("properties", ())}
        if "edgeq:path" in properties:
            told[properties["edgeq:path"]] = one["hashes"][0]["content"]
            assert properties["edgeq:glibc"] in {"2.17", "2.27", "2.28"}
            assert "GCC: (" in properties["edgeq:compilers"]
    assert told == _sha256_of_runners(wheel)
    with zipfile.ZipFile(wheel) as archive:
        programs = [name for name in archive.namelist() if archive.read(name)[:4] == b"\x7fELF"]
    assert sorted(programs) == sorted(told)


def test_its_sbom_is_whole(wheel: Path) -> None:
    listed = _sbom(wheel)

    known = {one["bom-ref"] for one in listed["components"]} | {listed["metadata"]["component"]["bom-ref"]}
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    assert len(known) == len(listed["components"]) + 1
    for edge in listed["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= known
    licences = {one["name"]: one["licenses"][0]["expression"] for one in listed["components"] if "licenses" in one}
    assert licences["executorch"] == "BSD-3-Clause"
    assert licences["onnxruntime"] == "MIT"
    assert licences["XNNPACK"] == "BSD-3-Clause"
    assert "GCC-exception" in licences["edgeq-runner-executorch"]


@pytest.mark.parametrize(
    ("engine", "member"),
    [("executorch", "executorch-1.5.1.dist-info/licenses/LICENSE"), ("onnxruntime", "onnxruntime/LICENSE")],
)
def test_the_licence_of_a_runtime_goes_along_in_the_wheel_and_to_a_device(
    engine: str, member: str, wheel: Path
) -> None:
    runtime = fetch_wheel(f"{engine}-aarch64-linux-gnu", progress=Silent())
    licence = _words(_member(runtime, member))

    assert licence in _words(_in_dist_info(wheel, "licenses/THIRD_PARTY_NOTICES.md"))
    for_device = bundle(engine, "aarch64-linux-gnu", progress=Silent()).files[notices_name(engine)].read_bytes()
    assert licence in _words(for_device)
    assert _words((ROOT / "LICENSE").read_bytes()) in _words(for_device)
    assert "GCC Runtime Library Exception" in _words(for_device)
    assert "XNNPACK" in _words(for_device)


def _words(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split())
