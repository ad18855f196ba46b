"""Android devices through an adb server: the fake of android.py, on a real socket, with real programs."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from android import FakeAdbServer, Phone
from device_help import (
    ends_with_a_program_that_reads_nothing,
    is_not_blocked_by_a_flood_on_stderr,
    passes_an_error_of_the_stream_on,
    streams_50_mb_both_ways,
)

from edgeq.device.adb import HOME, AdbTransport
from edgeq.device.facts import read_facts
from edgeq.device.inventory import ANDROID_ROOT, devices_file, open_device, require_device, serial_of, store_root
from edgeq.device.place import read_place
from edgeq.device.store import Store
from edgeq.errors import (
    AdbServerAddressError,
    AdbServerError,
    AndroidNotReadyError,
    BadDeviceNameError,
    ConnectionLostError,
    DeviceSilentError,
    NoAdbServerError,
    RemoteFileError,
    UnwritableDeviceError,
    WhichAndroidError,
)
from edgeq.progress import Silent
from edgeq.testing import sample_target

if TYPE_CHECKING:
    from collections.abc import Iterator

AWKWARD = "a folder/quote' double\" \n $(true) ü -x, y"
SERIAL = "R58M"


@pytest.fixture(autouse=True)
def _hangups_are_heard() -> Iterator[None]:
    """A shell cannot trap what was ignored when it began, as under nohup; a device's can."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    (tmp_path / "phone").mkdir()
    phone = Phone(folder=tmp_path / "phone")
    _become_android(phone, tmp_path / "bin")
    return phone


def _become_android(phone: Phone, folder: Path) -> None:
    """Give it toybox's programs and mksh; where these are not installed, this machine's, listing as toybox lists."""
    folder.mkdir()
    toybox, mksh = shutil.which("toybox"), shutil.which("mksh")
    if toybox is None or mksh is None:
        (folder / "ls").write_text('#!/bin/sh\nexec /bin/ls --time-style=long-iso "$@"\n')
        (folder / "ls").chmod(0o755)
        phone.path = f"{folder}:{os.environ['PATH']}"
        return
    for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
        (folder / name).symlink_to(toybox)
    (folder / "sh").unlink(missing_ok=True)
    (folder / "sh").symlink_to(mksh)
    phone.path, phone.shell = str(folder), str(folder / "sh")


@pytest.fixture
def server(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdbServer]:
    for name in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_SERIAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    running = FakeAdbServer({SERIAL: phone})
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(running.port))
    yield running
    running.close()


@pytest.fixture
def device(server: FakeAdbServer) -> AdbTransport:
    del server
    return AdbTransport.connect("adb", None)


# Which device.


@pytest.mark.usefixtures("server")
def test_the_only_device_needs_no_name_and_keeps_its_files_where_android_lets_it() -> None:
    with open_device("adb", sample_target(), progress=Silent()) as device:
        assert device.run(["echo", "here"]).stdout == b"here\n"
    assert store_root("adb") == store_root(f"adb://{SERIAL}") == ANDROID_ROOT == "/data/local/tmp/edgeq"


def test_of_several_devices_one_must_be_named(
    server: FakeAdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.phones["10.0.0.7:5555"] = Phone(folder=tmp_path)
    with pytest.raises(WhichAndroidError, match=r"10\.0\.0\.7:5555, R58M"):
        AdbTransport.connect("adb", None)
    for name in ("adb://10.0.0.7:5555", f"adb://{SERIAL}"):
        with open_device(name, sample_target(), progress=Silent()) as device:
            assert device.run(["true"]).status == 0
    monkeypatch.setenv("ANDROID_SERIAL", SERIAL)
    assert AdbTransport.connect("adb", None).run(["true"]).status == 0


@pytest.mark.usefixtures("server")
def test_a_table_of_devices_toml_may_name_an_android_device() -> None:
    devices_file().parent.mkdir(parents=True)
    devices_file().write_text(
        f'[phone]\nhost = "adb://{SERIAL}"\n[other]\nhost = "adb://x"\nroot = "/data/local/tmp/mine"\n'
    )
    with open_device("phone", sample_target(), progress=Silent()) as device:
        assert device.name == "phone"
    assert (store_root("phone"), store_root("other")) == (ANDROID_ROOT, "/data/local/tmp/mine")


@pytest.mark.parametrize("name", ["adb://", "adb://a b", "adb://a/b", "adb://a\nb"])
def test_a_serial_that_is_none_is_an_error(name: str) -> None:
    with pytest.raises(BadDeviceNameError):
        require_device(name, sample_target())
    assert serial_of("adb://10.0.0.7:5555") == "10.0.0.7:5555"


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("unauthorized", "allow USB debugging"),
        ("offline", "adb reconnect"),
        ("no permissions (user in plugdev group; are your udev rules wrong?); see [http://developer]", "udev"),
        ("recovery", "start it into Android"),
    ],
)
@pytest.mark.usefixtures("server")
def test_a_device_that_cannot_be_used_says_why(phone: Phone, state: str, hint: str) -> None:
    phone.state = state
    with pytest.raises(AndroidNotReadyError) as caught:
        AdbTransport.connect("adb", None)
    assert hint in caught.value.hint


def test_a_device_that_is_not_there_is_told_with_those_that_are(server: FakeAdbServer) -> None:
    with pytest.raises(AndroidNotReadyError, match=r"10\.0\.0\.8:5555 is not connected") as caught:
        AdbTransport.connect("adb://10.0.0.8:5555", "10.0.0.8:5555")
    assert SERIAL in caught.value.hint
    assert "adb connect 10.0.0.8:5555" in caught.value.hint
    server.phones.clear()
    with pytest.raises(AndroidNotReadyError, match="none is connected"):
        AdbTransport.connect("adb", None)


@pytest.mark.usefixtures("server")
def test_an_adb_that_tells_no_exit_status_is_too_old(phone: Phone) -> None:
    phone.features = "cmd"
    with pytest.raises(AndroidNotReadyError, match="shell_v2"):
        AdbTransport.connect("adb", None)


# Which server.


def _nowhere() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_no_server_and_no_adb_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:{_nowhere()}")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoAdbServerError, match="no program adb"):
        AdbTransport.connect("adb", None)


@pytest.mark.parametrize("address", ["tcp:x", "tcp:0", "tcp:a:99999", "tcp:", "udp:1", "5037", "localfilesystem:"])
def test_an_address_that_is_no_servers_is_an_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", address)
    with pytest.raises(AdbServerAddressError):
        AdbTransport.connect("adb", None)


def _program_adb(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "adb").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "adb").chmod(0o755)


def test_a_server_that_does_not_run_is_started(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = _nowhere()
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{port}")
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/here:{os.environ['PATH']}")
    # The program waits for the server that the test starts once it was called.
    _program_adb(tmp_path / "here", f'echo "$@" > {tmp_path}/called; while [ ! -e {tmp_path}/up ]; do sleep 0.02; done')
    servers = []

    def start() -> None:
        while not (tmp_path / "called").exists():
            time.sleep(0.01)
        servers.append(FakeAdbServer({SERIAL: phone}, port))
        (tmp_path / "up").touch()

    threading.Thread(target=start, daemon=True).start()
    try:
        assert AdbTransport.connect("adb", None).run(["true"]).status == 0
    finally:
        for server in servers:
            server.close()
    assert (tmp_path / "called").read_text() == "start-server\n"


def test_a_server_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:localhost:{_nowhere()}")
    monkeypatch.setenv("PATH", f"{tmp_path}/here:{os.environ['PATH']}")
    _program_adb(tmp_path / "here", "echo 'cannot bind' >&2; exit 1")
    with pytest.raises(AdbServerError, match="status 1") as caught:
        AdbTransport.connect("adb", None)
    assert "cannot bind" in caught.value.detail


def test_something_else_on_the_port_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{listener.getsockname()[1]}")

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                sock.recv(100)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(AdbServerError, match="not adb's protocol"):
            AdbTransport.connect("adb", None)


# Programs.


def test_a_program_has_its_arguments_environment_and_status_unchanged(device: AdbTransport) -> None:
    script = 'printf %s "$1$X"; echo oops >&2; exit 7'
    done = device.run(["/bin/sh", "-c", script, "sh", AWKWARD], env={"X": "it's $HOME"})
    assert done.stdout.decode() == AWKWARD + "it's $HOME"
    assert done.stderr == b"oops\n"
    assert done.status == 7


def test_a_signal_is_told_as_a_shell_tells_it(device: AdbTransport) -> None:
    assert device.run(["sh", "-c", "kill -SEGV $$"]).status == 128 + signal.SIGSEGV
    assert device.run(["no-such-program"]).status == 127


def test_programs_start_where_android_lets_them_write(device: AdbTransport, phone: Phone) -> None:
    assert device.run(["pwd"]).stdout.decode().strip() == str(phone.folder)
    assert phone.commands[-1].startswith(f"cd {HOME} && exec ")


def test_50_mb_stream_through_a_program_both_ways(device: AdbTransport) -> None:
    streams_50_mb_both_ways(device)


def test_a_program_that_floods_stderr_before_it_reads_does_not_block(device: AdbTransport) -> None:
    is_not_blocked_by_a_flood_on_stderr(device)


def test_a_program_that_ends_early_ends_the_call(device: AdbTransport) -> None:
    ends_with_a_program_that_reads_nothing(device)


def test_silence_is_bounded_and_the_program_ended(device: AdbTransport, phone: Phone) -> None:
    with pytest.raises(DeviceSilentError, match="sh"):
        device.run(["sh", "-c", "trap 'touch hung-up; exit' HUP; while :; do sleep 0.1; done"], timeout_s=1)
    _await(phone.folder / "hung-up")


def test_an_error_of_the_stream_reaches_the_caller(device: AdbTransport) -> None:
    passes_an_error_of_the_stream_on(device)


def test_a_device_that_goes_while_a_program_runs_is_a_lost_connection(
    server: FakeAdbServer, device: AdbTransport
) -> None:
    threading.Timer(0.5, server.unplug, [SERIAL]).start()
    with pytest.raises(ConnectionLostError):
        device.run(["sleep", "95.25"])
    with pytest.raises(ConnectionLostError):
        device.run(["true"])


def test_a_device_that_starts_nothing_says_what_adb_says(device: AdbTransport, phone: Phone) -> None:
    phone.refuses = "out of processes"
    with pytest.raises(AndroidNotReadyError, match="out of processes"):
        device.run(["true"])


def test_a_server_that_ends_is_a_lost_connection(server: FakeAdbServer, device: AdbTransport) -> None:
    threading.Timer(0.5, server.close).start()
    with pytest.raises(ConnectionLostError):
        device.run(["sleep", "96.25"])
    with pytest.raises(ConnectionLostError):
        device.run(["true"])


def _await(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path} does not appear")


def test_it_says_what_it_is_with_androids_programs(device: AdbTransport, tmp_path: Path) -> None:
    (tmp_path / "bin" / "getprop").write_text("#!/bin/sh\n[ $1 = ro.product.model ] && echo 'Pixel 9'\n")
    (tmp_path / "bin" / "getprop").chmod(0o755)
    facts = read_facts(device)
    assert facts.machine == platform.machine()
    assert facts.model == "Pixel 9" or Path("/proc/device-tree/model").exists()
    assert facts.ram_bytes
    place = read_place(device, ANDROID_ROOT)
    assert (place.problem, place.executes) == ("", True)
    assert place.free_bytes


# Files.


def test_a_file_goes_there_and_back_under_an_awkward_name(device: AdbTransport, phone: Phone, tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "data").write_bytes(data)
    for there in (AWKWARD, f"{HOME}/{AWKWARD}"):
        device.put(tmp_path / "data", there, mode=0o750)
        device.get(there, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
    assert (phone.folder / AWKWARD).stat().st_mode & 0o777 == 0o750
    assert [path.name for path in (phone.folder / AWKWARD).parent.iterdir()] == [Path(AWKWARD).name]


def test_a_missing_file_is_told_and_nothing_appears_here(device: AdbTransport, tmp_path: Path) -> None:
    with pytest.raises(RemoteFileError, match="No such file"):
        device.get("nothing", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_place_that_cannot_be_written_is_told(device: AdbTransport, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    with pytest.raises(UnwritableDeviceError):
        device.put(tmp_path / "data", "/sys/edgeq/blobs/x")


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_push_that_is_cut_leaves_the_old_file_and_goes_on_where_it_stopped(
    server: FakeAdbServer, phone: Phone, device: AdbTransport, tmp_path: Path, tenth: int
) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "data").write_bytes(data)
    (phone.folder / "file").write_bytes(b"old")
    phone.cut_after = tenth * len(data) // 10
    with pytest.raises(ConnectionLostError):
        device.put(tmp_path / "data", "file")
    part = phone.folder / ".file.part"
    _await(part)
    assert (phone.folder / "file").read_bytes() == b"old"
    assert data.startswith(part.read_bytes())

    phone.cut_after = None
    server.phones[SERIAL] = phone
    device.put(tmp_path / "data", "file", start=part.stat().st_size)
    assert (phone.folder / "file").read_bytes() == data
    assert sorted(path.name for path in phone.folder.iterdir()) == ["file"]


# The store.


@pytest.mark.parametrize("links", [True, False])
def test_a_store_lives_on_it_with_androids_programs(
    device: AdbTransport, phone: Phone, tmp_path: Path, links: bool
) -> None:
    if not links:  # SELinux forbids them below /data/local/tmp
        (tmp_path / "bin" / "ln").unlink(missing_ok=True)
        (tmp_path / "bin" / "ln").write_text("#!/bin/sh\necho 'ln: Permission denied' >&2; exit 1\n")
        (tmp_path / "bin" / "ln").chmod(0o755)
    store = Store(device, ANDROID_ROOT)
    contents = {name: os.urandom(1000 + len(name)) for name in ("a b.pte", "runner")}
    names = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    with store.opened(Silent()) as before:
        assert before.blobs == {}
        assert before.links == links
        for name, data in contents.items():
            (tmp_path / "local").write_bytes(data)
            store.push(tmp_path / "local", names[name], executable=name == "runner")
        store.link("one", names)
        store.activate("model@target", "one")
    with store.opened(Silent()) as after:
        assert after.blobs == {names[name]: len(data) for name, data in contents.items()}
        assert after.deployments == {"one"}
        assert after.pointers == {"model@target": ("one",)}
        assert after.free_bytes
    assert {one.id: one.files for one in store.list()} == {"one": {name: len(data) for name, data in contents.items()}}
    with store.opened(Silent(), alone=True):
        freed = store.remove(["one"], links=links)
    assert freed == {names[name]: len(data) for name, data in contents.items()}
    assert (phone.folder / "edgeq" / "current").is_dir()
