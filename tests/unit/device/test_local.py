from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgeq.device.local import LocalTransport
from edgeq.errors import DeviceSilentError, RemoteFileError, UnwritableDeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def device(tmp_path: Path) -> LocalTransport:
    root = tmp_path / "home"
    root.mkdir()
    return LocalTransport(root)


def test_relative_paths_start_at_the_root(device: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    device.put(tmp_path / "file", "a/b ü\n/c", mode=0o640)
    assert (tmp_path / "home/a/b ü\n/c").read_bytes() == b"content"
    assert (tmp_path / "home/a/b ü\n/c").stat().st_mode & 0o777 == 0o640
    assert device.run(["cat", "a/b ü\n/c"]).stdout == b"content"
    device.get("a/b ü\n/c", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"


def test_a_put_that_fails_leaves_nothing(device: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        device.put(tmp_path / "missing", "file")
    assert list((tmp_path / "home").iterdir()) == []


def test_a_missing_file_cannot_be_fetched(device: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(RemoteFileError, match="No such file"):
        device.get("nothing", tmp_path / "back")


def test_a_place_that_cannot_be_written_is_told(device: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableDeviceError):
        device.put(tmp_path / "file", "/sys/edgeq/file")


def test_status_output_and_environment_are_as_in_a_shell(device: LocalTransport) -> None:
    done = device.run(["sh", "-c", "printf '%s' \"$X\"; echo oops >&2; exit 3"], env={"X": "it's"})
    assert (done.status, done.stdout, done.stderr) == (3, b"it's", b"oops\n")
    assert device.run(["sh", "-c", "kill -SEGV $$"]).status == 128 + signal.SIGSEGV
    assert device.run(["no-such-program"]).status == 127
    assert device.run(["/"]).status == 126


def test_input_streams_while_output_is_read(device: LocalTransport) -> None:
    block = os.urandom(1 << 20)
    received = bytearray()
    done = device.run(["cat"], stdin=(block for _ in range(20)), on_stdout=received.extend)
    assert received == block * 20
    assert done.stdout == b""


def test_a_lock_step_between_answers_and_input_works(device: LocalTransport) -> None:
    answers: list[bytes] = []

    def questions() -> Iterator[bytes]:
        for number in range(5):
            yield f"{number}\n".encode()
            while len(b"".join(answers).splitlines()) <= number:
                time.sleep(0.001)

    device.run([sys.executable, "-uc", "for line in __import__('sys').stdin: print(line, end='')"],
               stdin=questions(), on_stdout=answers.append)  # fmt: skip
    assert b"".join(answers).split() == [b"0", b"1", b"2", b"3", b"4"]


def test_a_program_that_ends_early_ends_the_call(device: LocalTransport) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 16)

    assert device.run(["sh", "-c", "exit 4"], stdin=endless()).status == 4
    assert device.run(["head", "-c", "5"], stdin=endless()).stdout == bytes(5)


def test_a_flood_on_stderr_neither_blocks_nor_fills_the_memory(device: LocalTransport) -> None:
    done = device.run(["sh", "-c", "head -c 9000000 /dev/zero >&2; wc -c"], stdin=[bytes(100_000)])
    assert int(done.stdout) == 100_000
    assert len(done.stderr) <= 1 << 20


def test_silence_is_bounded_and_ends_the_program_and_its_children(device: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(DeviceSilentError):
        device.run(["sh", "-c", "sleep 93.5 & echo $! > pid; wait"], timeout_s=0.3)
    pid = int((tmp_path / "home/pid").read_text())
    for _ in range(100):
        if not _is_alive(pid):
            break
        time.sleep(0.02)
    assert not _is_alive(pid)


def test_a_program_that_moves_data_slowly_is_not_silent(device: LocalTransport) -> None:
    done = device.run(["sh", "-c", "for i in 1 2 3 4; do sleep 0.3; echo $i; done"], timeout_s=1)
    assert done.stdout.split() == [b"1", b"2", b"3", b"4"]


def test_errors_of_the_caller_s_own_functions_come_back_unchanged(device: LocalTransport) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ValueError("no more data")

    with pytest.raises(ValueError, match="no more data"):
        device.run(["cat"], stdin=broken())
    with pytest.raises(KeyError):
        device.run(["echo"], on_stdout=lambda _: {}["nothing"])


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123  # short
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_copy_goes_on_behind_what_a_cut_one_left(tmp_path: Path) -> None:
    device = LocalTransport(tmp_path / "device")
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "device" / "blobs").mkdir(parents=True)
    (tmp_path / "device" / "blobs" / ".x.part").write_bytes(b"0123")
    device.put(tmp_path / "file", "blobs/x", start=4)
    assert (tmp_path / "device" / "blobs" / "x").read_bytes() == b"0123456789"
    assert [path.name for path in (tmp_path / "device" / "blobs").iterdir()] == ["x"]


def test_a_copy_that_should_go_on_behind_nothing_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    device = LocalTransport(tmp_path / "device")
    (tmp_path / "file").write_bytes(b"0123456789")
    with pytest.raises(RemoteFileError):
        device.put(tmp_path / "file", "x", start=4)
    assert not list((tmp_path / "device").iterdir())
