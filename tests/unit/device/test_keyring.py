from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_public_key,
)

from edgeq.device import keyring
from edgeq.errors import BadKeyFileError, KeyExistsError, KeyNameError, UnknownKeyError

if TYPE_CHECKING:
    from pathlib import Path

# RFC 8032, section 7.1: secret key, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
            "24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
            "eeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
            "8dc027beceea1ec40a"
        ),
    ),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _write(path: Path, pem: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(pem)
    path.chmod(mode)
    return path


def _pem(seed: str) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_private_key_is_its_owners_alone_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        made = keyring.make_key("ci")
    finally:
        os.umask(before)
    folder = home / ".config/edgeq/keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "ci").stat().st_mode) == 0o600
    assert (folder / "ci").read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert (folder / "ci.pub").read_text() == made.line + "\n"
    assert keyring.own_keys() == (made,)
    assert keyring.public_key("ci") == made
    assert keyring.has_private("ci")


def test_a_key_is_never_overwritten(home: Path) -> None:
    keyring.make_key("ci")
    folder = home / ".config/edgeq/keys"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyExistsError, match="ci"):
        keyring.make_key("ci")
    (folder / "other").symlink_to("nowhere")
    (folder / "lonely.pub").write_text("kept")
    for name in ("other", "lonely"):
        with pytest.raises(KeyExistsError):
            keyring.make_key(name)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before | {"lonely.pub": b"kept"}


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "a b", "a\n", "$(id)", "ü", "a" * 65, "a.pub"])
def test_a_name_that_could_be_anything_else_is_refused(name: str, home: Path) -> None:
    with pytest.raises(KeyNameError):
        keyring.make_key(name)
    assert not (home / ".config").exists()


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_signatures_are_those_of_rfc_8032(home: Path, seed: str, public: str, message: str, signature: str) -> None:
    key = keyring.signing_key(str(_write(home / "vector", _pem(seed))))
    assert key.sign(bytes.fromhex(message)).hex() == signature
    blob = load_ssh_public_key(key.public.line.encode())
    assert isinstance(blob, Ed25519PublicKey)
    assert blob.public_bytes_raw().hex() == public


def test_a_new_key_signs_what_its_public_half_verifies() -> None:
    made = keyring.make_key("ci")
    key = keyring.signing_key("ci")
    assert key.public == made
    public = load_ssh_public_key(made.line.encode())
    assert isinstance(public, Ed25519PublicKey)
    public.verify(key.sign(b"data"), b"data")


def test_a_name_goes_before_a_file_of_the_same_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = keyring.make_key("ci")
    monkeypatch.chdir(home)
    _write(home / "ci", _pem(VECTORS[0][0]))
    assert keyring.signing_key("ci").public == made
    assert keyring.signing_key("./ci").public.fingerprint != made.fingerprint


def test_a_key_that_is_not_there_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownKeyError) as caught:
        keyring.signing_key("ci")
    assert "edgeq keys new" in caught.value.hint
    keyring.make_key("release")
    with pytest.raises(UnknownKeyError) as caught:
        keyring.public_key("relaese")
    assert "release" in caught.value.hint


def test_a_key_that_others_can_read_is_refused(home: Path) -> None:
    path = _write(home / "key", _pem(VECTORS[0][0]), 0o640)
    with pytest.raises(BadKeyFileError, match="others") as caught:
        keyring.signing_key(str(path))
    assert "chmod 600" in caught.value.hint


def test_what_is_no_key_is_refused_and_nothing_of_it_is_told(home: Path) -> None:
    secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS[0][0]))
    other = X25519PrivateKey.generate()
    files = {
        "locked": secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "openssh": secret.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        "der": secret.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "cut": _pem(VECTORS[0][0])[:-40],
        "exchange": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "empty": b"",
    }
    for name, content in files.items():
        path = _write(home / name, content)
        with pytest.raises(BadKeyFileError) as caught:
            keyring.signing_key(str(path))
        told = caught.value.message + caught.value.hint + caught.value.detail
        assert caught.value.hint
        assert not [line for line in content.decode("latin-1").splitlines()[1:-1] if line and line in told]
    _write(home / "rsa.pub", b"ssh-rsa AAAAB3NzaC1yc2E= somebody")
    with pytest.raises(BadKeyFileError, match="public"):
        keyring.public_key(str(home / "rsa.pub"))


def test_a_signing_key_does_not_show_its_private_half() -> None:
    keyring.make_key("ci")
    key = keyring.signing_key("ci")
    pem = (keyring.keys_dir() / "ci").read_text().splitlines()[1]
    assert "rivate" not in repr(key)
    assert pem not in repr(key)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_the_fingerprint_is_the_one_that_ssh_keygen_shows() -> None:
    made = keyring.make_key("ci")
    path = keyring.keys_dir() / "ci.pub"
    done = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True)
    assert made.fingerprint in done.stdout.split()
