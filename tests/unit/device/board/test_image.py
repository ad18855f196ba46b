from __future__ import annotations

import json
import lzma
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeq.device.board import image
from edgeq.device.board.keys import BoardKeys
from edgeq.errors import BoardImageError

if TYPE_CHECKING:
    from edgeq.device.board.cpio import Entry

_KEYS = BoardKeys(
    user_key_path=Path("key"),
    user_public="ssh-ed25519 USER",
    host_private=b"HOST",
    host_public="ssh-ed25519 HOST",
)
_DEBS = (Path("/cache/debs/aa.deb"), Path("/cache/debs/bb.deb"))


def _own(keys: BoardKeys = _KEYS) -> dict[str, Entry]:
    return {entry.path: entry for entry in image._own_files(keys)}


def _kernel(tmp_path: Path, built_in: str, *modules: str) -> Path:
    folder = tmp_path / "usr/lib/modules/6.1.0"
    for module in modules:
        path = folder / "kernel" / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(b"code") if module.endswith(".xz") else b"code")
    (folder / "modules.builtin").write_text(built_in)
    return tmp_path


def test_the_user_s_home_is_the_user_s_and_takes_the_user_s_key_only() -> None:
    own = _own()
    for path in ("home/edgeq", "home/edgeq/.ssh", "home/edgeq/.ssh/authorized_keys"):
        assert own[path].owner == 1000
        assert not own[path].mode & 0o077
    assert own["home/edgeq/.ssh/authorized_keys"].content == b"ssh-ed25519 USER\n"
    assert own["root/.ssh/authorized_keys"].owner == 0


def test_the_board_s_host_key_is_root_s_alone() -> None:
    assert stat.S_IMODE(_own()["etc/dropbear/host_key"].mode) == 0o600


def test_no_account_has_a_password() -> None:
    accounts = _own()["etc/passwd"].content.decode().splitlines()
    assert [account.split(":")[1] for account in accounts] == ["*", "*"]


def test_an_image_of_other_packages_or_keys_is_another_image() -> None:
    other_keys = BoardKeys(
        user_key_path=Path("key"), user_public="ssh-ed25519 OTHER", host_private=b"HOST", host_public="ssh-ed25519 HOST"
    )
    own, other = tuple(_own().values()), tuple(_own(other_keys).values())
    fingerprints = {
        image._fingerprint(_DEBS, ("usr/lib/*.so*",), own),
        image._fingerprint(_DEBS, ("lib/*.so*",), own),
        image._fingerprint(_DEBS[:1], ("usr/lib/*.so*",), own),
        image._fingerprint(_DEBS, ("usr/lib/*.so*",), other),
    }
    assert len(fingerprints) == 4


def test_modules_are_named_in_the_order_of_loading(tmp_path: Path) -> None:
    files = (f"{name}.ko" for name in reversed(image._MODULES))
    paths = [entry.path for entry in image._modules(_kernel(tmp_path, "", *files))]
    assert paths == sorted(paths)
    assert [path.rsplit("-", 1)[1].removesuffix(".ko") for path in paths] == list(image._MODULES)


def test_a_module_may_be_built_in_or_compressed(tmp_path: Path) -> None:
    built_in = "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_ring.ko\n"
    rest = [f"{name}.ko.xz" for name in image._MODULES[2:]]
    entries = list(image._modules(_kernel(tmp_path, built_in, *rest)))
    assert len(entries) == len(rest)
    assert {entry.content for entry in entries} == {b"code"}


def test_a_kernel_without_a_network_card_s_module_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BoardImageError, match="virtio"):
        list(image._modules(_kernel(tmp_path, "", "failover.ko")))


def test_packages_without_a_program_that_a_board_needs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BoardImageError, match="usr/bin/busybox"):
        list(image._from_packages(tmp_path, image._FROM_PACKAGES))


def test_an_image_with_a_cut_or_missing_file_is_not_intact(tmp_path: Path) -> None:
    made = image.Image(sha256="0" * 64, folder=tmp_path)
    made.kernel.write_bytes(b"kernel")
    made.root.write_bytes(b"root")
    assert not made.is_intact()
    made.hashes.write_text(json.dumps(image._hashes(made)))
    assert made.is_intact()
    made.root.write_bytes(b"roo")
    assert not made.is_intact()
    made.root.unlink()
    assert not made.is_intact()
    made.hashes.write_text("{")
    assert not made.is_intact()
