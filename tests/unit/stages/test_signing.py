from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeq.device import keyring
from edgeq.device.manifest import read_manifest
from edgeq.device.store import Store
from edgeq.device.trust import distrust_key, read_trust, trust_key
from edgeq.errors import (
    DeviceBusyError,
    OlderDeploymentError,
    RunnerFailedError,
    UnknownKeyError,
    UnreadableManifestError,
    UnsafeNameError,
    UnsignedError,
    UntrustedSignerError,
)
from edgeq.files import sha256_file
from edgeq.progress import SILENT, Progress, Silent
from edgeq.records import Manifest
from edgeq.stages.deploy import DeployResult, deploy, read_deployment
from edgeq.stages.store import roll_back
from edgeq.testing import FakeTransport, sample_bundle, sample_target, tiny_build

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = ".edgeq"
LATER = "2026-01-02T03:04:06+00:00"


@dataclass
class Setup:
    build: Path
    manifest: Manifest
    device: FakeTransport
    home: Path

    def deploy(
        self, *, sign: str | None = None, allow_older: bool = False, progress: Progress = SILENT
    ) -> DeployResult:
        return deploy(
            self.build,
            self.manifest,
            sample_target(),
            self.device,
            {"executorch": sample_bundle(self.build.parent / "bundle")},
            device="fake",
            sign=keyring.signing_key(sign) if sign else None,
            allow_older=allow_older,
            progress=progress,
        )

    def trust(self, *names: str) -> None:
        for name in names:
            trust_key(self.device, ROOT, keyring.public_key(name))

    def active(self) -> str:
        return (self.home / ROOT / "current" / "tiny@rpi4").read_text().split()[0]

    def folder(self, result: DeployResult) -> Path:
        return self.home / result.deployment.root

    def at(self, created_at: str) -> None:
        """Make this a build of another time with another model in it."""
        name = self.manifest.artifacts[0].name
        (self.build / name).write_bytes(created_at.encode())
        first = replace(
            self.manifest.artifacts[0],
            sha256=sha256_file(self.build / name),
            size_bytes=len(created_at),
        )
        self.manifest = replace(self.manifest, created_at=created_at, artifacts=(first, *self.manifest.artifacts[1:]))


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    manifest = tiny_build(tmp_path / "build")
    keyring.make_key("ci")
    keyring.make_key("other")
    return Setup(tmp_path / "build", manifest, FakeTransport(tmp_path / "device"), tmp_path / "device")


def test_a_signed_deployment_carries_a_manifest_of_all_its_files(setup: Setup) -> None:
    result = setup.deploy(sign="ci")
    folder = setup.folder(result)
    manifest = read_manifest((folder / "deployment.json").read_bytes(), where="it")
    assert (manifest.id, manifest.model, manifest.target) == (result.deployment.id, "tiny", "rpi4")
    lying = [path for path in folder.iterdir() if path.name != ".verified"]
    there = {path.name: (sha256_file(path), path.stat().st_size) for path in lying}
    carried = {name: there[name] for name in there if name not in ("deployment.json", "deployment.json.sig")}
    assert {name: (file.sha256, file.size) for name, file in manifest.files.items()} == carried
    assert {name for name, file in manifest.files.items() if file.role == "model"} == set(result.deployment.artifacts)
    assert {file.runner for file in manifest.files.values()} == {"edgeq-runner-executorch"}
    assert set(result.deployment.files) == set(there)


def test_the_record_says_who_signed_and_whether_the_device_has_checked_it(setup: Setup) -> None:
    signed = setup.deploy(sign="ci").deployment.signed
    assert signed is not None
    assert (signed.key, signed.fingerprint) == ("ci", keyring.public_key("ci").fingerprint)
    assert not signed.verified
    setup.trust("ci")
    assert setup.deploy(sign="ci").deployment.signed == replace(signed, verified=True)
    assert read_deployment(setup.build, "fake").signed == replace(signed, verified=True)


def test_an_unsigned_deployment_is_as_it_was(setup: Setup) -> None:
    result = setup.deploy()
    assert result.deployment.signed is None
    assert not (setup.folder(result) / "deployment.json").exists()
    assert not (setup.build / "signed").exists()


def test_signing_the_same_again_moves_nothing(setup: Setup) -> None:
    setup.trust("ci")
    first, second = setup.deploy(sign="ci"), setup.deploy(sign="ci")
    assert second.transferred_bytes == 0
    assert second.deployment.id == first.deployment.id


def test_a_signed_deployment_that_was_damaged_is_mended(setup: Setup) -> None:
    setup.trust("ci")
    folder = setup.folder(setup.deploy(sign="ci"))
    for name in ("tiny.fp32.pte", "deployment.json", "deployment.json.sig"):
        (folder / name).chmod(0o644)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(bytes(len(content)))
        result = setup.deploy(sign="ci", allow_older=name == "deployment.json")
        assert result.transferred_bytes == len(content)
        assert (folder / name).read_bytes() == content


def test_another_signed_deployment_in_the_place_of_this_one_is_not_taken_for_it(setup: Setup) -> None:
    setup.trust("ci")
    first = setup.folder(setup.deploy(sign="ci"))
    setup.at(LATER)
    second = setup.folder(setup.deploy(sign="ci"))
    shutil.rmtree(second)
    shutil.copytree(first, second)
    setup.deploy(sign="ci", allow_older=True)
    assert read_manifest((second / "deployment.json").read_bytes(), where="it").id == second.name


def test_what_is_active_is_refused_all_the_same_once_its_signer_is_not_trusted(setup: Setup) -> None:
    setup.deploy()
    setup.trust("ci")
    with pytest.raises(UnsignedError):
        setup.deploy()
    signed = setup.deploy(sign="ci")
    assert not signed.unchanged
    for file in setup.folder(signed).iterdir():
        os.utime(file, (1, 1))  # long before the note of the next
    assert not setup.deploy(sign="ci").unchanged
    assert setup.deploy(sign="ci").unchanged
    setup.trust("other")
    distrust_key(setup.device, ROOT, "ci")
    with pytest.raises(UntrustedSignerError):
        setup.deploy(sign="ci")


def test_another_key_makes_another_deployment_of_the_same_blobs(setup: Setup) -> None:
    first, second = setup.deploy(sign="ci"), setup.deploy(sign="other")
    assert first.deployment.id != second.deployment.id
    carried = ("deployment.json", "deployment.json.sig")
    assert second.transferred_bytes == sum((setup.folder(second) / name).stat().st_size for name in carried)


def test_a_private_key_is_never_written_anywhere_else(setup: Setup, tmp_path: Path) -> None:
    setup.trust("ci")
    setup.deploy(sign="ci")
    private = keyring.keys_dir() / "ci"
    body = private.read_text().splitlines()[1]
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and body.encode() in path.read_bytes()]
    assert holders == [private]
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_device_that_trusts_a_key_takes_nothing_unsigned(setup: Setup) -> None:
    setup.trust("ci")
    pushed = len(setup.device.pushed)
    with pytest.raises(UnsignedError, match="signed deployments only") as caught:
        setup.deploy()
    assert "ci" in caught.value.hint
    assert len(setup.device.pushed) == pushed
    assert not (setup.home / ROOT / "current").exists()


def test_a_signature_of_another_key_is_refused_before_anything_is_pushed(setup: Setup) -> None:
    setup.trust("ci")
    pushed = len(setup.device.pushed)
    with pytest.raises(UntrustedSignerError, match="'other'") as caught:
        setup.deploy(sign="other")
    assert "edgeq keys trust other" in caught.value.hint
    assert len(setup.device.pushed) == pushed


def test_of_several_trusted_keys_each_will_do_whatever_it_is_called_there(setup: Setup) -> None:
    setup.trust("ci", "other")
    (setup.home / ROOT / "trusted/ci.pub").rename(setup.home / ROOT / "trusted/renamed.pub")
    for name in ("ci", "other"):
        signed = setup.deploy(sign=name).deployment.signed
        assert signed is not None
        assert signed.verified


def test_a_key_that_is_not_to_be_read_is_not_taken_for_none(setup: Setup) -> None:
    trusted = setup.home / ROOT / "trusted"
    trusted.mkdir(parents=True)
    (trusted / "damaged.pub").write_bytes(b"")
    with pytest.raises(UnsignedError):
        setup.deploy()
    with pytest.raises(UntrustedSignerError):
        setup.deploy(sign="ci")


def test_a_key_is_taken_back(setup: Setup) -> None:
    setup.trust("ci", "other")
    assert set(read_trust(setup.device, ROOT).keys) == {"ci", "other"}
    distrust_key(setup.device, ROOT, "ci")
    with pytest.raises(UntrustedSignerError):
        setup.deploy(sign="ci")
    with pytest.raises(UnknownKeyError, match="'fake'"):
        distrust_key(setup.device, ROOT, "ci")
    distrust_key(setup.device, ROOT, "other")
    assert setup.deploy().deployment.signed is None


def test_a_root_with_an_awkward_name_holds_keys_too(setup: Setup) -> None:
    root = "a 'strange' \"$(root)\" \n é"
    trust_key(setup.device, root, keyring.public_key("ci"))
    assert read_trust(setup.device, root).keys == {"ci": keyring.public_key("ci").line}
    distrust_key(setup.device, root, "ci")
    assert read_trust(setup.device, root).keys == {}


def test_a_file_changed_on_the_device_is_caught_before_the_pointer_moves(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.trust("ci")
    before = setup.deploy(sign="ci").deployment.id
    setup.at(LATER)
    original = setup.device.run

    def run(argv: list[str], **how: object) -> object:
        if argv[1] == "verify":  # after the hashes were found right, and before the runner looks again
            (setup.home / Path(argv[0]).parent / "tiny.fp32.pte").unlink(missing_ok=True)
        return original(argv, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(setup.device, "run", run)
    with pytest.raises(RunnerFailedError) as caught:
        setup.deploy(sign="ci")
    assert caught.value.code == "tampered"
    assert setup.active() == before


def test_an_older_build_is_refused_until_it_is_meant(setup: Setup) -> None:
    setup.trust("ci")
    older = setup.manifest, (setup.build / "tiny.fp32.pte").read_bytes()
    first = setup.deploy(sign="ci")
    setup.at(LATER)
    second = setup.deploy(sign="ci")
    setup.manifest = older[0]
    (setup.build / "tiny.fp32.pte").write_bytes(older[1])
    pushed = len(setup.device.pushed)
    with pytest.raises(OlderDeploymentError, match="older") as caught:
        setup.deploy(sign="ci")
    assert "--allow-older" in caught.value.hint
    assert len(setup.device.pushed) == pushed
    assert setup.active() == second.deployment.id
    assert setup.deploy(sign="ci", allow_older=True).deployment.id == first.deployment.id
    assert setup.active() == first.deployment.id


class Meanwhile(Silent):
    """Lets something happen while the artifacts are tried: after all that is looked at before the push."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens: Callable[[], object] | None = happens

    def step(self, text: str) -> None:
        if text.startswith("trying") and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()


def test_a_newer_build_that_became_active_during_a_push_is_not_replaced_by_the_older_one(
    setup: Setup, tmp_path: Path
) -> None:
    setup.trust("ci")
    other = Setup(tmp_path / "other", tiny_build(tmp_path / "other"), setup.device, setup.home)
    other.at(LATER)
    with pytest.raises(OlderDeploymentError):
        setup.deploy(sign="ci", progress=Meanwhile(lambda: other.deploy(sign="ci")))
    assert setup.active() == read_deployment(other.build, "fake").id


def test_an_older_build_that_became_active_during_a_push_is_replaced_and_one_may_go_back_to_it(
    setup: Setup, tmp_path: Path
) -> None:
    setup.trust("ci")
    other = Setup(tmp_path / "other", tiny_build(tmp_path / "other"), setup.device, setup.home)
    setup.at(LATER)
    newer = setup.deploy(sign="ci", progress=Meanwhile(lambda: other.deploy(sign="ci"))).deployment.id
    ids = (setup.home / ROOT / "current" / "tiny@rpi4").read_text().split()
    assert ids == [newer, read_deployment(other.build, "fake").id]


def test_a_key_that_became_trusted_during_a_push_counts(setup: Setup) -> None:
    with pytest.raises(UnsignedError):
        setup.deploy(progress=Meanwhile(lambda: setup.trust("ci")))
    assert not (setup.home / ROOT / "current" / "tiny@rpi4").exists()
    distrust_key(setup.device, ROOT, "ci")
    signed = setup.deploy(sign="ci", progress=Meanwhile(lambda: setup.trust("ci"))).deployment.signed
    assert signed is not None
    assert signed.verified


def test_a_pointer_that_never_stands_still_ends_the_command(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "activate", lambda *_, **__: False)
    with pytest.raises(DeviceBusyError):
        setup.deploy()


def test_the_runner_on_the_device_judges_the_age_as_well(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.trust("ci")
    setup.at(LATER)
    active = setup.deploy(sign="ci").deployment.id
    setup.at("2026-01-02T03:04:04+00:00")
    monkeypatch.setattr("edgeq.stages.signing.check_trusted", lambda *_, **__: None)
    with pytest.raises(RunnerFailedError) as caught:
        setup.deploy(sign="ci")
    assert caught.value.code == "replayed"
    assert setup.active() == active


def test_an_active_manifest_that_cannot_be_read_does_not_count_as_none(setup: Setup) -> None:
    setup.trust("ci")
    path = setup.folder(setup.deploy(sign="ci")) / "deployment.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"serial", b"cereal"))
    setup.at(LATER)
    with pytest.raises(UnreadableManifestError) as caught:
        setup.deploy(sign="ci")
    assert "--allow-older" in caught.value.hint
    setup.deploy(sign="ci", allow_older=True)


def test_a_device_without_keys_takes_older_builds(setup: Setup) -> None:
    setup.at(LATER)
    setup.deploy(sign="ci")
    setup.at("2026-01-02T03:04:04+00:00")
    older = setup.deploy(sign="ci")
    assert setup.active() == older.deployment.id


def test_a_model_with_a_name_that_could_do_harm_is_not_signed(setup: Setup) -> None:
    setup.manifest = replace(setup.manifest, model="a\tb")
    with pytest.raises(UnsafeNameError):
        setup.deploy(sign="ci")
    assert not setup.device.pushed


def test_a_rollback_on_a_device_that_trusts_keys_goes_to_what_they_signed_alone(setup: Setup) -> None:
    unsigned = setup.deploy()
    setup.at(LATER)
    first = setup.deploy(sign="ci")
    setup.trust("ci")
    store = Store(setup.device, ROOT)
    with pytest.raises(RunnerFailedError):
        roll_back(store, setup.device, "tiny", progress=Silent())
    assert setup.active() == first.deployment.id != unsigned.deployment.id
    setup.at("2026-03-01T00:00:00+00:00")
    setup.deploy(sign="ci", allow_older=True)
    roll_back(store, setup.device, "tiny", progress=Silent())
    assert setup.active() == first.deployment.id
