"""What an ordinary build of a wheel lacks here: the native runners, the wheel's tag, and the list of what is inside.

hatchling calls :class:`Runners` for every wheel (``python -m build``); an
editable installation builds its runners when they are needed. The runners
come from the same function that ``edgeq deploy`` uses, so they are of the
sources beside this file or the build stops.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "toolchain"))  # edgeq is not installed where a wheel of it is built

from edgeq.errors import EdgeqError  # noqa: E402  # as above
from edgeq.packages.locks import load_deb_lock, load_wheel_lock  # noqa: E402  # as above
from edgeq.runner import SYSROOTS, bundle, floor_of  # noqa: E402  # as above
from edgeq.runner.notices import projects_inside  # noqa: E402  # as above
from edgeq.triple import RUNNERS  # noqa: E402  # as above

if TYPE_CHECKING:
    from edgeq.packages.locks import LockedDeb, LockedWheel
    from edgeq.runner import RunnerBundle

TAG = "py3-none-manylinux_2_28_aarch64.manylinux_2_28_x86_64"
"""Any Python 3 on Linux of these two kinds with glibc 2.28, which the runtimes need; docs/decisions/packages.md."""

MOST_GLIBC = (2, 28)

_LICENCES = {"executorch": "BSD-3-Clause", "onnxruntime": "MIT"}
_COMPILED_IN = "GPL-3.0-or-later WITH GCC-exception-3.1"


class _Told:
    """Steps as lines on stderr, which a build frontend shows."""

    def step(self, text: str) -> None:
        sys.stderr.write(f"edgeq: {text}\n")

    def advance(self, done: int, total: int | None = None) -> None:
        del done, total


class Runners(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the runners and the SBOM into a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is missing, as ``version`` "editable" or "standard" asks for."""
        if version == "editable":
            return
        bundles = _bundles()
        for one in bundles:
            build_data["force_include"][str(one.files[one.executable])] = f"edgeq/runners/{one.triple}/{one.executable}"
        self._folder = tempfile.TemporaryDirectory(prefix="edgeq-wheel-")
        listed = Path(self._folder.name) / "edgeq.cdx.json"
        text = json.dumps(sbom(self.metadata.version, bundles), indent=1, sort_keys=True)
        listed.write_text(text + "\n", encoding="utf-8")
        build_data["sbom_files"].append(str(listed))
        build_data["pure_python"] = False
        build_data["tag"] = TAG

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written for the wheel."""
        del build_data, artifact_path
        if version != "editable":
            self._folder.cleanup()


def _bundles() -> tuple[RunnerBundle, ...]:
    try:
        bundles = tuple(bundle(engine, triple, progress=_Told()) for triple, engine in RUNNERS)
    except EdgeqError as error:
        raise SystemExit(f"edgeq: {error.message}\n  {error.hint}\n{error.detail}") from error
    for one in bundles:
        floor = floor_of([one.files[one.executable]]).glibc
        if tuple(map(int, floor.split("."))) > MOST_GLIBC:
            raise SystemExit(
                f"edgeq: {one.triple}/{one.executable} needs glibc {floor}, newer than the wheel's tag says"
            )
    return bundles


def sbom(version: str, bundles: tuple[RunnerBundle, ...]) -> dict[str, Any]:
    """What is in the wheel beside its Python, and what edgeq fetches and puts on devices, as CycloneDX 1.6.

    The same wheel has the same list: no time, no random number.
    """
    wheels = {wheel.name: wheel for wheel in load_wheel_lock().wheel}
    headers = load_deb_lock("onnxruntime-headers").deb
    sysroots = {triple: load_deb_lock(lock).deb for triple, lock in SYSROOTS.items()}
    components, edges = [], []
    for one in bundles:
        wheel = wheels[f"{one.engine}-{one.triple}"]
        compiled_in = [deb for deb in sysroots[one.triple] if deb.name.endswith("-dev")]
        compiled_in += headers if one.engine == "onnxruntime" else ()
        runner = _runner(one)
        parts = [_project(name, licence, inside=wheel) for name, licence in projects_inside(one.engine)]
        components += [runner, _runtime(wheel, one.engine), *map(_headers, compiled_in), *parts]
        edges.append(_needs(runner["bom-ref"], [_reference(wheel), *map(_deb_reference, compiled_in)]))
        edges.append(_needs(_reference(wheel), [part["bom-ref"] for part in parts]))
    root = f"pkg:pypi/edgeq@{version}"
    edges.append(_needs(root, [f"{one.triple}/{one.executable}" for one in bundles]))
    unique = {component["bom-ref"]: component for component in components}
    told: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": root, "name": "edgeq", "version": version, "purl": root,
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": [unique[reference] for reference in sorted(unique)],
        "dependencies": sorted(edges, key=lambda edge: edge["ref"]),
    }  # fmt: skip
    content = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return {**told, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{root}#{content}')}"}


def _needs(what: str, others: list[str]) -> dict[str, Any]:
    return {"ref": what, "dependsOn": sorted(others)}


def _runner(one: RunnerBundle) -> dict[str, Any]:
    path = one.files[one.executable]
    # The start files of the sysroot name the older compiler that they came from, beside the one that was used.
    compilers = sorted(set(re.findall(rb"GCC: \([^)]*\) [0-9.]+", path.read_bytes())))
    said = {
        "edgeq:delivery": "in the wheel",
        "edgeq:path": f"edgeq/runners/{one.triple}/{one.executable}",
        "edgeq:glibc": floor_of([path]).glibc,
        "edgeq:compilers": b"; ".join(compilers).decode(),
    }
    return {
        "type": "application",
        "bom-ref": f"{one.triple}/{one.executable}",
        "name": one.executable,
        "version": one.runtime_version,
        "hashes": [{"alg": "SHA-256", "content": one.sha256}],
        "licenses": [{"expression": f"Apache-2.0 AND {_LICENCES[one.engine]} AND ({_COMPILED_IN})"}],
        "properties": _properties(said),
    }


def _reference(wheel: LockedWheel) -> str:
    return f"pkg:pypi/{wheel.project}@{wheel.version}?platform={wheel.platform}"


def _runtime(wheel: LockedWheel, engine: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": _reference(wheel),
        "name": wheel.project,
        "version": wheel.version,
        "purl": f"pkg:pypi/{wheel.project}@{wheel.version}",
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "licenses": [{"expression": _LICENCES[engine]}],
        "properties": _properties({"edgeq:delivery": "fetched by pip, put on devices; its headers are in the runner"}),
    }


def _project(name: str, licence: str, *, inside: LockedWheel) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"{_reference(inside)}#{name}",
        "name": name,
        "licenses": [{"expression": licence}],
        "properties": _properties({"edgeq:delivery": f"inside the libraries of {inside.project}"}),
    }


def _deb_reference(deb: LockedDeb) -> str:
    return f"pkg:deb/debian/{deb.name}@{deb.version}?arch={deb.architecture}"


def _headers(deb: LockedDeb) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": _deb_reference(deb),
        "name": deb.name,
        "version": deb.version,
        "purl": _deb_reference(deb),
        "hashes": [{"alg": "SHA-256", "content": deb.sha256}],
        "properties": _properties({"edgeq:delivery": "headers and start files compiled into the runner"}),
    }


def _properties(said: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(said.items())]
