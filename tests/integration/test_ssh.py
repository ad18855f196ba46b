"""The way over SSH, to a real server."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
import pytest
from device_help import (
    ends_with_a_program_that_reads_nothing,
    is_not_blocked_by_a_flood_on_stderr,
    passes_an_error_of_the_stream_on,
    streams_50_mb_both_ways,
)
from sshd import Sshd, require, sshd

from edgeq.device.inventory import address_of
from edgeq.device.ssh import SshTransport
from edgeq.device.ssh_cipher import NAME as CHACHA20_POLY1305
from edgeq.device.ssh_connection import Address
from edgeq.errors import (
    ChangedHostKeyError,
    ConnectionLostError,
    DeviceDiskFullError,
    DeviceSilentError,
    KeyRefusedError,
    RemoteFileError,
    RevokedHostKeyError,
    UnknownHostKeyError,
    UnreachableError,
    UnwritableDeviceError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

AWKWARD = "a folder/quote' double\" \n $(true) ü -x"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with sshd(tmp_path) as running:
        yield running


@pytest.fixture
def device(server: Sshd) -> Iterator[SshTransport]:
    server.accept()
    with contextlib.closing(SshTransport.connect(server.address)) as transport:
        yield transport


# Who is there.


def test_an_unknown_host_key_is_shown_and_the_hint_accepts_it(server: Sshd) -> None:
    with pytest.raises(UnknownHostKeyError) as caught:
        SshTransport.connect(server.address)

    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(server.folder / "host.pub")], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    assert shown in caught.value.message
    keyscan = caught.value.hint.split("`")[3]
    assert keyscan.startswith("ssh-keyscan ")
    subprocess.run(["/bin/sh", "-c", keyscan], check=True, capture_output=True)
    SshTransport.connect(server.address).close()


def test_a_changed_host_key_is_refused_and_the_old_line_named(server: Sshd) -> None:
    server.accept(f"[127.0.0.1]:{server.port} {server.public('other')}\n")
    with pytest.raises(ChangedHostKeyError, match=r"known_hosts:1") as caught:
        SshTransport.connect(server.address)
    assert f"-R '[127.0.0.1]:{server.port}'" in caught.value.hint


def test_the_key_of_the_same_host_on_another_port_vouches_but_does_not_accuse(server: Sshd) -> None:
    server.accept(f"127.0.0.1 {server.public('other')}\n")
    with pytest.raises(UnknownHostKeyError):
        SshTransport.connect(server.address)
    server.accept(f"127.0.0.1 {server.public()}\n")
    SshTransport.connect(server.address).close()


def test_strict_host_key_checking_no_changes_nothing(server: Sshd) -> None:
    server.configure("Host *\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n")
    with pytest.raises(UnknownHostKeyError):
        SshTransport.connect(server.address)


def test_a_revoked_host_key_is_refused(server: Sshd) -> None:
    server.accept(f"[127.0.0.1]:{server.port} {server.public()}\n@revoked * {server.public()}\n")
    with pytest.raises(RevokedHostKeyError):
        SshTransport.connect(server.address)


def test_a_hashed_known_hosts_file_is_read(server: Sshd) -> None:
    server.accept()
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", str(server.home / ".ssh" / "known_hosts")], check=True, capture_output=True
    )
    assert "127.0.0.1" not in (server.home / ".ssh" / "known_hosts").read_text()
    SshTransport.connect(server.address).close()


def test_a_pinned_host_key_needs_no_file_and_takes_no_other(server: Sshd) -> None:
    key = server.home / ".ssh" / "id_ed25519"
    pinned = {"name": "board", "host": "127.0.0.1", "port": server.port, "user": getpass.getuser(), "key_path": key}
    server.configure("Host *\n ProxyCommand false\n")
    SshTransport.connect(Address(**pinned, host_key=server.public())).close()
    with pytest.raises(ChangedHostKeyError):
        SshTransport.connect(Address(**pinned, host_key=server.public("other")))


# Who are we.


def test_a_refused_key_is_named_with_the_way_to_install_it(server: Sshd) -> None:
    server.accept()
    (server.folder / "authorized").write_text(server.public("other") + "\n")
    with pytest.raises(KeyRefusedError, match="id_ed25519") as caught:
        SshTransport.connect(server.address)
    assert "ssh-copy-id" in caught.value.hint


def test_a_key_with_a_passphrase_is_pointed_to_the_agent(server: Sshd) -> None:
    server.accept()
    key = server.home / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key)], check=True)
    with pytest.raises(KeyRefusedError, match="offered no key") as caught:
        SshTransport.connect(server.address)
    assert "ssh-add" in caught.value.detail


def test_a_passphrase_that_somebody_types_opens_its_key(server: Sshd) -> None:
    server.accept()
    key = server.home / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key)], check=True)
    answers = ["wrong", "secret"]
    asked: list[str] = []

    def ask(question: str) -> str | None:
        asked.append(question)
        return answers.pop(0)

    with contextlib.closing(SshTransport.connect(server.address, ask)) as device:
        assert device.run(["echo", "open"]).stdout == b"open\n"
    assert len(asked) == 2
    assert all("id_ed25519" in question for question in asked)


def test_a_key_that_only_the_agent_has_opens(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    server.accept()
    agent = str(server.folder / "agent")
    process = subprocess.Popen([require("ssh-agent"), "-D", "-a", agent], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        while not Path(agent).exists():
            time.sleep(0.02)
        key = server.home / ".ssh" / "id_ed25519"
        for added in (server.folder / "other", key):
            subprocess.run(["ssh-add", "-q", str(added)], check=True)
        key.unlink()
        server.configure("Host *\n IdentitiesOnly yes\n IdentityFile ~/.ssh/id_ed25519\n")
        SshTransport.connect(server.address).close()
    finally:
        process.terminate()
        process.wait(10)


# The way there.


def test_an_alias_of_the_users_configuration_is_followed(server: Sshd) -> None:
    (server.home / "keys").mkdir()
    (server.home / ".ssh" / "id_ed25519").rename(server.home / "keys" / "mine")
    (server.home / "keys" / "hosts").write_text(f"[127.0.0.1]:{server.port} {server.public()}\n")
    (server.home / ".ssh" / "more").write_text(f"Host kitchen\n HostName 127.0.0.1\n Port {server.port}\n")
    server.configure(
        "Include more\nMatch originalhost kitchen\n"
        " IdentityFile ~/keys/mine\n IdentitiesOnly yes\n UserKnownHostsFile ~/keys/hosts\n"
    )
    with contextlib.closing(SshTransport.connect(Address(name="kitchen", host="kitchen"))) as device:
        assert device.run(["echo", "here"]).stdout == b"here\n"


def test_proxyjump_goes_through_every_host_of_the_list(server: Sshd) -> None:
    server.accept()
    hop = f"127.0.0.1:{server.port}"
    server.configure(f"Host inner\n HostName 127.0.0.1\n Port {server.port}\n ProxyJump {hop},ssh://{hop}\n")
    with contextlib.closing(SshTransport.connect(Address(name="inner", host="inner"))) as device:
        assert device.run(["echo", "far"]).stdout == b"far\n"


def test_proxycommand_carries_the_connection(server: Sshd) -> None:
    server.accept()
    options = f"-o UserKnownHostsFile={server.home}/.ssh/known_hosts -i {server.home}/.ssh/id_ed25519 -p {server.port}"
    command = f"ssh -F none -o BatchMode=yes {options} -W %h:%p 127.0.0.1"
    server.configure(f"Host inner\n HostName 127.0.0.1\n Port {server.port}\n ProxyCommand {command}\n")
    with contextlib.closing(SshTransport.connect(Address(name="inner", host="inner"))) as device:
        assert device.run(["echo", "far"]).stdout == b"far\n"


def test_what_a_failing_proxycommand_says_is_passed_on(server: Sshd) -> None:
    server.configure("Host inner\n ProxyCommand sh -c 'echo no way there >&2; exit 1'\n")
    with pytest.raises(UnreachableError, match="no way there"):
        SshTransport.connect(Address(name="inner", host="inner"))


def test_a_port_on_which_nothing_listens_is_said_so(server: Sshd) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match="nothing listens"):
            SshTransport.connect(Address(name="gone", host="127.0.0.1", port=sock.getsockname()[1]))
    del server


def test_a_name_that_does_not_resolve_is_said_so(server: Sshd) -> None:
    with pytest.raises(UnreachableError, match="is not known here"):
        SshTransport.connect(Address(name="gone", host="no-such-board.invalid"))
    del server


def test_a_host_that_accepts_and_says_nothing_is_given_up(server: Sshd) -> None:
    server.configure("Host *\n ConnectTimeout 1\n")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(UnreachableError, match="no SSH there"):
            SshTransport.connect(Address(name="mute", host="127.0.0.1", port=mute.getsockname()[1]))


def test_an_ipv6_address_with_a_port_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with sshd(tmp_path, listen="::1") as server:
        server.accept(f"[::1]:{server.port} {server.public()}\n")
        name = f"ssh://[::1]:{server.port}"
        with contextlib.closing(SshTransport.connect(address_of(name))) as device:
            assert device.run(["echo", "six"]).stdout == b"six\n"
        server.configure(f"Host far\n HostName ::1\n Port {server.port}\n ProxyJump [::1]:{server.port}\n")
        with contextlib.closing(SshTransport.connect(Address(name="far", host="far"))) as device:
            assert device.run(["echo", "jumped"]).stdout == b"jumped\n"


def test_an_agent_that_the_configuration_names_is_the_one_that_is_asked(server: Sshd) -> None:
    server.accept()
    agent = server.folder / "agent of mine"
    process = subprocess.Popen([require("ssh-agent"), "-D", "-a", str(agent)], stdout=subprocess.DEVNULL)
    try:
        while not agent.exists():
            time.sleep(0.02)
        key = server.home / ".ssh" / "id_ed25519"
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)})
        key.unlink()
        server.configure(f'Host *\n IdentityAgent "{agent}"\n')
        SshTransport.connect(server.address).close()
    finally:
        process.terminate()
        process.wait(10)


def test_a_device_that_answers_no_more_is_given_up(server: Sshd) -> None:
    server.accept()
    server.configure("Host *\n ServerAliveInterval 1\n ServerAliveCountMax 2\n")
    with contextlib.closing(SshTransport.connect(server.address)) as device:
        threading.Timer(0.5, server.freeze).start()
        with pytest.raises(ConnectionLostError):
            device.run(["sleep", "94.25"], timeout_s=3600)


def test_a_program_that_is_only_quiet_is_not_given_up(server: Sshd) -> None:
    server.accept()
    server.configure("Host *\n ServerAliveInterval 1\n ServerAliveCountMax 2\n")
    with contextlib.closing(SshTransport.connect(server.address)) as device:
        assert device.run(["sh", "-c", "sleep 4; echo done"]).stdout == b"done\n"


# Programs.


def test_a_program_has_its_arguments_environment_and_status_unchanged(device: SshTransport) -> None:
    done = device.run(["sh", "-c", 'printf %s "$1$X"; echo oops >&2; exit 7', "sh", AWKWARD], env={"X": "it's $HOME"})
    assert done.stdout.decode() == AWKWARD + "it's $HOME"
    assert done.stderr == b"oops\n"
    assert done.status == 7


def test_a_signal_is_told_as_a_shell_tells_it(device: SshTransport) -> None:
    assert device.run(["sh", "-c", "kill -SEGV $$"]).status == 128 + signal.SIGSEGV
    assert device.run(["no-such-program"]).status == 127


def test_50_mb_stream_through_a_program_both_ways(device: SshTransport) -> None:
    streams_50_mb_both_ways(device)


def test_a_program_that_floods_stderr_before_it_reads_does_not_block(device: SshTransport) -> None:
    is_not_blocked_by_a_flood_on_stderr(device)


def test_a_program_that_does_not_read_holds_the_stream_back(device: SshTransport) -> None:
    given = []

    def endless() -> Iterator[bytes]:
        while True:
            given.append(1 << 16)
            yield bytes(1 << 16)

    assert device.run(["sleep", "2"], stdin=endless()).status == 0
    assert sum(given) < 16 << 20


def test_silence_is_bounded_and_the_program_ended(device: SshTransport) -> None:
    with pytest.raises(DeviceSilentError, match="sleep"):
        device.run(["sleep", "91.25"], timeout_s=1)
    _await_no_process("sleep\x0091.25")


def test_a_program_that_ends_early_ends_the_call(device: SshTransport) -> None:
    ends_with_a_program_that_reads_nothing(device)


def test_an_error_of_the_stream_reaches_the_caller(device: SshTransport) -> None:
    passes_an_error_of_the_stream_on(device)


def test_a_channel_whose_opening_was_interrupted_does_not_keep_the_connection(device: SshTransport) -> None:
    wire = device._connection.wire
    half_open = paramiko.Channel(4321)
    wire._channels.put(4321, half_open)  # where Ctrl-C leaves it: listed, and not yet told of its transport
    device.close()
    assert not wire.is_alive()
    assert wire.sock.fileno() == -1


def test_a_cut_connection_is_an_error_and_the_program_does_not_outlive_it(server: Sshd, device: SshTransport) -> None:
    threading.Timer(0.5, server.cut).start()
    began = time.monotonic()
    with pytest.raises(ConnectionLostError):
        device.run(["sleep", "92.25"])
    assert time.monotonic() - began < 5
    with pytest.raises(ConnectionLostError):
        device.run(["true"])
    _await_no_process("sleep\x0092.25")


def _await_no_process(command: str) -> None:
    for _ in range(150):
        if not any(_runs(entry, command) for entry in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.1)
    pytest.fail(f"{command!r} still runs")


def _runs(entry: Path, command: str) -> bool:
    try:
        return (entry / "cmdline").read_bytes().startswith(command.encode())
    except OSError:
        return False


# The cipher.


def test_sshs_own_first_cipher_carries_both_directions_through_new_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    chunk = os.urandom(1 << 20)
    received = bytearray()
    with sshd(tmp_path, more=f"Ciphers {CHACHA20_POLY1305}\nRekeyLimit 1M\n") as server:
        server.accept()
        with contextlib.closing(SshTransport.connect(server.address)) as device:
            done = device.run(["cat"], stdin=(chunk for _ in range(10)), on_stdout=received.extend)
        log = (server.folder / "log").read_text()
    assert done.status == 0
    assert received == chunk * 10
    assert "error" not in log


@pytest.mark.parametrize("cipher", ["aes128-ctr", "aes256-ctr", "aes128-gcm@openssh.com"])
def test_a_server_that_takes_only_another_cipher_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cipher: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with sshd(tmp_path, more=f"Ciphers {cipher}\n") as server:
        server.accept()
        with contextlib.closing(SshTransport.connect(server.address)) as device:
            assert device.run(["cat"], stdin=[b"x" * 100_000]).stdout == b"x" * 100_000


# Files.


def test_a_file_goes_there_and_back_under_an_awkward_name(device: SshTransport, tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "data").write_bytes(data)
    there = f"{tmp_path}/there/{AWKWARD}"
    device.put(tmp_path / "data", there, mode=0o750)
    device.put(tmp_path / "data", there, mode=0o750)
    device.get(there, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert Path(there).stat().st_mode & 0o777 == 0o750
    assert [path.name for path in Path(there).parent.iterdir()] == [Path(there).name]


def test_an_empty_file_is_a_file(device: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    device.put(tmp_path / "empty", f"{tmp_path}/there")
    assert (tmp_path / "there").read_bytes() == b""


def test_a_missing_file_is_told_and_nothing_appears_here(device: SshTransport, tmp_path: Path) -> None:
    with pytest.raises(RemoteFileError, match="No such file"):
        device.get(f"{tmp_path}/nothing", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_folder_is_never_overwritten_by_a_file(device: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RemoteFileError, match="is a folder"):
        device.put(tmp_path / "data", f"{tmp_path}/folder")


def test_a_cut_push_leaves_the_old_file_and_what_came_of_the_new(
    server: Sshd, device: SshTransport, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_bytes(b"old")
    (tmp_path / "big").write_bytes(b"")
    os.truncate(tmp_path / "big", 1 << 30)
    threading.Timer(0.7, server.cut).start()
    with pytest.raises(ConnectionLostError):
        device.put(tmp_path / "big", f"{there}/file")
    for _ in range(100):
        if (there / ".file.part").exists():
            break
        time.sleep(0.1)
    assert sorted(path.name for path in there.iterdir()) == [".file.part", "file"]
    assert (there / "file").read_bytes() == b"old"


def test_a_place_that_cannot_be_written_is_told(device: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    with pytest.raises(UnwritableDeviceError) as caught:
        device.put(tmp_path / "data", "/sys/edgeq/blobs/x")
    assert "devices.toml" in caught.value.hint


def test_a_full_disk_is_told_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"old")
    (tmp_path / "big").write_bytes(bytes(4 << 20))
    with sshd(tmp_path, fsize=1 << 20) as server:
        server.accept()
        with contextlib.closing(SshTransport.connect(server.address)) as device:
            with pytest.raises(DeviceDiskFullError):
                device.put(tmp_path / "big", f"{tmp_path}/there/file")
            assert device.run(["true"]).status == 0
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]
    assert (tmp_path / "there" / "file").read_bytes() == b"old"
