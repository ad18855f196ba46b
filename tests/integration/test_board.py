"""Emulated boards, really booted, in a cache of their own (the Debian packages are taken from the user's)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
import pytest

from edgeq.device import board
from edgeq.device.board import boot
from edgeq.device.board.registry import board_folder, boards_folder, processes_with
from edgeq.errors import (
    BoardDiedError,
    BoardDiffersError,
    BoardNotRunningError,
    BoardTimeoutError,
    ConnectionLostError,
    MissingToolError,
)
from edgeq.files import cache_dir
from edgeq.progress import Silent
from edgeq.target import Emulation, Target, load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeq.device.board import RunningBoard

RPI4 = load_target("rpi4")

COUNT_INSTRUCTIONS = r"""
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    struct perf_event_attr what = {.size = sizeof what, .type = PERF_TYPE_HARDWARE,
                                   .config = PERF_COUNT_HW_INSTRUCTIONS, .disabled = 1, .exclude_kernel = 1};
    int counter = syscall(SYS_perf_event_open, &what, 0, -1, -1, 0);
    if (counter < 0) { perror("perf_event_open"); return 1; }
    for (int run = 0; run < 7; ++run) {
        ioctl(counter, PERF_EVENT_IOC_RESET, 0);
        ioctl(counter, PERF_EVENT_IOC_ENABLE, 0);
        volatile float value = 1;
        for (int step = 0; step < 1000000; ++step) value = value * 1.0001f + 0.5f;
        ioctl(counter, PERF_EVENT_IOC_DISABLE, 0);
        uint64_t instructions = 0;
        if (read(counter, &instructions, sizeof instructions) != sizeof instructions) return 1;
        printf("%llu\n", (unsigned long long)instructions);
    }
    return 0;
}
"""

START = """
import sys
from edgeq.device import board
from edgeq.device.board import boot
from edgeq.target import load_target

class Aloud:
    def step(self, text): print(text, flush=True)
    def advance(self, done, total=None): pass

if sys.argv[1] == "start":
    print("up", board.start(load_target("rpi4"), name=sys.argv[2], progress=Aloud()).pid, flush=True)
else:
    with board.ephemeral(load_target("rpi4"), progress=Aloud()) as running:
        print("up", running.pid, flush=True)
        sys.stdin.read()
"""


class Told:
    """Keeps what was told, and may do something at a step."""

    def __init__(self, at: str = "", do: Callable[[], None] = lambda: None) -> None:
        self.steps: list[str] = []
        self._at, self._do = at, do

    def step(self, text: str) -> None:
        self.steps.append(text)
        if self._at and self._at in text:
            self._do()

    def advance(self, done: int, total: int | None = None) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    for program in ("qemu-system-aarch64", "zstd", "setpriv", "aarch64-linux-gnu-gcc"):
        if shutil.which(program) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed")
    debs = cache_dir() / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    # Deeper than the address of a unix socket can say.
    cache = tmp_path_factory.mktemp("a cache, " + "far away " * 12)
    (cache / "debs").symlink_to(debs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_CACHE", str(cache))
        yield


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    for one in board.running():
        board.stop(one.name)
    assert list(boards_folder().glob("*")) == []
    assert _qemus() == []


def _qemus() -> list[str]:
    """The command lines of this cache's QEMUs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().decode()
            if line.startswith("qemu-system-aarch64") and str(cache_dir()) in line:
                found.append(line)
    return found


def _snapshots() -> list[Path]:
    return list((cache_dir() / "board-snapshots").glob("*"))


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def _ssh(one: RunningBoard, user: str = "edgeq") -> Iterator[paramiko.SSHClient]:
    client = paramiko.SSHClient()
    kind, blob = one.host_key.split()
    client.get_host_keys().add(f"[{one.host}]:{one.port}", kind, paramiko.PKey.from_type_string(kind, b64decode(blob)))
    with client:
        client.connect(
            one.host,
            port=one.port,
            username=user,
            key_filename=str(one.key_path),
            look_for_keys=False,
            allow_agent=False,
            timeout=30,
        )
        yield client


def _run(client: paramiko.SSHClient, command: str) -> str:
    _, out, err = client.exec_command(command, timeout=60)
    said = out.read().decode()
    assert out.channel.recv_exit_status() == 0, err.read().decode()
    return said.strip()


def _say(one: RunningBoard, command: str, user: str = "edgeq") -> str:
    with _ssh(one, user) as client:
        return _run(client, command)


def _edgeq(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-c", START, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    pytest.fail(f"it ended without saying {text!r}")


def test_a_board_boots_into_a_real_arm_linux() -> None:
    for snapshot in _snapshots():
        snapshot.unlink()
    one = board.start(RPI4, progress=Silent())
    assert (one.name, one.target, one.from_snapshot) == ("rpi4", "rpi4", False)
    with _ssh(one) as client:
        assert _run(client, "uname -m; nproc; id -un; pwd") == "aarch64\n1\nedgeq\n/home/edgeq"
        assert "CPU part\t: 0xd08" in _run(client, "cat /proc/cpuinfo")  # Cortex-A72
        assert int(_run(client, "df -k . | tail -n 1").split()[3]) > 500_000
        assert int(_run(client, "cat /proc/sys/kernel/perf_event_paranoid")) <= 2
    assert _say(one, "id -u", user="root") == "0"
    for private in (*(cache_dir() / "board-images").glob("*"), cache_dir() / "board-snapshots", board_folder("rpi4")):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert "edgeq: ready" in board.logs("rpi4").read_text()


def test_files_go_over_sftp(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "sent").write_bytes(content)
    with board.ephemeral(RPI4, progress=Silent()) as one, _ssh(one) as client, client.open_sftp() as sftp:
        sftp.put(str(tmp_path / "sent"), "there")
        sftp.chmod("there", 0o755)
        sftp.posix_rename("there", "elsewhere")
        sftp.get("elsewhere", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_only_the_key_of_this_cache_gets_in() -> None:
    stranger = paramiko.Ed25519Key.from_private_key_file
    with board.ephemeral(RPI4, progress=Silent()) as one, paramiko.Transport((one.host, one.port)) as transport:
        transport.start_client(timeout=30)
        assert f"ssh-ed25519 {transport.get_remote_server_key().get_base64()}" == one.host_key
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_password("edgeq", "")
        assert refused.value.allowed_types == ["publickey"]
        transport.auth_publickey("edgeq", stranger(str(one.key_path)))
        assert transport.is_authenticated()


def test_the_next_board_begins_from_a_snapshot_with_the_right_time() -> None:
    board.start(RPI4, progress=Silent())
    board.stop("rpi4")
    time.sleep(2)
    one = board.start(RPI4, progress=Silent())
    assert one.from_snapshot
    assert abs(int(_say(one, "date +%s")) - time.time()) < 2


def test_a_board_that_is_up_is_returned_not_started_again() -> None:
    first = board.start(RPI4, progress=Silent())
    assert board.start(RPI4, progress=Silent()) == first
    assert board.running() == (first,)
    with board.ephemeral(RPI4, progress=Silent()) as same:
        assert same == first
    assert board.running() == (first,)


def test_a_board_that_others_can_reach_boots_each_time_and_leaves_no_snapshot() -> None:
    board.start(RPI4, progress=Silent())
    board.stop("rpi4")
    before = _snapshots()
    assert before
    everywhere = board.Listening(address="0.0.0.0")
    one = board.start(RPI4, listening=everywhere, progress=Silent())
    assert not one.from_snapshot
    assert _snapshots() == before
    assert _say(one, "uname -m") == "aarch64"
    listeners = Path("/proc/net/tcp").read_text()
    assert f" 00000000:{one.port:04X} 00000000:0000 0A " in listeners
    assert board.start(RPI4, progress=Silent()) == one
    with pytest.raises(BoardDiffersError, match=rf"listens on 0\.0\.0\.0; one on 0\.0\.0\.0:{one.port} is asked"):
        board.start(RPI4, listening=replace(everywhere, port=one.port), progress=Silent())


def test_a_port_that_is_taken_is_told_in_qemu_s_words() -> None:
    one = board.start(RPI4, progress=Silent())
    with pytest.raises(BoardDiedError, match="Could not set up host forwarding rule"):
        board.start(RPI4, name="second", listening=board.Listening(port=one.port), progress=Silent())


def test_a_paused_board_is_replaced() -> None:
    first = board.start(RPI4, progress=Silent())
    os.kill(first.pid, signal.SIGSTOP)
    told = Told()
    second = board.start(RPI4, progress=told)
    assert "board rpi4 does not answer: starting it anew" in told.steps
    assert second.pid != first.pid
    assert _say(second, "uname -m") == "aarch64"


def test_instructions_are_counted_and_the_count_repeats_from_boot_to_boot(tmp_path: Path) -> None:
    (tmp_path / "count.c").write_text(COUNT_INSTRUCTIONS)
    compiler = ("aarch64-linux-gnu-gcc", "-O1", "-static", "-o", str(tmp_path / "count"), str(tmp_path / "count.c"))
    subprocess.run(compiler, check=True)
    counts = []
    for _ in range(2):
        for snapshot in _snapshots():
            snapshot.unlink()
        with board.ephemeral(RPI4, progress=Silent()) as one, _ssh(one) as client, client.open_sftp() as sftp:
            sftp.put(str(tmp_path / "count"), "count")
            sftp.chmod("count", 0o755)
            counts += [int(count) for count in _run(client, "./count").split()]
    assert min(counts) > 4_000_000
    assert max(counts) - min(counts) <= 0.0002 * min(counts)


def test_boards_run_side_by_side() -> None:
    small = replace(RPI4, name="small one", emulation=Emulation(cpu="cortex-a53", ram_mib=512))
    one, twin, other = (
        board.start(RPI4, progress=Silent()),
        board.start(RPI4, name="twin", progress=Silent()),
        board.start(small, progress=Silent()),
    )
    assert [each.name for each in board.running()] == ["rpi4", "small-one", "twin"]
    assert len({one.port, twin.port, other.port}) == 3
    assert _say(one, "echo one > mine && grep -c 0xd08 /proc/cpuinfo") == "1"
    assert _say(twin, "ls; grep -c 0xd08 /proc/cpuinfo") == "1"
    assert _say(other, "ls; grep -c 0xd03 /proc/cpuinfo") == "1"
    board.stop("twin")
    assert [each.name for each in board.running()] == ["rpi4", "small-one"]
    with pytest.raises(BoardNotRunningError):
        board.stop("twin")
    with pytest.raises(BoardNotRunningError):
        board.logs("twin")


def test_a_running_board_of_that_name_that_is_another_machine_is_not_taken_for_it() -> None:
    board.start(RPI4, progress=Silent())
    other = replace(RPI4, emulation=Emulation(cpu="cortex-a53"))
    with pytest.raises(BoardDiffersError, match=r"cortex-a72 .* cortex-a53"):
        board.start(other, progress=Silent())
    with board.ephemeral(other, progress=Silent()) as own:
        assert own.name != "rpi4"


def test_two_processes_that_start_one_board_get_the_same() -> None:
    with _edgeq("start", "rpi4") as first, _edgeq("start", "rpi4") as second:
        assert _read_until(first, "up") == _read_until(second, "up")
    assert len(board.running()) == 1


def test_two_commands_at_once_have_a_board_each_and_it_ends_with_them() -> None:
    with _edgeq("ephemeral") as first, _edgeq("ephemeral") as second:
        assert _read_until(first, "up") != _read_until(second, "up")
        assert len(board.running()) == 2
        first.communicate("")
        second.communicate("")
    assert _qemus() == []


@pytest.mark.parametrize("step", ["booting", "keeping a snapshot"])
def test_a_board_whose_edgeq_was_killed_while_it_booted_is_cleaned_up_by_the_next(step: str) -> None:
    for snapshot in _snapshots():
        snapshot.unlink()
    with _edgeq("start", "rpi4") as process:
        _read_until(process, step)
        _wait_for(lambda: len(_qemus()) == 1)
        process.kill()
    assert len(_qemus()) == 1
    # A child that the dead process had just forked shares its locks until it has become another program:
    # to whom looks within those milliseconds, somebody is still starting this board.
    _wait_for(lambda: board.running() == () and _qemus() == [])
    assert not board_folder("rpi4").exists()


def test_a_command_s_own_board_dies_with_a_command_that_is_killed() -> None:
    with _edgeq("ephemeral") as process:
        _read_until(process, "up")
        assert len(_qemus()) == 1
        process.kill()
    _wait_for(lambda: board.running() == ())


@pytest.mark.parametrize("how", ["start", "ephemeral"])
def test_ctrl_c_while_booting_leaves_nothing(how: str) -> None:
    for snapshot in _snapshots():
        snapshot.unlink()
    with _edgeq(how, "rpi4") as process:
        _read_until(process, "booting")
        _wait_for(lambda: len(_qemus()) == 1)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == -signal.SIGINT
    assert _qemus() == []
    assert list(boards_folder().glob("*")) == []


def test_ctrl_c_in_the_middle_of_work_stops_the_command_s_own_board() -> None:
    with _edgeq("ephemeral") as process:
        _read_until(process, "up")
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert _qemus() == []
    assert list(boards_folder().glob("*")) == []


def test_a_board_that_is_killed_while_it_boots_is_one_clear_error() -> None:
    for snapshot in _snapshots():
        snapshot.unlink()

    def kill() -> None:
        _wait_for((board_folder("rpi4") / "monitor").exists)
        marker = (board_folder("rpi4") / "lock").read_text()
        _wait_for(lambda: len(_qemus()) == 1)
        with processes_with(marker) as found:
            for process in found:
                signal.pidfd_send_signal(process, signal.SIGKILL)

    told = Told("booting", lambda: threading.Thread(target=kill, daemon=True).start())
    with pytest.raises(BoardDiedError, match="'rpi4' died: QEMU was ended by SIGKILL"):
        board.start(RPI4, progress=told)


def test_a_board_that_hangs_while_it_boots_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for snapshot in _snapshots():
        snapshot.unlink()
    monkeypatch.setattr(boot, "_BOOT_S", 0.6)  # too short for any boot
    with pytest.raises(BoardTimeoutError, match="'rpi4' did not answer within 1 s"):
        board.start(RPI4, progress=Silent())


def test_a_core_that_qemu_does_not_know_is_told_in_qemu_s_words() -> None:
    with pytest.raises(BoardDiedError, match="cortex-a720"):
        board.start(replace(RPI4, emulation=Emulation(cpu="cortex-a720")), progress=Silent())


def test_a_board_that_panics_in_the_middle_of_work_explains_the_lost_connection() -> None:
    expected = "Kernel panic - not syncing: sysrq triggered crash"
    with pytest.raises(BoardDiedError, match=expected), board.ephemeral(RPI4, progress=Silent()) as one:
        with _ssh(one, "root") as client:
            client.exec_command("echo c > /proc/sysrq-trigger")
            _wait_for(lambda: _qemus() == [])
        raise ConnectionLostError(one.name, "reset")


def test_an_error_while_the_board_lives_stays_what_it_is() -> None:
    with pytest.raises(ConnectionLostError), board.ephemeral(RPI4, progress=Silent()) as one:
        raise ConnectionLostError(one.name, "reset")


def test_a_missing_qemu_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(MissingToolError, match="qemu-system-aarch64") as caught:
            board.start(RPI4, progress=Silent())
    assert "qemu-system-arm" in caught.value.hint


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 4
    path.write_bytes(content)


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _replace_by_another(path: Path) -> None:
    subprocess.run(("zstd", "-q", "-f", "-o", str(path)), input=b"QEVM" + bytes(1000), check=True)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [_flip_a_bit, _cut_in_half, _replace_by_another, _empty])
def test_a_snapshot_that_is_of_no_use_is_told_and_replaced(damage: Callable[[Path], None]) -> None:
    board.start(RPI4, progress=Silent())
    board.stop("rpi4")
    for snapshot in _snapshots():
        damage(snapshot)
    told = Told()
    one = board.start(RPI4, progress=told)
    assert not one.from_snapshot
    assert [step for step in told.steps if re.match("the snapshot is of no use .*: booting instead", step)]
    assert _say(one, "uname -m") == "aarch64"
    board.stop("rpi4")
    assert board.start(RPI4, progress=Silent()).from_snapshot


def test_a_damaged_image_is_built_anew() -> None:
    for snapshot in _snapshots():
        snapshot.unlink()
    board.start(RPI4, progress=Silent())
    board.stop("rpi4")
    for snapshot in _snapshots():
        snapshot.unlink()
    (root,) = (cache_dir() / "board-images").glob("*/root.cpio")
    _cut_in_half(root)
    told = Told()
    assert _say(board.start(RPI4, progress=told), "uname -m") == "aarch64"
    assert "the image of the emulated board is damaged" in told.steps


def test_every_target_that_comes_with_edgeq_boots_if_it_is_emulated() -> None:
    emulations: dict[Emulation, Target] = {}
    for name in ("rpi3", "rpi4", "rpi5", "rpi-zero-2w", "jetson-orin-nano", "graviton2", "generic-aarch64"):
        target = load_target(name)
        assert target.emulation is not None
        emulations[target.emulation] = target
    for target in emulations.values():
        with board.ephemeral(target, progress=Silent()) as one:
            assert _say(one, "uname -m") == "aarch64"
