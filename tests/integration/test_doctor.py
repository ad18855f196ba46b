"""``edgeq doctor``: this machine, and a real emulated board whose userland is BusyBox alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from device_help import board_address

from edgeq.device import board
from edgeq.device.ssh import SshTransport
from edgeq.progress import Silent
from edgeq.stages.doctor.device import Examined, examine
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.device.board import RunningBoard


def _doctor(*arguments: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "edgeq", "doctor", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def emulated() -> Iterator[RunningBoard]:
    for program, _ in board.PROGRAMS:
        if shutil.which(program) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed")
    name = f"doctor-{os.getpid()}"
    yield board.start(load_target("rpi4"), name=name, progress=Silent())
    board.stop(name)


def _connect(emulated: RunningBoard, user: str) -> contextlib.closing[SshTransport]:
    return contextlib.closing(SshTransport.connect(board_address(emulated, user)))


def _examined(emulated: RunningBoard) -> Examined:
    with _connect(emulated, emulated.user) as transport:
        return examine(transport, "board", target=load_target("rpi4"))


def _severities(found: Examined) -> dict[str, str]:
    return {one.code: one.severity for one in found.findings}


def test_this_machine_is_looked_at_without_torch() -> None:
    code = "import sys; sys.argv = ['edgeq', 'doctor']\nfrom edgeq.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules, 'torch was imported'\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "host.package" in done.stdout


def test_this_machine_is_a_device_too() -> None:
    status, said = _doctor("local")
    assert status == said["exit_code"]
    assert said["examined"]["facts"]["cores"] == len(os.sched_getaffinity(0))
    codes = {one["code"] for one in said["findings"]}
    assert {"host.runner", "device.machine", "device.libc", "device.root", "device.disk", "device.load"} <= codes


def test_a_device_that_is_not_there_ends_with_4_and_says_both() -> None:
    status, said = _doctor("ssh://nobody@127.0.0.1:1")
    assert (status, said["examined"]) == (4, None)
    assert said["findings"][-1]["code"] == "device.connection"
    assert said["findings"][-1]["remedy"]
    assert said["findings"][0]["code"] == "host.python"


def test_several_devices_are_looked_at_at_once_and_each_has_its_own_exit_code(tmp_path: Path) -> None:
    (tmp_path / ".config" / "edgeq").mkdir(parents=True)
    (tmp_path / ".config" / "edgeq" / "devices.toml").write_text(
        '[house]\ndevices = ["local", "ssh://nobody@127.0.0.1:1"]\n'
    )
    cache = os.environ.get("EDGEQ_CACHE", str(Path.home() / ".cache/edgeq"))
    home = {**os.environ, "HOME": str(tmp_path), "EDGEQ_CACHE": cache}
    command = [sys.executable, "-m", "edgeq", "doctor", "house,kichten"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=120, env=home)
    assert "Traceback" not in done.stderr
    local, nobody, unknown = json.loads(done.stdout)["devices"]
    assert done.returncode == 4
    assert (local["device"], local["state"], local["error"]) == ("local", "done", None)
    assert local["examined"]["facts"]["cores"]
    assert (nobody["state"], nobody["exit_code"], nobody["findings"][-1]["code"]) == ("done", 4, "device.connection")
    assert (unknown["state"], unknown["exit_code"]) == ("failed", 2)
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=home).stdout
    marks = {line.split()[1]: line.split()[0] for line in shown.splitlines() if line[:1] in "✓✗"}
    assert (marks["ssh://nobody@127.0.0.1:1"], marks["kichten"]) == ("✗", "✗")


def test_an_unknown_name_is_an_error_of_its_own() -> None:
    status, said = _doctor("kichten")
    assert status == 2
    assert "kichten" in said["error"]["message"]


def test_a_board_of_the_command_line_is_started_and_gone_again(emulated: RunningBoard) -> None:
    before = {one.name for one in board.running()}
    status, said = _doctor("board", "--target", "rpi5")
    assert status == 0, said
    after = {one.name for one in board.running()}  # tests beside this one start and stop boards of other names
    assert ("rpi5" in after) == ("rpi5" in before)
    assert emulated.name in before & after
    facts = said["examined"]["facts"]
    assert facts["cpu"] == "cortex-a76"
    assert "asimddp" in facts["features"]
    assert not [one for one in said["findings"] if one["code"].startswith("device.") and one["severity"] == "problem"]


def test_an_emulated_board_in_good_order_has_no_warning(emulated: RunningBoard) -> None:
    found = _examined(emulated)
    assert set(_severities(found).values()) <= {"ok", "unknown"}, found.findings
    assert found.facts.libc == "glibc 2.36"
    assert found.facts.libstdcxx == "3.4.30"
    assert found.facts.loaders == ("/lib/ld-linux-aarch64.so.1",)
    assert found.place.free_bytes
    assert found.place.executes
    assert found.state.clock_skew_s is not None
    assert found.state.cpu_share is not None


def test_nothing_is_left_on_the_board(emulated: RunningBoard) -> None:
    with _connect(emulated, emulated.user) as transport:
        before = transport.run(["ls", "-A"]).stdout
        examine(transport, "board", target=None)
        assert transport.run(["ls", "-A"]).stdout == before


def test_who_computes_on_the_board_is_named(emulated: RunningBoard) -> None:
    with _connect(emulated, emulated.user) as transport:
        pid = transport.run(["sh", "-c", "while :; do :; done >/dev/null 2>&1 </dev/null & echo $!"]).stdout.decode()
        try:
            found = examine(transport, "board", target=None)
        finally:
            transport.run(["kill", pid.strip()])
    assert int(pid) in {one.pid for one in found.state.busy}
    assert _severities(found)["device.load"] == "warning"


@pytest.mark.parametrize(
    ("options", "words"), [("noexec,mode=777", "noexec"), ("ro", "Read-only"), ("mode=755", "Permission denied")]
)
def test_a_root_where_edgeq_cannot_work_says_what_to_set(
    emulated: RunningBoard, monkeypatch: pytest.MonkeyPatch, options: str, words: str
) -> None:
    with _connect(emulated, "root") as root:
        root.run(["mkdir", "-p", "/srv/odd"])
        assert root.run(["mount", "-t", "tmpfs", "-o", options, "none", "/srv/odd"]).status == 0
        monkeypatch.setattr("edgeq.stages.doctor.device.store_root", lambda _: "/srv/odd/edgeq")
        try:
            found = _examined(emulated)
        finally:
            root.run(["umount", "/srv/odd"])
    (place,) = [one for one in found.findings if one.code == "device.root"]
    assert place.severity == "problem"
    assert words in place.text
    assert place.remedy


def test_a_store_whose_parts_belong_to_root_is_told(emulated: RunningBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.stages.doctor.device.store_root", lambda _: "foreign")
    with _connect(emulated, emulated.user) as transport, _connect(emulated, "root") as root:
        home = transport.run(["pwd"]).stdout.decode().strip()
        transport.run(["mkdir", "foreign"])
        root.run(["mkdir", f"{home}/foreign/blobs"])
        try:
            found = _examined(emulated)
        finally:
            root.run(["rm", "-r", f"{home}/foreign"])
    (place,) = [one for one in found.findings if one.code == "device.root"]
    assert place.severity == "problem"
    assert "blobs" in place.text


def test_a_clock_that_is_off_is_told(emulated: RunningBoard) -> None:
    with _connect(emulated, "root") as root:
        root.run(["sh", "-c", "date -u -s @$(($(date +%s) - 7200))"])
        try:
            found = _examined(emulated)
        finally:
            root.run(["hwclock", "-s", "-u"])
    (clock,) = [one for one in found.findings if one.code == "device.clock"]
    assert clock.severity == "warning"
    assert "behind" in clock.text


def test_a_full_disk_is_told(emulated: RunningBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    with _connect(emulated, "root") as root:
        root.run(["mkdir", "-p", "/srv/small"])
        assert root.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "none", "/srv/small"]).status == 0
        monkeypatch.setattr("edgeq.stages.doctor.device.store_root", lambda _: "/srv/small/edgeq")
        try:
            found = _examined(emulated)
        finally:
            root.run(["umount", "/srv/small"])
    assert _severities(found)["device.disk"] == "problem"
