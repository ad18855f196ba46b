from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from edgeq.device.known_hosts import fingerprint, known_keys

if TYPE_CHECKING:
    from pathlib import Path

KEY = base64.b64encode(b"a key").decode()
OTHER = base64.b64encode(b"another").decode()


def _write(tmp_path: Path, text: str) -> list[Path]:
    (tmp_path / "known_hosts").write_text(text)
    return [tmp_path / "missing", tmp_path / "known_hosts"]


def test_a_host_is_found_by_its_name_among_several(tmp_path: Path) -> None:
    files = _write(tmp_path, f"# comment\n\nrpi,10.0.0.7 ssh-ed25519 {KEY} me@here\nother ssh-ed25519 {OTHER}\n")
    (found,) = known_keys("10.0.0.7", 22, files)
    assert (found.key_type, found.blob, found.revoked) == ("ssh-ed25519", b"a key", False)
    assert found.where.endswith("known_hosts:3")


def test_another_port_has_an_entry_of_its_own_and_falls_back_to_the_bare_name(tmp_path: Path) -> None:
    files = _write(tmp_path, f"[rpi]:2222 ssh-rsa {KEY}\nrpi ssh-rsa {OTHER}\n")
    assert [(key.blob, key.of_port) for key in known_keys("rpi", 2222, files)] == [(b"a key", True)]
    assert [(key.blob, key.of_port) for key in known_keys("rpi", 22, files)] == [(b"another", True)]
    assert [(key.blob, key.of_port) for key in known_keys("rpi", 2200, files)] == [(b"another", False)]


def test_wildcards_and_negation_are_understood(tmp_path: Path) -> None:
    files = _write(tmp_path, f"*.lab,!bad.lab ssh-rsa {KEY}\n")
    assert known_keys("Good.lab", 22, files)
    assert not known_keys("bad.lab", 22, files)


def test_brackets_are_no_set_of_characters(tmp_path: Path) -> None:
    assert not known_keys("r", 22, _write(tmp_path, f"[r] ssh-rsa {KEY}\n"))


def test_hashed_names_are_compared_by_their_hash(tmp_path: Path) -> None:
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, b"rpi", hashlib.sha1).digest()
    hashed = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    files = _write(tmp_path, f"{hashed} ssh-rsa {KEY}\n|1|broken ssh-rsa {KEY}\n")
    assert len(known_keys("rpi", 22, files)) == 1
    assert not known_keys("rpi2", 22, files)


def test_revoked_keys_are_marked_and_authorities_passed_over(tmp_path: Path) -> None:
    files = _write(tmp_path, f"@revoked * ssh-rsa {KEY}\n@cert-authority * ssh-rsa {OTHER}\n")
    (found,) = known_keys("rpi", 22, files)
    assert found.revoked


def test_lines_that_are_damaged_are_passed_over(tmp_path: Path) -> None:
    assert not known_keys("rpi", 22, _write(tmp_path, "rpi ssh-rsa\nrpi ssh-rsa !!!\n\x00\n"))


def test_the_fingerprint_is_the_one_that_ssh_keygen_shows() -> None:
    assert fingerprint(b"a key") == "SHA256:" + base64.b64encode(hashlib.sha256(b"a key").digest()).decode()[:43]
