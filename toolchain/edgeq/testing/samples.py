"""A build small enough to read, and one of each record."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgeq.evaluation import GrowingArray
from edgeq.files import write_bytes, write_text
from edgeq.records import (
    Artifact,
    CalibrationData,
    Deployment,
    DeviceFacts,
    EvaluationData,
    Format,
    Golden,
    HostScore,
    Manifest,
    Measurement,
    Requires,
    TensorSpec,
)
from edgeq.runner import RunnerBundle
from edgeq.schema import to_json
from edgeq.target import BenchDefaults, Emulation, RuntimeFacts, Runtimes, Target

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = 4
SAMPLES = 6
LABELS = (0, 1, 2, 3, 0, -1)


def sample_target() -> Target:
    """A target like ``rpi4``."""
    return Target(
        name="rpi4",
        description="Raspberry Pi 4 Model B",
        triple="aarch64-linux-gnu",
        cpu="cortex-a72",
        features=("asimd", "crc32"),
        cores=4,
        ram_bytes=4 << 30,
        sources=("a test",),
        runtimes=Runtimes(executorch=RuntimeFacts(activations="int8"), onnxruntime=RuntimeFacts(activations="int8")),
        bench=BenchDefaults(threads=4, warmup=2, repeats=20),
        emulation=Emulation(cpu="cortex-a72"),
    )


def sample_facts(*, emulated: bool = False) -> DeviceFacts:
    """What a Raspberry Pi 4, or the emulated board, says of itself."""
    return DeviceFacts(
        model="linux,dummy-virt" if emulated else "Raspberry Pi 4 Model B Rev 1.4",
        machine="aarch64",
        cpu="cortex-a72",
        features=("asimd", "crc32"),
        cores=1 if emulated else 4,
        kernel="6.6.31",
        libc="glibc 2.36",
        governor="" if emulated else "ondemand",
        ram_bytes=4 << 30,
        emulated=emulated,
    )


def sample_bundle(folder: Path) -> RunnerBundle:
    """Files that stand for a runner; only :class:`FakeTransport` can run it."""
    files = {name: folder / name for name in ("edgeq-runner-executorch", "libexecutorch.so")}
    for name, path in files.items():
        write_bytes(path, f"{name}\n".encode() * 100)
    sha256 = hashlib.sha256(files["edgeq-runner-executorch"].read_bytes()).hexdigest()
    return RunnerBundle(
        engine="executorch",
        triple="aarch64-linux-gnu",
        runtime_version="1.5.1",
        built_with="1.5.1",
        executable="edgeq-runner-executorch",
        files=files,
        sha256=sha256,
    )


def tiny_build(folder: Path) -> Manifest:
    """Write a build of two artifacts whose model is :func:`identity`, and return its manifest.

    Six samples of four scores; sample i has its largest at i modulo 4, the
    labels are :data:`LABELS`, so five are labelled and the model has all right.
    """
    inputs = np.eye(CLASSES, dtype=np.float32)[np.arange(SAMPLES) % CLASSES] * np.float32(2.5)
    for name, rows in {"input0": inputs, "labels": np.array(LABELS)}.items():
        with GrowingArray(folder / "evaluation" / f"{name}.npy", rows.shape[1:], str(rows.dtype)) as array:
            for row in rows:
                array.append(row)
    artifacts = tuple(_artifact(folder, recipe, inputs) for recipe in ("fp32", "int8-static"))
    manifest = replace(
        sample_manifest(),
        artifacts=artifacts,
        evaluation=EvaluationData(
            samples=SAMPLES,
            metric="top1",
            inputs=("evaluation/input0.npy",),
            labels="evaluation/labels.npy",
            host_outputs={one.name: f"evaluation/host/{one.name}.npy" for one in artifacts},
        ),
    )
    write_text(folder / "manifest.json", to_json(manifest, indent=2))
    write_text(folder / "target.json", to_json(sample_target(), indent=2))
    return manifest


def _artifact(folder: Path, recipe: str, inputs: np.ndarray) -> Artifact:
    """Write one artifact with its golden vectors and its host outputs."""
    name = f"tiny.{recipe}.pte"
    write_bytes(folder / name, f"{name}\n".encode() * 50)
    golden = inputs[0].tobytes()
    digest = hashlib.sha256(golden).hexdigest()
    write_bytes(folder / "golden" / f"{digest}.bin", golden)
    with GrowingArray(folder / "evaluation" / "host" / f"{name}.npy", (CLASSES,), "float32") as array:
        for row in inputs:
            array.append(row)
    content = (folder / name).read_bytes()
    return replace(
        sample_artifact(recipe, "pte"),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        golden=Golden(input_sha256=digest, output_sha256=digest),
    )


def sample_artifact(recipe: str = "fp32", form: Format = "pte") -> Artifact:
    """An artifact of the model ``tiny``."""
    twin = recipe == "fp32"
    return Artifact(
        name=f"tiny.{recipe}.{form}",
        format=form,
        recipe=recipe,
        sha256=hashlib.sha256(f"{recipe}.{form}".encode()).hexdigest(),
        size_bytes=4000 if twin else 1000,
        macs=1_000_000,
        int8_mac_share=0.0 if twin else 1.0,
        delegated_mac_share=1.0,
        partitions=1,
        undelegated=(),
        host=HostScore(
            metric="top1",
            correct=5,
            labelled=5,
            total=SAMPLES,
            agree=None if twin else SAMPLES,
            sqnr_db=None if twin else 30.0,
        ),
        inputs=(TensorSpec(name="x", shape=(1, CLASSES), dtype="float32"),),
        outputs=(TensorSpec(name="scores", shape=(1, CLASSES), dtype="float32"),),
        preprocess=None,
        requires=Requires(runtime="executorch" if form == "pte" else "onnxruntime", version="1.5.1"),
        golden=Golden(input_sha256="a" * 64, output_sha256="b" * 64),
    )


def sample_manifest() -> Manifest:
    """A manifest of four artifacts, with no files behind it."""
    return Manifest(
        model="tiny",
        target="rpi4",
        created_at="2026-01-02T03:04:05+00:00",
        tools={"edgeq": "0.1.0"},
        calibration=CalibrationData(sha256="c" * 64, samples=8),
        evaluation=EvaluationData(
            samples=SAMPLES, metric="top1", inputs=("evaluation/input0.npy",), labels=None, host_outputs={}
        ),
        artifacts=tuple(
            sample_artifact(recipe, form) for recipe in ("fp32", "int8-static") for form in ("pte", "onnx")
        ),
    )


def sample_deployment(manifest: Manifest, *, emulated: bool = False, device: str = "fake") -> Deployment:
    """What a deployment of ``manifest`` with the runner of :func:`sample_bundle` looks like."""
    runner = hashlib.sha256(b"edgeq-runner-executorch\n" * 100).hexdigest()
    artifacts = {artifact.name: artifact.sha256 for artifact in manifest.artifacts}
    return Deployment(
        id="0123456789abcdef",
        model=manifest.model,
        target=manifest.target,
        device=device,
        device_facts=sample_facts(emulated=emulated),
        root=".edgeq/deployments/0123456789abcdef",
        files={**artifacts, "edgeq-runner-executorch": runner},
        artifacts=artifacts,
        runners={"executorch": runner},
        deployed_at="2026-01-02T03:05:05+00:00",
    )


def sample_measurement(artifact: Artifact, *, emulated: bool = False, session: str = "session-1") -> Measurement:
    """One row: three rounds of ten runs, around 10 ms for fp32 and 4 ms otherwise."""
    base = 10_000_000 if artifact.recipe == "fp32" else 4_000_000
    return Measurement(
        id=f"{session}-{artifact.name}",
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        device="board" if emulated else "fake",
        device_facts=sample_facts(emulated=emulated),
        timing="emulated" if emulated else "hardware",
        threads=1 if emulated else 4,
        warmup=2,
        latencies_ns=tuple(base + 10_000 * (index * 7 % 10) for index in range(30)),
        rounds=(10, 10, 10),
        load_ns=3_000_000,
        first_ns=2 * base,
        instructions=base // 10 if emulated else None,
        peak_rss_bytes=8_000_000,
        planned_bytes=4096,
        correct=5,
        agree_fp32=None if artifact.recipe == "fp32" else SAMPLES,
        agreement_with_host=SAMPLES,
        labelled=5,
        total=SAMPLES,
        predictions=tuple(index % CLASSES for index in range(SAMPLES)),
        started_at="2026-01-02T03:06:05+00:00",
        runner_sha256="d" * 64,
        session=session,
    )
