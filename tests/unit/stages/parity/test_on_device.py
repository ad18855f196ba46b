from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeq.errors import UnknownNameError, UnreachableError
from edgeq.progress import Silent
from edgeq.stages import parity
from edgeq.stages.fleet import Outcome
from edgeq.stages.parity.on_device import see
from edgeq.stages.report.parity import diverging, tables_of
from edgeq.testing import FakeTransport, sample_bundle, sample_target, tiny_build

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Manifest


def _turned(model: str, sample: bytes) -> bytes:
    """One of the artifacts computes with the other sign."""
    scores = np.frombuffer(sample, dtype=np.float32)
    return bytes((-scores if "int8" in model else scores).tobytes())


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    return tiny_build(tmp_path / "build")


def _see(tmp_path: Path, manifest: Manifest, device: FakeTransport) -> parity.Seen:
    place = parity.Place(
        build=tmp_path / "build",
        manifest=manifest,
        target=sample_target(),
        transport=device,
        bundles={"executorch": sample_bundle(tmp_path / "bundle")},
        device=device.name,
    )
    golden = parity.GoldenSet(place.build, manifest, 4)
    with parity.Probes(place.build, manifest, place.target) as probes:
        return see(place, manifest.artifacts, golden, probes, progress=Silent())


def _compared(tmp_path: Path, manifest: Manifest, *outcomes: Outcome[parity.Seen]) -> parity.Compared:
    golden = parity.GoldenSet(tmp_path / "build", manifest, 4)
    return parity.compared(tmp_path / "build", manifest, manifest.artifacts, golden, outcomes)


def _done(seen: parity.Seen) -> Outcome[parity.Seen]:
    return Outcome(device=seen.device, state="done", result=seen)


def test_devices_that_compute_the_same_are_identical_with_the_build_machine_and_each_other(
    tmp_path: Path, manifest: Manifest
) -> None:
    seen = [_see(tmp_path, manifest, FakeTransport(tmp_path / name, name=name)) for name in ("attic", "hall")]
    found = _compared(tmp_path, manifest, *map(_done, seen)).parity
    assert [(row.device, row.against) for row in found.rows] == [
        ("attic", "build machine"), ("attic", "build machine"),
        ("hall", "build machine"), ("hall", "build machine"),
        ("hall", "attic"), ("hall", "attic"),
    ]  # fmt: skip
    assert {(row.verdict, row.samples, row.identical, row.same_top1) for row in found.rows} == {("identical", 5, 5, 5)}
    assert len(found.samples) == 4
    assert parity.read_parity(tmp_path / "build") == found
    devices, pairs = tables_of(found)
    assert [cell.text for cell in devices.rows[0]] == ["attic", "bit for bit", "bit for bit"]
    assert [cell.text for cell in pairs.rows[0]][1:] == ["attic = hall", "\u2013"]


def test_an_artifact_that_diverges_is_told_even_where_the_build_keeps_no_program(
    tmp_path: Path, manifest: Manifest
) -> None:
    seen = _see(tmp_path, manifest, FakeTransport(tmp_path / "device", answer=_turned))
    assert [row.verdict for row in seen.rows] == ["identical", "diverges"]
    search = seen.rows[1].search
    assert search is not None
    assert not search.layers
    assert "an older edgeq made it" in search.notes[0]
    (said,) = diverging(_compared(tmp_path, manifest, _done(seen)).parity)
    assert said.startswith("tiny.int8-static.pte on fake: the golden input: -6.0 dB, at least 10 dB are due; no layer")


def test_what_was_active_stays_active_and_unrecorded(tmp_path: Path, manifest: Manifest) -> None:
    _see(tmp_path, manifest, FakeTransport(tmp_path / "device"))
    assert list((tmp_path / "device/.edgeq/deployments").iterdir())
    assert not list((tmp_path / "device/.edgeq/current").iterdir())
    assert not (tmp_path / "build" / "deployments").exists()


def test_an_artifact_that_does_not_run_is_a_row_and_the_others_go_on(tmp_path: Path, manifest: Manifest) -> None:
    def cut(model: str, sample: bytes) -> bytes:
        return sample[:4] if "fp32" in model else sample

    seen = _see(tmp_path, manifest, FakeTransport(tmp_path / "device", answer=cut))
    assert [row.verdict for row in seen.rows] == ["failed", "identical"]
    assert "gave 4 bytes where its outputs have 16" in seen.rows[0].reason
    assert list(seen.answers) == ["tiny.int8-static.pte"]


def test_a_device_that_failed_is_a_row_with_its_error(tmp_path: Path, manifest: Manifest) -> None:
    seen = _see(tmp_path, manifest, FakeTransport(tmp_path / "device"))
    error = UnreachableError("attic", "10.0.0.7:22", "no route", hint="check the cable")
    found = _compared(tmp_path, manifest, _done(seen), Outcome(device="attic", state="failed", error=error))
    assert found.errors == {"attic": error}
    assert [one.error for one in found.parity.devices] == ["", error.message]
    (table,) = tables_of(found.parity)
    assert "check the cable" in table.rows[1][0].small
    assert [cell.text for cell in table.rows[1]][1:] == ["\u2013", "\u2013"]


def test_artifacts_are_chosen_by_name_or_recipe_in_the_order_of_the_names(manifest: Manifest) -> None:
    fp32, int8 = manifest.artifacts
    assert manifest.chosen(["int8-static"]) == (int8,)
    assert manifest.chosen(["int8-static", fp32.name, int8.name]) == (int8, fp32)
    assert manifest.chosen([]) == manifest.artifacts
    with pytest.raises(UnknownNameError, match="int9"):
        manifest.chosen(["int9-static"])


def test_a_build_without_a_comparison_has_no_table(tmp_path: Path) -> None:
    assert tables_of(parity.read_parity(tmp_path / "build")) == ()
