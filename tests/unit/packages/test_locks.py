from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeq.errors import UnknownNameError
from edgeq.packages.debs import _as_toml
from edgeq.packages.locks import LOCKS, DebLock, load_deb_lock, load_wheel_lock, lock_path
from edgeq.schema import load_toml, read_toml
from edgeq.triple import KINDS, named

_DEB_LOCKS = sorted(path.stem for path in LOCKS.glob("*.toml") if path.stem != "wheels")


@pytest.mark.parametrize("name", _DEB_LOCKS)
def test_each_lock_holds_what_its_list_of_packages_says(name: str) -> None:
    lock = load_deb_lock(name)

    assert [deb.name for deb in lock.deb if not deb.meta] == list(lock.packages)
    assert [deb.meta for deb in lock.deb if deb.meta] == list(lock.metapackages)
    for deb in lock.deb:
        assert re.fullmatch("[0-9a-f]{64}", deb.sha256)
        assert deb.suite == lock.suite
        assert deb.architecture in (lock.architecture, "all")


@pytest.mark.parametrize("name", _DEB_LOCKS)
def test_a_lock_written_anew_says_the_same(name: str, tmp_path: Path) -> None:
    lock = load_deb_lock(name)

    text = _as_toml(lock, list(lock.deb))
    (tmp_path / "lock.toml").write_text(text)

    assert load_toml(DebLock, tmp_path / "lock.toml") == lock
    assert text == lock_path(name).read_text()


def test_no_lock_names_a_host() -> None:
    for path in LOCKS.glob("*.toml"):
        assert "://" not in path.read_text()


def test_the_wheels_are_of_the_versions_that_edgeq_requires() -> None:
    project = read_toml(Path(__file__).parents[3] / "pyproject.toml")["project"]
    required = [line for lines in project["optional-dependencies"].values() for line in lines]

    for wheel in load_wheel_lock().wheel:
        engine, _, triple = wheel.name.partition("-")
        machine = wheel.platform.removeprefix("manylinux_2_28_").removeprefix("manylinux_2_35_")
        assert machine in KINDS[named(triple)].machines
        if not wheel.carries:
            assert wheel.project == engine
            assert f"{wheel.project}=={wheel.version}" in required
            assert wheel.runtime_version == wheel.version


def test_an_unknown_lock_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError) as caught:
        lock_path("sysroot-arm64")

    assert "sysroot-aarch64" in caught.value.hint


def test_the_lock_of_wheels_is_none_of_debian_packages() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_deb_lock("wheels")

    assert "sysroot-aarch64" in caught.value.hint
