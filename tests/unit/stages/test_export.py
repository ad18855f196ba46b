"""What ``edgeq export`` writes, of a build of two small files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeq.errors import ConfigError, CorruptArtifactError, NotAnExportError, NotForAnAppError, UnknownNameError
from edgeq.files import sha256_file
from edgeq.mobile import content, vectors
from edgeq.pipeline import export, read_build, report
from edgeq.records import Export, Golden, Manifest, Parity, ParityDevice, ParityRow, TensorSpec
from edgeq.schema import from_json, to_json
from edgeq.stages.parity import BUILD_MACHINE
from edgeq.testing import sample_deployment, sample_facts, sample_measurement, tiny_build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def build(tmp_path: Path) -> Path:
    tiny_build(tmp_path / "build")
    return tmp_path / "build"


def exported(build: Path, out: Path, **options: object) -> Export:
    return export(read_build(build), "android", out, **options).record  # type: ignore[arg-type]


def rewrite(build: Path, manifest: Manifest) -> None:
    (build / "manifest.json").write_text(to_json(manifest))


def test_the_int8_pte_is_exported_unless_a_report_recommends_another(build: Path, tmp_path: Path) -> None:
    manifest = read_build(build).manifest
    int8 = [replace(one, int8_mac_share=1.0) if one.recipe != "fp32" else one for one in manifest.artifacts]
    rewrite(build, replace(manifest, artifacts=tuple(int8)))
    record = exported(build, tmp_path / "app")
    assert [one.artifact for one in record.files] == ["tiny.int8-static.pte"]
    assert "no report" in record.chosen_because


def test_what_the_report_recommends_is_exported(build: Path, tmp_path: Path) -> None:
    manifest = read_build(build).manifest
    deployment = sample_deployment(manifest)
    fast = {one.name: sample_measurement(one) for one in manifest.artifacts}
    slow = replace(
        fast["tiny.int8-static.pte"], latencies_ns=tuple(9 * ns for ns in fast["tiny.fp32.pte"].latencies_ns)
    )
    rows = [fast["tiny.fp32.pte"], slow]
    (build / "measurements.jsonl").write_text("".join(to_json(row) + "\n" for row in rows))
    assert deployment.device == rows[0].device
    report([build])
    record = exported(build, tmp_path / "app")
    assert [one.artifact for one in record.files] == ["tiny.fp32.pte"]
    assert record.chosen_because.startswith("the report recommends it on fake: ")


def test_a_report_of_another_build_recommends_nothing(build: Path, tmp_path: Path) -> None:
    test_what_the_report_recommends_is_exported(build, tmp_path)
    rewrite(build, replace(read_build(build).manifest, created_at="2026-02-02T02:02:02+00:00"))
    assert "report recommends" not in exported(build, tmp_path / "app").chosen_because.replace("no report", "")


def test_artifacts_are_taken_by_name_or_recipe(build: Path, tmp_path: Path) -> None:
    record = exported(build, tmp_path / "app", artifacts=["int8-static", "tiny.fp32.pte"])
    assert [one.artifact for one in record.files] == ["tiny.int8-static.pte", "tiny.fp32.pte"]
    with pytest.raises(UnknownNameError, match="unknown artifact 'int9'"):
        exported(build, tmp_path / "app", artifacts=["int9"])


def test_every_file_of_the_record_is_there_and_what_it_says(build: Path, tmp_path: Path) -> None:
    record = exported(build, tmp_path / "app")
    for one in record.files:
        assert sha256_file(tmp_path / "app" / one.file) == one.sha256 == one.artifact_sha256
        assert one.golden is not None
        assert sha256_file(tmp_path / "app" / one.golden.file) == one.golden.sha256
    assert from_json(Export, (tmp_path / "app" / "export.json").read_bytes(), where="export.json") == record


def test_the_same_build_gives_the_same_bytes(build: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        exported(build, tmp_path / name)
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(names) > 8
    assert names == sorted(
        path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()
    )
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_golden_cases_are_the_golden_input_and_samples_with_what_the_build_machine_gave(
    build: Path, tmp_path: Path
) -> None:
    record = exported(build, tmp_path / "app")
    (golden,) = (one.golden for one in record.files)
    assert golden is not None
    cases = vectors.read((tmp_path / "app" / golden.file).read_bytes())
    assert len(cases) == golden.cases == 1 + content.GOLDEN_SAMPLES
    for case in cases:  # the model of this build answers with its input
        assert np.array_equal(case.inputs[0], case.outputs[0])
        assert case.outputs[0].shape == (1, 4)
    assert golden.least_sqnr_db == 10.0
    assert "at least 10 dB" in golden.tolerance


def test_vectors_that_would_be_too_large_are_left_out_and_that_is_said(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "GOLDEN_LIMIT_BYTES", 150)
    record = exported(build, tmp_path / "app")
    assert record.files[0].golden is not None
    assert record.files[0].golden.cases == 2
    monkeypatch.setattr(content, "GOLDEN_LIMIT_BYTES", 10)
    record = exported(build, tmp_path / "app")
    assert record.files[0].golden is None
    assert any("test vectors, which would take more than 10 bytes" in said for said in record.left_out)
    assert not list((tmp_path / "app").rglob("*.vectors"))
    assert "holds(" not in next((tmp_path / "app").rglob("GoldenVectorTest.kt")).read_text()


def test_arm_devices_that_gave_the_same_bits_are_named(build: Path, tmp_path: Path) -> None:
    artifact = read_build(build).manifest.artifacts[0]
    row = ParityRow(
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        device="board:rpi4",
        against=BUILD_MACHINE,
        verdict="identical",
        least_sqnr_db=10.0,
    )
    others = (
        replace(row, device="kitchen", verdict="within tolerance"),
        replace(row, device="old", artifact_sha256="0" * 64),
        replace(row, device="board:rpi4", against="board:rpi5"),
        replace(row, device="local"),
    )
    names = {"board:rpi4": "aarch64", "kitchen": "aarch64", "old": "aarch64", "local": "x86_64"}
    devices = [
        ParityDevice(device=name, timing="host", facts=replace(sample_facts(), machine=machine))
        for name, machine in names.items()
    ]
    parity = Parity(
        model="tiny", target="rpi4", created_at="now", samples=(), devices=tuple(devices), rows=(row, *others)
    )
    (build / "parity.json").write_text(to_json(parity))
    (one,) = exported(build, tmp_path / "app", artifacts=[artifact.name]).files
    assert one.golden is not None
    assert one.golden.identical_on == ("board:rpi4 (cortex-a72)",)
    assert "On board:rpi4 (cortex-a72) the outputs were the build machine's bit for bit." in one.golden.tolerance
    assert "On board:rpi4 (cortex-a72) they were the same bit for bit" in (tmp_path / "app" / "README.md").read_text()


def test_a_build_without_preprocessing_or_labels_says_what_the_app_lacks(build: Path, tmp_path: Path) -> None:
    record = exported(build, tmp_path / "app")
    assert record.image is record.images is None
    assert any("no [preprocess]" in said for said in record.left_out)
    assert any("model.labels" in said for said in record.left_out)
    readme = (tmp_path / "app" / "README.md").read_text()
    assert all(said in readme for said in record.left_out)


def test_labels_go_into_the_app(build: Path, tmp_path: Path) -> None:
    rewrite(build, replace(read_build(build).manifest, labels=("cat", "dog", "hen", "crane, the bird")))
    record = exported(build, tmp_path / "app", package="org.example.pets")
    assert record.labels == ("cat", "dog", "hen", "crane, the bird")
    labels = tmp_path / "app/src/main/assets/org.example.pets/labels.txt"
    assert labels.read_text() == "cat\ndog\nhen\ncrane, the bird\n"


def test_an_older_export_is_replaced_as_a_whole(build: Path, tmp_path: Path) -> None:
    exported(build, tmp_path / "app", package="org.example.before")
    record = exported(build, tmp_path / "app", package="org.example.after")
    assert record.package == "org.example.after"
    assert not list((tmp_path / "app").rglob("*before*"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_no_export_wrote_is_not_touched(build: Path, tmp_path: Path) -> None:
    mine = tmp_path / "app" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(NotAnExportError, match="app exists"):
        exported(build, tmp_path / "app")
    with pytest.raises(NotAnExportError, match=r"mine\.txt exists"):
        exported(build, mine)
    assert mine.read_text() == "mine"


def test_another_tools_export_json_does_not_make_a_folder_edgeqs(build: Path, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "export.json").write_text(json.dumps({"name": "mine"}))
    with pytest.raises(NotAnExportError):
        exported(build, tmp_path / "app")


def test_a_damaged_artifact_is_not_exported_and_nothing_is_left_behind(build: Path, tmp_path: Path) -> None:
    (build / "tiny.fp32.pte").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifactError):
        exported(build, tmp_path / "app", artifacts=["fp32"])
    assert not (tmp_path / "app").exists()


def test_a_tensor_that_the_app_cannot_carry_is_an_error_that_names_it(build: Path, tmp_path: Path) -> None:
    manifest = read_build(build).manifest
    odd = replace(manifest.artifacts[0], outputs=(TensorSpec(name="mask", shape=(1, 4), dtype="bool"),))
    rewrite(build, replace(manifest, artifacts=(odd,)))
    with pytest.raises(NotForAnAppError, match="mask is bool"):
        exported(build, tmp_path / "app")


def test_a_missing_golden_vector_is_an_error(build: Path, tmp_path: Path) -> None:
    manifest = read_build(build).manifest
    lost = replace(manifest.artifacts[0], golden=Golden(input_sha256="0" * 64, output_sha256="0" * 64))
    rewrite(build, replace(manifest, artifacts=(lost,)))
    with pytest.raises(ConfigError, match="cannot be read"):
        exported(build, tmp_path / "app")
