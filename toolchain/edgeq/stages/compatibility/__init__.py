"""Whether a build and its runners can run on a device: asked once, before anything is pushed there.

Judged is only what both sides say: what a device, a file or a record does
not tell is no mismatch.

Which operators and backends an ExecuTorch runner has is read from its
libraries. A kernel registers under its name (``aten::add.out``), a string of
its library, so a name that none of the files holds is one that the runner has
no kernel for; a test compares the strings with the registry of the running
runtime. ONNX Runtime knows every operator of the sets that its version has;
there the versions decide.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeq.errors import (
    DeviceDiskFullError,
    IncompatibleBuildError,
    IncompatibleDeviceError,
    WrongArchitectureError,
)
from edgeq.runner.elf import floor_of, is_elf, loader_of, version_key
from edgeq.stages.bench.rows import read_measurements
from edgeq.stages.compatibility.onnx_header import read_header
from edgeq.target import known_targets, load_target
from edgeq.triple import KINDS, runnable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeq.records import Artifact, DeviceFacts, Manifest
    from edgeq.runner import RunnerBundle
    from edgeq.target import Target

COMPUTING = frozenset(
    {"fp", "asimd", "asimdhp", "asimdrdm", "asimddp", "i8mm", "bf16", "sve", "sve2"}
    | {"sse2", "avx2", "avx512_vnni", "avx_vnni"}
)
"""The features of a core that kernels choose by, when they run; the others that a target lists change nothing."""

_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Without one of these, an Intel core adds products of 8-bit numbers in 16 bits, and the sums saturate."""


@dataclass(frozen=True, kw_only=True)
class OnnxLimits:
    """The newest IR version and opsets that a version of ONNX Runtime reads: it refuses what is newer."""

    ir: int
    opsets: dict[str, int]


ONNX_LIMITS = {
    "1.28.2": OnnxLimits(ir=13, opsets={"": 26, "com.microsoft": 1}),
    "1.31.1": OnnxLimits(ir=13, opsets={"": 26, "com.microsoft": 1}),
}
"""By version (a test holds each)."""

ANDROID_LOADER = "/system/bin/linker64"


@dataclass(frozen=True, kw_only=True)
class Room:
    """What has to travel, with what is kept spare, and what is free for it on the device."""

    root: str
    needed_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """What does not fit, what mends it, and whether that is the build or the device."""

    text: str
    remedy: str
    mends: Literal["build", "device"]


def require_compatible(  # noqa: PLR0913  # a build, a device and what lies between
    build: Path,
    manifest: Manifest,
    target: Target,
    bundles: Mapping[str, RunnerBundle],
    facts: DeviceFacts,
    *,
    device: str,
    room: Room | None,
) -> None:
    """Raise what stands in the way of this build on that device, all at once.

    WrongArchitectureError if the machine is of another kind, where nothing
    else can be told; IncompatibleDeviceError if the device lacks something;
    IncompatibleBuildError if another build is all it takes;
    DeviceDiskFullError if room is all it takes. ``room`` is None if nothing
    has to travel, or the device does not say what is free.
    """
    for bundle in bundles.values():
        if facts.machine not in KINDS[bundle.triple].machines:
            raise WrongArchitectureError(device, facts.machine, bundle.triple, fitting=_fitting(facts))
    found = list(mismatches(build, manifest, target, bundles, facts))
    if room is not None and room.needed_bytes > room.free_bytes:
        full = DeviceDiskFullError(device, room.root, needed_bytes=room.needed_bytes, free_bytes=room.free_bytes)
        if not found:
            raise full
        found.append(Mismatch(text=full.message, remedy=full.hint, mends="device"))
    if found:
        pairs = [(one.text, one.remedy) for one in found]
        if any(one.mends == "device" for one in found):
            raise IncompatibleDeviceError(device, pairs)
        raise IncompatibleBuildError(device, pairs)


def mismatches(
    build: Path, manifest: Manifest, target: Target, bundles: Mapping[str, RunnerBundle], facts: DeviceFacts
) -> Iterator[Mismatch]:
    """Each thing that a build, its artifacts and runners need and this device or those runners do not have."""
    again = f"edgeq build PROJECT --target {shlex.quote(manifest.target)}"
    for engine, bundle in bundles.items():
        artifacts = [artifact for artifact in manifest.artifacts if artifact.requires.runtime == engine]
        yield from _versions(artifacts, bundle, again)
        if engine == "executorch":
            yield from _kernels(artifacts, bundle)
        else:
            yield from _opsets(build, artifacts, bundle, again)
        yield from _system(artifacts, bundle, facts)
    yield from _saturating(manifest, target, facts)
    yield from _memory(build, manifest, facts)


def missing_features(target: Target, facts: DeviceFacts) -> tuple[str, ...]:
    """What a target's core computes with and this device's has not; none of a machine of another kind."""
    if not facts.features or facts.machine not in KINDS[target.runner_triple].machines:
        return ()
    return tuple(one for one in target.features if one in COMPUTING and one not in facts.features)


def another_system(facts: DeviceFacts) -> str:
    """What helps a device whose programs are of another kind than the runner."""
    if ANDROID_LOADER in facts.loaders:
        return "there is no runner for Android's C library yet: measure on a board with Linux"
    return "install a 64-bit system with glibc there (of Raspberry Pi OS the 64-bit one)"


def _versions(artifacts: Sequence[Artifact], bundle: RunnerBundle, again: str) -> Iterator[Mismatch]:
    built_for: dict[str, list[str]] = {}
    for artifact in artifacts:
        version = artifact.requires.version.partition("+")[0]  # a local build, such as 1.5.1+cpu, is that release
        if version and version != bundle.built_with:
            built_for.setdefault(version, []).append(artifact.name)
    takes = "has" if bundle.runtime_version == bundle.built_with else "takes files of"
    for version, names in built_for.items():
        runtime = f"{bundle.engine} {bundle.built_with}"
        yield Mismatch(
            text=f"{', '.join(names)} {_was(names)} built for {bundle.engine} {version}, "
            f"and the runner {takes} {runtime}",
            remedy=f"build again with {runtime} installed here (edgeq doctor says whether it is): {again}",
            mends="build",
        )


def _kernels(artifacts: Sequence[Artifact], bundle: RunnerBundle) -> Iterator[Mismatch]:
    wanted: dict[tuple[str, str], list[str]] = {}
    for artifact in artifacts:
        for kind, names in (("operator", artifact.requires.ops), ("backend", artifact.requires.backends)):
            for name in names:
                wanted.setdefault((kind, name), []).append(artifact.name)
    files = [path.read_bytes() for path in bundle.files.values()] if wanted else []
    if not any(map(is_elf, files)):
        return  # not the libraries that the names could be looked up in
    for (kind, name), of in wanted.items():
        if any(name.encode() + b"\0" in data for data in files):
            continue
        runtime = f"{bundle.engine} {bundle.runtime_version}"
        yield Mismatch(
            text=f"{', '.join(of)} {_needs(of)} the {kind} {name}, which the runner's {runtime} does not have",
            remedy="write that part of the model with other operators, or build --format onnx alone"
            if kind == "operator"
            else "lower for XNNPACK, the backend that the runner carries",
            mends="build",
        )


def _opsets(build: Path, artifacts: Sequence[Artifact], bundle: RunnerBundle, again: str) -> Iterator[Mismatch]:
    limits = ONNX_LIMITS.get(bundle.runtime_version)
    if limits is None:
        return
    for artifact in artifacts:
        header = read_header(build / artifact.name)
        if header is None:
            continue
        stated = [("IR version", header.ir_version, limits.ir)]
        stated += [
            (f"opset {domain or 'ai.onnx'}", header.opsets[domain], newest)
            for domain, newest in limits.opsets.items()
            if domain in header.opsets
        ]
        for what, version, newest in stated:
            if version > newest:
                yield Mismatch(
                    text=f"{artifact.name} is of {what} {version}, and the runner's onnxruntime "
                    f"{bundle.runtime_version} reads up to {newest}",
                    remedy=f"build again with this edgeq: {again}",
                    mends="build",
                )


def _system(artifacts: Sequence[Artifact], bundle: RunnerBundle, facts: DeviceFacts) -> Iterator[Mismatch]:
    """The core, the dynamic linker and the two libraries that a runner takes from the device's own system."""
    needed = [one for one in KINDS[bundle.triple].needs.get(facts.machine, ()) if one not in facts.features]
    if facts.features and needed:
        yield Mismatch(
            text=f"the {bundle.engine} runner's library is compiled for {', '.join(needed)}, and that device's "
            f"{facts.cpu or facts.machine} has not",
            remedy=f"take a board whose core has {', '.join(needed)} (/proc/cpuinfo there says so)",
            mends="device",
        )
    loader = loader_of(bundle.files[bundle.executable])
    if loader and facts.loaders and loader not in facts.loaders:
        yield Mismatch(
            text=f"the {bundle.engine} runner is started by {loader}, and that device has {', '.join(facts.loaders)}",
            remedy=f"build for the programs that it runs: {_another_build(facts)}"
            if _fitting(facts)
            else another_system(facts),
            mends="build" if _fitting(facts) else "device",
        )
        return  # another C library altogether: its version says nothing
    floor = floor_of(bundle.files.values())
    stated = [artifact.requires.glibc for artifact in artifacts if artifact.requires.glibc]
    glibc = max([floor.glibc, *stated], key=version_key)
    name, _, version = facts.libc.partition(" ")
    if glibc and name and (name != "glibc" or version_key(version) < version_key(glibc)):
        yield Mismatch(
            text=f"the {bundle.engine} runner needs glibc {glibc}, and that device has {facts.libc}",
            remedy=f"install a system with glibc {glibc} or newer there; Debian 10 and Ubuntu 20.04 have 2.28 and more",
            mends="device",
        )
    if floor.glibcxx and facts.libstdcxx and version_key(facts.libstdcxx) < version_key(floor.glibcxx):
        yield Mismatch(
            text=f"the {bundle.engine} runner needs libstdc++ with GLIBCXX_{floor.glibcxx}, and that device's ends at "
            f"GLIBCXX_{facts.libstdcxx}",
            remedy="update libstdc++6 there; GCC 6.1 brought GLIBCXX_3.4.22, Debian 10 has 3.4.25",
            mends="device",
        )


def slower_kernels(target: Target, facts: DeviceFacts) -> tuple[str, ...]:
    """A sentence if the target's core has what this device's computes without; no obstacle, only slower.

    A file is the same for all cores of a kind: XNNPACK and ONNX Runtime
    choose their kernels where they run, and those of an Arm core with and
    without the dot product give the same bits (a test holds that).
    """
    missing = ", ".join(missing_features(target, facts))
    core = facts.cpu or facts.machine
    slower = f"target {target.name} has {missing}, and that device's {core} has not: slower kernels run there"
    return (f"{slower}; made for it: {_another_build(facts)}",) if missing else ()


def other_runtimes(bundles: Mapping[str, RunnerBundle]) -> tuple[str, ...]:
    """A sentence for each runtime that is not of the version which scored the build's artifacts."""
    return tuple(
        f"{engine} is {bundle.runtime_version} for {bundle.triple}, and {bundle.built_with} where builds are scored: "
        "their outputs may differ by a rounding"
        for engine, bundle in bundles.items()
        if bundle.runtime_version != bundle.built_with
    )


def _saturating(manifest: Manifest, target: Target, facts: DeviceFacts) -> Iterator[Mismatch]:
    """The one feature that int8 results of an .onnx change with."""
    exact = _VNNI.intersection(target.features)
    names = [one.name for one in manifest.artifacts if one.format == "onnx" and one.int8_mac_share]
    if exact.intersection(missing_features(target, facts)) and not _VNNI.intersection(facts.features) and names:
        yield Mismatch(
            text=f"int8 sums of {', '.join(names)} may saturate without {' or '.join(sorted(exact))}, which target "
            f"{target.name} has and that device's {facts.cpu or facts.machine} has not",
            remedy=f"build for what it is: {_another_build(facts)}",
            mends="build",
        )


def _another_build(facts: DeviceFacts) -> str:
    """The command that builds for a device's own core."""
    return f"edgeq build PROJECT --target {_fitting(facts) or KINDS['x86_64-linux-gnu'].generic}"


def _fitting(facts: DeviceFacts) -> str:
    """The target that fits a device best, with the format where it has no runtime for both; empty if none does."""
    triple = next(iter(runnable(facts.machine, facts.loaders)), None)
    if triple is None:
        return ""
    known = map(load_target, known_targets())
    name = next((one.name for one in known if (one.triple, one.cpu) == (triple, facts.cpu)), KINDS[triple].generic)
    return name if "executorch" in KINDS[triple].engines else f"{name} --format onnx"


def _memory(build: Path, manifest: Manifest, facts: DeviceFacts) -> Iterator[Mismatch]:
    """Memory that an artifact takes: what it took at least when it was measured, else its weights alone."""
    if facts.available_bytes is None:
        return
    free = facts.available_bytes + (facts.swap_free_bytes or 0)
    peaks: dict[str, int] = {}
    for row in read_measurements(build):
        if row.peak_rss_bytes and row.device_facts.machine == facts.machine:
            least = peaks.get(row.artifact_sha256, row.peak_rss_bytes)
            peaks[row.artifact_sha256] = min(least, row.peak_rss_bytes)
    for artifact in manifest.artifacts:
        peak = peaks.get(artifact.sha256)
        needed = peak or artifact.size_bytes
        if needed > free:
            how = "as it was measured" if peak else "for its file alone"
            yield Mismatch(
                text=f"{artifact.name} needs {needed / 1e6:.0f} MB of memory {how}, and that device has "
                f"{free / 1e6:.0f} MB free",
                remedy="end other programs there, give it swap, or build a smaller model (int8 takes about a quarter)",
                mends="device",
            )


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _needs(names: Sequence[str]) -> str:
    return "needs" if len(names) == 1 else "need"
