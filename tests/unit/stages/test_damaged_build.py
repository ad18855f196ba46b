"""A build whose files lost a byte: whatever is done with it, edgeq says so or goes on, and never ends in a bug."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq import pipeline
from edgeq.errors import EdgeqError
from edgeq.progress import Silent
from edgeq.stages.bench.rows import append
from edgeq.stages.deploy import deploy
from edgeq.testing import FakeTransport, sample_bundle, sample_measurement, tiny_build

if TYPE_CHECKING:
    from pathlib import Path

DAMAGES = 30
FILES = ("manifest.json", "manifest.json", "target.json", "measurements.jsonl", "deployments/fake.json")


def _life(build: Path, folder: Path) -> None:
    """Everything that reads the build, in the order of the commands."""
    what = pipeline.read_build(build)
    what.checks()
    device = FakeTransport(folder / "device")
    bundles = {"executorch": sample_bundle(folder / "bundle")}
    engines = {artifact.requires.runtime for artifact in what.manifest.artifacts}
    if engines == {"executorch"}:
        deploy(build, what.manifest, what.target, device, bundles, device="fake", progress=Silent())
        options = pipeline.BenchOptions(samples=1, repeats=1, threads=(1,))
        pipeline.bench(what, device, options, device="fake", progress=Silent())
    pipeline.explain(build)
    pipeline.report([build], out=folder / "report")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    manifest = tiny_build(tmp_path / "build")
    _life(tmp_path / "build", tmp_path)
    append(tmp_path / "build", replace(sample_measurement(manifest.artifacts[0]), id="another"))
    return tmp_path / "build"


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """One byte changed; mostly a letter or a digit into another, which gets further than what breaks the syntax."""
    changed = bytearray(data)
    place = rng.choice([index for index, byte in enumerate(changed) if chr(byte).isalnum()])
    kind = b"0123456789" if chr(changed[place]).isdigit() else b"abcdefghijklmnopqrstuvwxyz"
    changed[place] = rng.choice(kind) if rng.random() < 0.8 else changed[place] ^ rng.randrange(1, 256)
    return bytes(changed)


def test_no_changed_byte_of_a_record_ends_in_a_bug(build: Path, tmp_path: Path) -> None:
    rng = random.Random(12)  # noqa: S311  # damage, not secrets
    whole = {name: (build / name).read_bytes() for name in FILES}
    hints: list[str] = []
    for round_ in range(DAMAGES):
        name = FILES[round_ % len(FILES)]
        (build / name).write_bytes(_damaged(whole[name], rng))
        try:
            _life(build, tmp_path)
        except EdgeqError as error:
            hints.append(error.hint)
        for each, content in whole.items():
            (build / each).write_bytes(content)
    assert 0 < len(hints) < DAMAGES
    assert all(hints)
