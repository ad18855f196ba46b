"""A build with two runtimes, and rows of it as an emulated board, a real one and this machine give them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeq.records import (
    Artifact,
    CalibrationData,
    CrossCheck,
    DeviceFacts,
    EvaluationData,
    Format,
    Golden,
    HostScore,
    Limits,
    Manifest,
    Measurement,
    Report,
    Requires,
    TensorSpec,
    Timing,
    Undelegated,
)
from edgeq.stages.report import summarise

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "tiny"
CLASSES = 10

BOARDS: dict[str, tuple[Timing, DeviceFacts]] = {
    "board": (
        "emulated",
        DeviceFacts(model="linux,dummy-virt", cpu="cortex-a72", machine="aarch64", cores=1, emulated=True),
    ),
    "pi": (
        "hardware",
        DeviceFacts(
            model="Raspberry Pi 4 Model B",
            cpu="cortex-a72",
            cores=4,
            kernel="6.12.47",
            libc="glibc 2.41",
            governor="ondemand",
        ),
    ),
    "local": ("host", DeviceFacts(cpu="x86-64", cores=2)),
}

_MEDIAN_MS = {
    ("fp32", "pte"): 46.0,
    ("int8-static", "pte"): 17.0,
    ("fp32", "onnx"): 52.0,
    ("int8-static", "onnx"): 21.0,
}
_INSTRUCTIONS = {
    ("fp32", "pte"): 124_200_000,
    ("int8-static", "pte"): 115_900_000,
    ("fp32", "onnx"): 131_000_000,
    ("int8-static", "onnx"): 109_300_000,
}


def artifact(recipe: str, form: Format, **changes: Any) -> Artifact:
    quantized = recipe != "fp32"
    made = Artifact(
        name=f"{MODEL}.{recipe}.{form}",
        format=form,
        recipe=recipe,
        sha256=f"sha-{recipe}-{form}",
        size_bytes=4_912_345 if quantized else 18_612_345,
        macs=386_000_000,
        int8_mac_share=0.998 if quantized else 0.0,
        delegated_mac_share=1.0,
        partitions=1,
        undelegated=(
            Undelegated(node="aten_mean_dim", op="aten.mean.dim", reason="no int8 kernel", mac_share=0.0001),
            Undelegated(node="aten_view_copy", op="aten.view_copy", reason="layout only", mac_share=0.0),
        )
        if quantized and form == "pte"
        else (),
        host=HostScore(
            metric="top1",
            correct=918,
            labelled=1000,
            total=1000,
            agree=975 if quantized else None,
            sqnr_db=16.3 if quantized else None,
        ),
        inputs=(TensorSpec(name="x", shape=(1, 3, 224, 224), dtype="float32"),),
        outputs=(TensorSpec(name="y", shape=(1, CLASSES), dtype="float32"),),
        preprocess=None,
        requires=Requires(runtime="executorch" if form == "pte" else "onnxruntime", version="1"),
        golden=Golden(input_sha256="i", output_sha256="o"),
    )
    return dataclasses.replace(made, **changes)


def manifest(samples: int = 1000, **changes: Any) -> Manifest:
    made = Manifest(
        model=MODEL,
        target="rpi4",
        created_at="2026-11-21T01:00:00+00:00",
        tools={"edgeq": "0.1.0", "torch": "2.13.0", "executorch": "1.5.1"},
        calibration=CalibrationData(sha256="c" * 64, samples=64),
        evaluation=EvaluationData(
            samples=samples,
            metric="top1",
            inputs=("evaluation/input0.npy",),
            labels="evaluation/labels.npy",
            host_outputs={},
            note="labelled photos of ten classes",
        ),
        artifacts=(
            artifact("fp32", "pte"),
            artifact("fp32", "onnx"),
            artifact("int8-static", "pte"),
            artifact("int8-static", "onnx"),
        ),
        cross_checks=(CrossCheck(recipe="int8-static", agree=999, total=1000, sqnr_db=31.2),),
        limits=Limits(max_drop_pp=1.0, min_int8_mac_share=0.95, never_slower=True),
    )
    return dataclasses.replace(made, **changes)


def labels(samples: int) -> np.ndarray:
    return np.arange(samples, dtype=np.int64) % CLASSES


def predictions(samples: int, *, wrong: set[int]) -> tuple[int, ...]:
    return tuple(int(-7 if index in wrong else label) for index, label in enumerate(labels(samples)))


def measurement(
    what: Artifact, device: str = "board", *, wrong: set[int], samples: int = 1000, **changes: Any
) -> Measurement:
    """A row with ten rounds of twenty runs; the samples in ``wrong`` were answered wrongly."""
    timing, facts = BOARDS[device]
    generator = np.random.default_rng(len(what.name) * 100 + ord(what.name[-1]))
    median = _MEDIAN_MS[what.recipe, what.format] * 1e6
    level = 1 + 0.003 * generator.normal(size=(10, 1))
    latencies = (median * level * np.exp(0.004 * np.abs(generator.normal(size=(10, 20))))).astype(int).ravel()
    made = Measurement(
        id=f"{what.name}@{device}",
        artifact=what.name,
        artifact_sha256=what.sha256,
        device=device,
        device_facts=facts,
        timing=timing,
        threads=1 if timing == "emulated" else 4,
        warmup=10,
        latencies_ns=tuple(latencies.tolist()),
        rounds=(20,) * 10,
        load_ns=12_000_000,
        first_ns=80_000_000,
        instructions=_INSTRUCTIONS[what.recipe, what.format] if timing == "emulated" else None,
        peak_rss_bytes=42_000_000,
        planned_bytes=6_400_000 if what.format == "pte" else None,
        correct=samples - len(wrong),
        agree_fp32=samples - len(wrong),
        agreement_with_host=samples,
        labelled=samples,
        total=samples,
        predictions=predictions(samples, wrong=wrong),
        started_at="2026-11-21T01:10:00+00:00",
        runner_sha256="r",
        session="one",
    )
    return dataclasses.replace(made, **changes)


def measured(of: Manifest, *devices: str) -> tuple[Measurement, ...]:
    """Every artifact on every device: fp32 wrong on 80 samples, int8 on those but two, and on three others."""
    wrong_fp32 = set(range(80))
    wrong_int8 = set(range(2, 80)) | {500, 501, 502}
    return tuple(
        measurement(
            one,
            device,
            wrong={
                index for index in (wrong_fp32 if one.recipe == "fp32" else wrong_int8) if index < of.evaluation.samples
            },
            samples=of.evaluation.samples,
        )
        for device in devices
        for one in of.artifacts
    )


def with_labels(path: Path, samples: int) -> Path:
    (path / "evaluation").mkdir(exist_ok=True, parents=True)
    np.save(path / "evaluation" / "labels.npy", labels(samples))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A build's folder with the labels of 1000 samples."""
    return with_labels(tmp_path / "build", 1000)


@pytest.fixture
def given(folder: Path) -> SimpleNamespace:
    """What tests make their samples with; ``report`` summarises one build, measured on the devices named."""

    def report(*devices: str, of: Manifest | None = None, rows: tuple[Measurement, ...] | None = None) -> Report:
        what = of or manifest()
        return summarise([(folder, what, measured(what, *devices) if rows is None else rows)])

    return SimpleNamespace(
        folder=folder,
        artifact=artifact,
        manifest=manifest,
        measurement=measurement,
        measured=measured,
        predictions=predictions,
        with_labels=with_labels,
        report=report,
    )
