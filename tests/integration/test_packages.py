"""Fetching for real: through this machine's apt and pip, into a cache of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import FetchError, MissingToolError, NoDebianMirrorError
from edgeq.packages import fetch_debs, fetch_wheel, resolve_debs, unpack_deb
from edgeq.packages.apt import debian_mirrors
from edgeq.packages.locks import load_wheel_lock
from edgeq.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "onnxruntime-headers"
WHEEL = "executorch-aarch64-linux-gnu"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def _mirror() -> None:
    try:
        if shutil.which("apt-get") is None:
            pytest.skip("this machine has no apt")
        debian_mirrors()
    except NoDebianMirrorError:
        if "CI" in os.environ:
            raise
        pytest.skip("this machine knows no mirror of Debian")


@pytest.mark.usefixtures("_mirror")
def test_packages_of_another_release_and_machine_come_through_apt(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (deb,) = resolve_debs(LOCK, progress=Silent())

    unpack_deb(deb.path, tmp_path / "tree")
    assert (tmp_path / "tree" / "usr" / "include" / "onnxruntime" / "onnxruntime_c_api.h").is_file()
    assert deb.path == cache / "debs" / f"{deb.fetched.sha256}.deb"
    assert list((cache / "debs").glob(".*")) == []

    # From now on neither a network nor a tool is needed.
    monkeypatch.setenv("PATH", "/nonexistent")
    assert fetch_debs(LOCK, progress=Silent()) == (deb.path,)


@pytest.mark.usefixtures("_mirror")
def test_an_unreachable_mirror_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEQ_DEBIAN_MIRROR", f"file://{tmp_path}/no-mirror")

    with pytest.raises(FetchError) as caught:
        fetch_debs(LOCK, progress=Silent())

    assert "EDGEQ_DEBIAN_MIRROR" in caught.value.hint
    assert caught.value.detail


@pytest.mark.usefixtures("_mirror")
def test_an_index_that_nobody_signed_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = tmp_path / "mirror" / "dists" / "trixie"
    (release / "main" / "binary-arm64").mkdir(parents=True)
    (release / "main" / "binary-arm64" / "Packages").write_text("")
    (release / "Release").write_text("Origin: Debian\nSuite: trixie\nCodename: trixie\n")
    monkeypatch.setenv("EDGEQ_DEBIAN_MIRROR", f"file://{tmp_path}/mirror")

    with pytest.raises(FetchError, match="index"):
        fetch_debs(LOCK, progress=Silent())


def test_a_machine_without_apt_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(MissingToolError, match="apt-get"):
        fetch_debs(LOCK, progress=Silent())


def test_a_wheel_for_another_machine_comes_through_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    locked = next(wheel for wheel in load_wheel_lock().wheel if wheel.name == WHEEL)

    path = fetch_wheel(WHEEL, progress=Silent())

    assert path.stat().st_size == locked.size
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert fetch_wheel(WHEEL, progress=Silent()) == path


def test_the_users_pip_settings_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    with pytest.raises(FetchError, match=r"executorch 1\.5\.1"):
        fetch_wheel(WHEEL, progress=Silent())


@pytest.mark.parametrize("delay_s", [0.2, 0.6, 1.0])
def test_a_killed_download_leaves_nothing_that_is_taken_for_a_wheel(cache: Path, delay_s: float) -> None:
    code = f"from edgeq.packages import *; from edgeq.progress import Silent; fetch_wheel({WHEEL!r}, progress=Silent())"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGKILL)
    locked = next(wheel for wheel in load_wheel_lock().wheel if wheel.name == WHEEL)

    for path in (cache / "wheels").glob("*.whl"):
        assert path.stat().st_size == locked.size
    path = fetch_wheel(WHEEL, progress=Silent())
    assert list(path.parent.iterdir()) == [path]


def test_two_processes_fetch_one_wheel(cache: Path) -> None:
    code = (
        "from edgeq.packages import *; from edgeq.progress import Silent; "
        f"print(fetch_wheel({WHEEL!r}, progress=Silent()))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.communicate()[0].strip() for process in processes}

    assert [process.returncode for process in processes] == [0, 0]
    assert len(printed) == 1
    assert len(list((cache / "wheels").iterdir())) == 1
