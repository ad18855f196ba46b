from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import NoDebianMirrorError, PackageNotFoundError, WrongHashError
from edgeq.packages import debs as debs_module
from edgeq.packages import fetch_debs, relock, resolve_debs
from edgeq.packages.apt import debian_mirrors, first_dependency
from edgeq.packages.locks import DebLock, LockedDeb

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Said:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def advance(self, done: int, total: int | None = None) -> None:
        pass


class Mirror:
    """Stands for apt and the mirror behind it."""

    def __init__(self) -> None:
        self.offered: dict[str, list[tuple[str, bytes, str]]] = {}
        self.downloads = 0
        self.tampered = False

    def offer(self, name: str, version: str, content: bytes, depends: str = "") -> LockedDeb:
        self.offered.setdefault(name, []).insert(0, (version, content, depends))
        return LockedDeb(
            name=name,
            version=version,
            architecture="arm64",
            suite="bookworm",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def __call__(self, suite: str, architecture: str) -> Mirror:
        assert (suite, architecture) == ("bookworm", "arm64")
        return self

    def available(self, names: Iterable[str]) -> dict[str, list[dict[str, str]]]:
        return {
            name: [
                {
                    "Package": name,
                    "Version": version,
                    "Architecture": "arm64",
                    "Size": str(len(content)),
                    "SHA256": hashlib.sha256(content).hexdigest(),
                    "Depends": depends,
                }
                for version, content, depends in self.offered[name]
            ]
            for name in names
            if name in self.offered
        }

    def download(self, debs: Iterable[LockedDeb], into: Path) -> None:
        self.downloads += 1
        for deb in debs:
            content = next(content for version, content, _ in self.offered[deb.name] if version == deb.version)
            (into / f"{deb.name}_{deb.version}.deb").write_bytes(b"evil" if self.tampered else content)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    mirror = Mirror()
    monkeypatch.setattr(debs_module, "AptRoot", mirror)
    return mirror


def _use_lock(monkeypatch: pytest.MonkeyPatch, *debs: LockedDeb, metapackages: tuple[str, ...] = ()) -> None:
    lock = DebLock(
        purpose="a test",
        suite="bookworm",
        architecture="arm64",
        packages=tuple(deb.name for deb in debs if not deb.meta),
        metapackages=metapackages,
        deb=debs,
    )
    monkeypatch.setattr(debs_module, "load_deb_lock", lambda _name: lock)


def test_packages_come_in_the_order_of_the_lock_and_once(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    _use_lock(monkeypatch, mirror.offer("b", "1", b"bb"), mirror.offer("a", "1", b"aa"))

    first = fetch_debs("x", progress=Said())
    second = fetch_debs("x", progress=Said())

    assert [path.read_bytes() for path in first] == [b"bb", b"aa"]
    assert second == first
    assert mirror.downloads == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    _use_lock(monkeypatch, mirror.offer("a", "1", b"aa"))
    (path,) = fetch_debs("x", progress=Said())
    path.write_bytes(b"a")

    (path,) = fetch_debs("x", progress=Said())

    assert path.read_bytes() == b"aa"


def test_a_version_that_is_gone_is_replaced_and_that_is_said(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    old = mirror.offer("a", "1", b"old")
    mirror.offered["a"].clear()
    new = mirror.offer("a", "2", b"new")
    _use_lock(monkeypatch, old)
    progress = Said()

    (deb,) = resolve_debs("x", progress=progress)

    assert (deb.locked, deb.fetched, deb.path.read_bytes()) == (old, new, b"new")
    assert any("a 1 is no longer on the mirror: a 2" in step for step in progress.steps)
    assert resolve_debs("x", progress=Said()) == (deb,)
    assert mirror.downloads == 1


def test_a_kernel_that_is_gone_is_found_through_its_metapackage(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(mirror.offer("linux-6.1-1", "1", b"old"), meta="linux")
    del mirror.offered["linux-6.1-1"]
    mirror.offer("linux", "2", b"", "linux-6.1-2 (= 2), other")
    mirror.offer("linux-6.1-2", "2", b"new")
    _use_lock(monkeypatch, old, metapackages=("linux",))

    (deb,) = resolve_debs("x", progress=Said())

    assert (deb.fetched.name, deb.fetched.meta, deb.path.read_bytes()) == ("linux-6.1-2", "linux", b"new")


def test_the_same_version_with_other_bytes_is_an_error(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    _use_lock(monkeypatch, replace(mirror.offer("a", "1", b"aa"), sha256="0" * 64))

    with pytest.raises(WrongHashError, match="a 1"):
        fetch_debs("x", progress=Said())

    assert mirror.downloads == 0


def test_a_file_that_changed_on_the_way_never_reaches_the_cache(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _use_lock(monkeypatch, mirror.offer("a", "1", b"aa"))
    mirror.tampered = True

    with pytest.raises(WrongHashError):
        fetch_debs("x", progress=Said())

    assert list((tmp_path / "cache" / "debs").iterdir()) == []


def test_a_package_that_the_suite_does_not_have_is_named(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = mirror.offer("a", "1", b"aa")
    mirror.offered.clear()
    _use_lock(monkeypatch, deb)

    with pytest.raises(PackageNotFoundError, match="no package a in bookworm"):
        fetch_debs("x", progress=Said())


def test_leftovers_of_a_killed_download_are_removed(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leftover = tmp_path / "cache" / "debs" / ".fetch-killed"
    leftover.mkdir(parents=True)
    _use_lock(monkeypatch, mirror.offer("a", "1", b"aa"))

    fetch_debs("x", progress=Said())

    assert not leftover.exists()


def test_relocking_writes_the_newest_versions(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = mirror.offer("a", "1", b"old")
    kernel = replace(mirror.offer("linux-1", "1", b"k1"), meta="linux")
    mirror.offer("a", "2", b"new")
    mirror.offer("linux", "2", b"", "linux-2")
    mirror.offer("linux-2", "2", b"k2")
    _use_lock(monkeypatch, old, kernel, metapackages=("linux",))
    monkeypatch.setattr(debs_module, "lock_path", lambda _name: tmp_path / "lock.toml")

    relock("x", progress=Said())

    text = (tmp_path / "lock.toml").read_text()
    assert 'version = "2"' in text
    assert 'name = "linux-2"' in text
    assert 'version = "1"' not in text


def test_the_mirror_that_the_user_names_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_DEBIAN_MIRROR", "file:///mirror")

    assert debian_mirrors() == ("file:///mirror",)


def test_the_mirror_is_the_one_that_apt_knows_as_debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    targets = "http://a/ubuntu/ Ubuntu\nhttp://a/bpo/ Debian Backports\nhttp://b/x/ Debian\nhttp://c/x/ Debian\n"
    _fake_apt(monkeypatch, tmp_path, targets=targets)

    assert debian_mirrors() == ("http://b/x/",)


def test_a_machine_that_has_read_no_index_yet_has_candidates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uris = "".join(
        f"'{address}/dists/bookworm/{file}' {file} 0 \n"
        for address in (
            *("http://d/linux/debian", "http://c/debian-security", "http://c/debian", "http://u/ubuntu"),
            *("http://s/archive/debian/20261120T000000Z", "http://s/archive/debian-security/20261120T000000Z"),
        )
        for file in ("InRelease", "main/binary-amd64/Packages.xz")
    )
    _fake_apt(monkeypatch, tmp_path, uris=uris)

    assert debian_mirrors() == (
        *("http://d/linux/debian", "http://c/debian"),
        "http://s/archive/debian/20261120T000000Z",
    )


def test_a_machine_without_a_mirror_of_debian_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _fake_apt(
        monkeypatch, tmp_path, targets="http://a/ubuntu/ Ubuntu\n", uris="'http://a/ubuntu/dists/noble/InRelease' x 0\n"
    )

    with pytest.raises(NoDebianMirrorError) as caught:
        debian_mirrors()

    assert "EDGEQ_DEBIAN_MIRROR" in caught.value.hint


def _fake_apt(monkeypatch: pytest.MonkeyPatch, folder: Path, *, targets: str = "", uris: str = "") -> None:
    (folder / "targets").write_text(targets)
    (folder / "uris").write_text(uris)
    (folder / "apt-get").write_text(
        f'#!/bin/sh\nif [ "$1" = indextargets ]; then cat {folder}/targets; else cat {folder}/uris; fi\n'
    )
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("EDGEQ_DEBIAN_MIRROR", raising=False)


@pytest.mark.parametrize(
    ("depends", "name"),
    [("a (= 1), b", "a"), ("a:any | c", "a"), ("", ""), ("linux-6.1.0-50-arm64 (= 6.1.176-1)", "linux-6.1.0-50-arm64")],
)
def test_a_metapackage_stands_for_its_first_dependency(depends: str, name: str) -> None:
    assert first_dependency({"Depends": depends}) == name
