from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from edgeq.device.manifest import (
    DeployedFile,
    DeviceManifest,
    check_file_name,
    manifest_bytes,
    read_manifest,
    serial_of,
)
from edgeq.errors import ConfigError, UnsafeNameError

RUNNER = "edgeq-runner-executorch"


def _manifest(*names: str) -> DeviceManifest:
    files = {name: DeployedFile(role="model", runner=RUNNER, sha256="a" * 64, size=1) for name in names}
    runner = DeployedFile(role="runtime", runner=RUNNER, sha256="b" * 64, size=2)
    return DeviceManifest(id="0123", model="tiny", target="rpi4", serial=5, files={**files, RUNNER: runner})


def test_a_manifest_has_one_text_with_its_keys_in_order() -> None:
    assert manifest_bytes(_manifest("b.pte", "a.pte")) == manifest_bytes(_manifest("a.pte", "b.pte"))
    assert manifest_bytes(_manifest("é.pte")).decode() == (
        '{"files":{"edgeq-runner-executorch":{"role":"runtime","runner":"edgeq-runner-executorch","sha256":"'
        + "b" * 64
        + '","size":2},"é.pte":{"role":"model","runner":"edgeq-runner-executorch","sha256":"'
        + "a" * 64
        + '","size":1}},"id":"0123","model":"tiny","schema":1,"serial":5,"target":"rpi4"}'
    )


def test_what_was_written_is_read_again() -> None:
    manifest = _manifest('a "quoted" $(name) é\\.pte')
    assert read_manifest(manifest_bytes(manifest), where="it") == manifest


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\0b", "a\nb", "\ta", "\x7f", "\x1b[0m", "é" * 128]
)
def test_a_name_that_could_lead_out_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(UnsafeNameError):
        check_file_name(name)
    with pytest.raises(UnsafeNameError):
        manifest_bytes(_manifest(name))


@pytest.mark.parametrize("name", ["m.pte", "..m", "a..b", "a b", "-rf", "$(id)", "'", "a\\b", "é" * 127])
def test_a_name_that_is_only_strange_is_taken(name: str) -> None:
    check_file_name(name)


def test_other_texts_are_refused() -> None:
    good = manifest_bytes(_manifest("m.pte"))
    plain = json.loads(good)
    others = [
        good + b"\n",
        json.dumps(plain).encode(),
        json.dumps(plain | {"more": 1}, separators=(",", ":")).encode(),
        json.dumps(plain | {"schema": 2}, sort_keys=True, separators=(",", ":")).encode(),
        json.dumps(plain | {"serial": -1}, sort_keys=True, separators=(",", ":")).encode(),
        b"[" * 100_000,
        b"null",
        b"\xff",
        b"",
    ]
    for text in others:
        with pytest.raises(ConfigError):
            read_manifest(text, where="it")


def test_a_file_that_belongs_to_no_runner_is_refused() -> None:
    manifest = _manifest("m.pte")
    files = manifest.files | {"m.pte": replace(manifest.files["m.pte"], runner="m.pte")}
    with pytest.raises(ValueError, match="runner"):
        manifest_bytes(replace(manifest, files=files))


def test_any_bytes_are_a_manifest_or_a_configuration_error() -> None:
    good = manifest_bytes(_manifest("m.pte"))
    rng = random.Random(5)  # noqa: S311  # damage, not secrets
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice(b'{}":,\\/.0a\n\xff')
        try:
            for name in read_manifest(bytes(data), where="it").files:
                check_file_name(name)
        except ConfigError as error:
            assert error.hint  # noqa: PT017  # both outcomes are right


def test_a_later_build_has_a_larger_serial() -> None:
    assert serial_of("1970-01-01T00:00:10+00:00") == 10
    assert serial_of("2026-01-02T03:04:06+00:00") > serial_of("2026-01-02T03:04:05+00:00")
    assert serial_of("2026-01-02T03:04:05+02:00") < serial_of("2026-01-02T03:04:05+00:00")
    with pytest.raises(ConfigError, match="no time"):
        serial_of("yesterday")
