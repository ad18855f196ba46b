"""Signed deployments before the real runners: what is loaded, what is refused, and damage of every byte."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_deploy_faults import CODE, PROJECT

from edgeq import pipeline
from edgeq.device import keyring
from edgeq.device.inventory import open_device
from edgeq.device.local import LocalTransport
from edgeq.device.manifest import DeployedFile, DeviceManifest, manifest_bytes, serial_of
from edgeq.device.transport import Transport
from edgeq.device.trust import distrust_key, trust_key
from edgeq.errors import MissingToolError, OlderDeploymentError, RunnerFailedError, UnsignedError
from edgeq.files import cache_dir, sha256_file
from edgeq.progress import Silent
from edgeq.runner import bundle, verify
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.stages.deploy import DeployResult


TRIPLE = f"{platform.machine()}-linux-gnu"
SAMPLES = np.random.default_rng(3).standard_normal((2, 1, 3, 16, 16)).astype(np.float32)
CORRUPTIONS = 1000
MODELS = {"xnnpack.pte": "executorch", "fp32.onnx": "onnxruntime"}


@pytest.fixture(autouse=True, scope="module")
def _tools() -> None:
    if shutil.which("cmake") is None and "CI" not in os.environ:
        pytest.skip("cmake is not installed")


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of its own for the keys, and the cache that every test shares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_CACHE", str(cache_dir()))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        keyring.make_key("ci")
        keyring.make_key("other")
        yield


@dataclass
class Signed:
    """A folder with both runners, their libraries and two models, all of them signed."""

    folder: Path
    trusted: Path

    def run(self, model: str, *, samples: bytes = b"") -> tuple[int, list[dict[str, Any]], bytes]:
        """Load a model that has to be signed: exit status, events, outputs."""
        program = self.folder / f"edgeq-runner-{MODELS[model]}"
        argv = [program, "run", "--model", self.folder / model, "--require-signed", self.trusted]
        return _heard(argv, samples)

    def verify(self, *options: str, judge: str = "executorch") -> tuple[int, list[dict[str, Any]], bytes]:
        manifest = self.folder / "deployment.json"
        argv = [self.folder / f"edgeq-runner-{judge}", "verify", "--manifest", manifest]
        return _heard([*argv, "--signature", f"{manifest}.sig", "--trusted", self.trusted, *options])

    @contextlib.contextmanager
    def with_bytes(self, name: str, data: bytes) -> Iterator[None]:
        """Other bytes in a file while the block runs."""
        path = self.folder / name
        before = path.read_bytes()
        path.write_bytes(data)
        try:
            yield
        finally:
            path.write_bytes(before)


def _heard(argv: list[Path | str], samples: bytes = b"") -> tuple[int, list[dict[str, Any]], bytes]:
    done = subprocess.run(argv, input=samples, capture_output=True, check=False, timeout=60)
    events, outputs, rest = [], b"", done.stdout
    while rest:
        line, _, rest = rest.partition(b"\n")
        events.append(json.loads(line))
        if events[-1]["event"] == "output":
            size = events[-1]["bytes"]
            outputs, rest = outputs + rest[:size], rest[size + 1 :]
    return done.returncode, events, outputs


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    root = tmp_path_factory.mktemp("signed")
    folder, trusted = root / "deployment", root / "trusted"
    folder.mkdir()
    trusted.mkdir()
    np.save(folder / "samples.npy", SAMPLES)
    make_models = Path(__file__).with_name("runner_models.py")
    subprocess.run([sys.executable, make_models, folder], check=True, capture_output=True)
    files = {}
    for engine in sorted(set(MODELS.values())):
        built = bundle(engine, TRIPLE, progress=Silent())  # type: ignore[arg-type]
        for name, path in built.files.items():
            shutil.copy2(path, folder / name)
            files[name] = ("runtime", built.executable)
    files |= {name: ("model", f"edgeq-runner-{engine}") for name, engine in MODELS.items()}
    manifest = DeviceManifest(
        id="0123456789abcdef",
        model="a 'strange' $(name) é",
        target="host",
        serial=1_767_323_045,
        files={
            name: DeployedFile(
                role="model" if role == "model" else "runtime",
                runner=runner,
                sha256=sha256_file(folder / name),
                size=(folder / name).stat().st_size,
            )
            for name, (role, runner) in files.items()
        },
    )
    text = manifest_bytes(manifest)
    (folder / "deployment.json").write_bytes(text)
    (folder / "deployment.json.sig").write_bytes(keyring.signing_key("ci").sign(text))
    (trusted / "ci.pub").write_text(keyring.public_key("ci").line + "\n")
    (trusted / "other.pub").write_text(keyring.public_key("other").line + "\n")
    return Signed(folder, trusted)


@pytest.mark.parametrize("model", MODELS)
def test_a_signed_model_is_loaded_and_computes_what_it_always_does(signed: Signed, model: str) -> None:
    status, events, outputs = signed.run(model, samples=SAMPLES.tobytes())
    assert status == 0, events
    assert events[-1]["event"] == "done"
    wanted = np.load(signed.folder / f"{model}.npy")
    np.testing.assert_allclose(np.frombuffer(outputs, np.float32), wanted.ravel(), rtol=1e-4, atol=1e-5)


def test_what_is_signed_is_verified_and_said(signed: Signed) -> None:
    status, events, _ = signed.verify("--not-before", "1767323045")
    assert status == 0, events
    assert events[1:] == [
        {
            "event": "verified",
            "id": "0123456789abcdef",
            "model": "a 'strange' $(name) é",
            "target": "host",
            "serial": 1_767_323_045,
            "key": "ci.pub",
        },
        {"event": "done", "files": len(MODELS) + 10},  # two programs, six libraries, two texts of licences
    ]


def test_a_serial_below_the_one_that_was_there_is_replayed(signed: Signed) -> None:
    status, events, _ = signed.verify("--not-before", "1767323046")
    assert (status, events[-1]["code"]) == (78, "replayed")


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_the_manifest_does_not_name_is_not_loaded(signed: Signed, model: str) -> None:
    engine = MODELS[model]
    other = signed.folder / f"other-{model}"
    shutil.copy2(signed.folder / model, other)
    program = signed.folder / f"edgeq-runner-{engine}"
    status, events, _ = _heard([program, "run", "--model", other, "--require-signed", signed.trusted])
    assert (status, events[-1]["code"]) == (76, "not_signed")
    alone = signed.folder.parent / f"alone-{engine}"
    alone.mkdir()
    shutil.copy2(signed.folder / model, alone)
    status, events, _ = _heard([program, "run", "--model", alone / model, "--require-signed", signed.trusted])
    assert (status, events[-1]["code"]) == (76, "not_signed")
    status, events, _ = _heard([program, "run", "--model", other], SAMPLES.tobytes())
    assert status == 0, "nobody told it to require a signature"


def test_a_model_of_the_other_runtime_is_not_loaded(signed: Signed) -> None:
    argv = [signed.folder / "edgeq-runner-executorch", "run", "--model", signed.folder / "fp32.onnx"]
    status, events, _ = _heard([*argv, "--require-signed", signed.trusted])
    assert (status, events[-1]["code"]) == (76, "not_signed")


@pytest.mark.parametrize("trusted", ["", "/nowhere", "empty"])
def test_without_a_trusted_key_nothing_is_loaded(signed: Signed, trusted: str, tmp_path: Path) -> None:
    folder = str(tmp_path) if trusted == "empty" else trusted
    argv = [signed.folder / "edgeq-runner-executorch", "run", "--model", signed.folder / "xnnpack.pte"]
    status, events, _ = _heard([*argv, "--require-signed", folder])
    assert (status, events[-1]["code"]) == ((64, "bad_arguments") if not trusted else (76, "not_signed"))


def test_every_one_of_a_thousand_changed_bytes_is_a_clean_refusal(signed: Signed) -> None:
    rng = random.Random(20261125)  # noqa: S311  # damage, not secrets
    wanted = {"deployment.json": 76, "deployment.json.sig": 76, "xnnpack.pte": 77, "fp32.onnx": 77}
    names = sorted(wanted)
    for round_ in range(CORRUPTIONS):
        name = names[round_ % len(names)]
        data = bytearray((signed.folder / name).read_bytes())
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        model = name if name in MODELS else rng.choice(sorted(MODELS))
        with signed.with_bytes(name, bytes(data)):
            status, events, outputs = signed.run(model, samples=SAMPLES.tobytes())
        assert status == wanted[name], (name, round_, events)
        assert [event["event"] for event in events] == ["hello", "error"]
        assert events[-1]["code"] == {76: "not_signed", 77: "tampered"}[status]
        assert not outputs


def test_a_changed_byte_of_any_file_is_found_by_verify(signed: Signed) -> None:
    rng = random.Random(7)  # noqa: S311  # damage, not secrets
    named = json.loads((signed.folder / "deployment.json").read_bytes())["files"]
    for name in sorted(named):
        judge = "onnxruntime" if "executorch" in name else "executorch"  # a runner that does not load that file itself
        path = signed.folder / name
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1
        with signed.with_bytes(name, bytes(data)):
            status, events, _ = signed.verify(judge=judge)
        assert (status, events[-1]["code"]) == (77, "tampered"), name
        assert name in events[-1]["message"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "edgeq.toml").write_text(PROJECT)
    (folder / "tiny.py").write_text(CODE)
    done = _edgeq("build", folder, "--out", folder / "out", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@dataclass
class Place:
    """One device, and a build for it."""

    transport: Transport
    device: str
    what: pipeline.Build

    def deploy(self, *, sign: str | None = "ci", allow_older: bool = False) -> DeployResult:
        return pipeline.deploy(
            self.what,
            self.transport,
            device=self.device,
            sign=keyring.signing_key(sign) if sign else None,
            allow_older=allow_older,
            progress=Silent(),
        )

    def at(self, created_at: str) -> None:
        """Make this a build of another time."""
        self.what = replace(self.what, manifest=replace(self.what.manifest, created_at=created_at))


@pytest.fixture(params=["local", "board"])
def place(request: pytest.FixtureRequest, tmp_path: Path, built: Path) -> Iterator[Place]:
    shutil.copytree(built, tmp_path / "build")
    what = pipeline.read_build(tmp_path / "build")
    if request.param == "local":
        yield Place(LocalTransport(tmp_path / "device"), "local", what)
        return
    rpi4 = load_target("rpi4")
    try:
        with open_device("board", rpi4, progress=Silent()) as transport:
            yield Place(transport, "board", replace(what, target=rpi4))
    except MissingToolError:
        if "CI" in os.environ:
            raise
        pytest.skip("QEMU is not installed")


def test_a_device_that_trusts_a_key_goes_through_a_life_of_deployments(place: Place) -> None:
    transport = place.transport
    older, newer = place.what.manifest.created_at, "2127-01-03T03:04:05+00:00"
    trust_key(transport, ".edgeq", keyring.public_key("ci"))
    with pytest.raises(UnsignedError):
        place.deploy(sign=None)
    first = place.deploy()
    assert first.deployment.signed is not None
    assert first.deployment.signed.verified
    assert place.deploy().transferred_bytes == 0

    place.at(newer)
    second = place.deploy()
    assert second.transferred_bytes < 10_000, "the manifest and its signature, and no file of before"
    place.at(older)
    with pytest.raises(OlderDeploymentError):
        place.deploy()
    pointer = f".edgeq/current/tiny@{place.what.target.name}"
    assert transport.run(["cat", pointer]).stdout.decode().split()[0] == second.deployment.id

    folder, program = second.deployment.root, "edgeq-runner-executorch"
    said = verify(transport, folder=folder, executable=program, trusted=".edgeq/trusted")
    assert (said.id, said.key) == (second.deployment.id, "ci.pub")
    assert said.serial == serial_of(newer)
    with pytest.raises(RunnerFailedError) as caught:
        verify(transport, folder=folder, executable=program, trusted=".edgeq/trusted", not_before=said.serial + 1)
    assert caught.value.code == "replayed"

    for name, code in (("tiny.fp32.onnx", "tampered"), ("deployment.json", "not_signed")):
        script = 'cd "$1" && cp -p "$2" aside && chmod u+w "$2" && printf x | dd of="$2" bs=1 seek=9 conv=notrunc'
        assert transport.run(["/bin/sh", "-c", script, "sh", folder, name]).status == 0
        with pytest.raises(RunnerFailedError) as caught:
            verify(transport, folder=folder, executable=program, trusted=".edgeq/trusted")
        assert caught.value.code == code
        script = 'cd "$1" && cat aside > "$2" && rm -f aside'
        assert transport.run(["/bin/sh", "-c", script, "sh", folder, name]).status == 0

    assert place.deploy(allow_older=True).deployment.id == first.deployment.id
    distrust_key(transport, ".edgeq", "ci")
    assert place.deploy(sign=None).deployment.signed is None


def _edgeq(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeq", *map(str, args)], capture_output=True, text=True, check=False, timeout=300
    )


def test_the_commands_do_it_from_key_to_verified_deployment(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(built, tmp_path / "build")

    made = json.loads(_edgeq("keys", "new", "release", "--json").stdout)
    assert made["fingerprint"].startswith("SHA256:")
    again = _edgeq("keys", "new", "release")
    assert again.returncode == 2
    assert "never overwritten" in again.stderr
    assert [key["name"] for key in json.loads(_edgeq("keys", "list", "--json").stdout)] == ["release"]
    assert made["public_key"] in _edgeq("keys", "show", "release").stdout

    assert _edgeq("keys", "trust", "release", "--device", "local").returncode == 0
    trusted = json.loads(_edgeq("keys", "list", "--device", "local", "--json").stdout)["trusted"]
    assert trusted == [{"name": "release", "public_key": made["public_key"]}]
    refused = _edgeq("deploy", tmp_path / "build", "--device", "local", "--json")
    assert refused.returncode == 2
    assert "signed deployments only" in json.loads(refused.stdout)["error"]["message"]

    by_path = tmp_path / "secret.pem"
    shutil.copy2(tmp_path / ".config/edgeq/keys/release", by_path)
    monkeypatch.setenv("EDGEQ_SIGN", str(by_path))
    done = _edgeq("deploy", tmp_path / "build", "--device", "local", "--json")
    assert done.returncode == 0, done.stderr
    signed = json.loads(done.stdout)["deployment"]["signed"]
    assert signed["verified"]
    assert signed["fingerprint"] == made["fingerprint"]

    assert _edgeq("keys", "distrust", "release", "--device", "local").returncode == 0
    assert json.loads(_edgeq("keys", "list", "--device", "local", "--json").stdout)["trusted"] == []
    body = by_path.read_text().splitlines()[1]
    assert not [
        path for path in (tmp_path / ".edgeq").rglob("*") if path.is_file() and body in path.read_text("latin-1")
    ]


def test_a_run_signs_what_it_deploys_and_a_device_that_trusts_the_key_has_checked_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "edgeq.toml").write_text(PROJECT)
    (project / "tiny.py").write_text(CODE)
    run = ("run", project, "--device", "local", "--force", "--format", "pte", "--repeats", 3, "--jobs", 1, "--json")
    fingerprint = json.loads(_edgeq("keys", "new", "release", "--json").stdout)["fingerprint"]
    assert _edgeq("keys", "trust", "release", "--device", "local").returncode == 0

    refused = _edgeq(*run)
    assert refused.returncode == 2
    assert "signed deployments only" in json.loads(refused.stdout)["error"]["message"]
    assert not (tmp_path / ".edgeq" / "current").exists()
    unknown = _edgeq(*run, "--sign", "releese")
    assert unknown.returncode == 2
    assert "release" in json.loads(unknown.stdout)["error"]["hint"]

    done = _edgeq(*run, "--sign", "release")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["artifact"], row["device"]) == ("tiny.fp32.pte", "local")
    record = json.loads((tmp_path / "build/tiny/host/deployments/local.json").read_text())
    assert (record["signed"]["fingerprint"], record["signed"]["verified"]) == (fingerprint, True)
    assert (tmp_path / record["root"] / "deployment.json.sig").stat().st_size == 64
