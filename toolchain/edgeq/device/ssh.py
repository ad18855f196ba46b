"""A device over SSH: nothing but ``sh``, ``cat`` and a few of their kind is needed there."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import paramiko

from edgeq.device.conversation import SLICE_S, SilenceError, converse
from edgeq.device.shell import ShellTransport
from edgeq.device.ssh_connection import Address, Connection, nobody
from edgeq.device.transport import Completed
from edgeq.errors import ConnectionLostError, DeviceSilentError, NoShellError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_CHUNK = 1 << 18
_OPEN_TIMEOUT_S = 30.0

_SUPERVISED = r"""
alive() { grep -qs "^PPid:.*[^0-9]$PPID\$" /proc/$$/status; }
exec 3<&0
"$@" <&3 3<&- &
child=$!
exec 3<&- </dev/null
if alive; then
  (trap 'kill $nap; exit' TERM
   while alive; do sleep 5 & nap=$!; wait $nap; done
   kill -9 $child) >/dev/null 2>&1 &
  watch=$!
fi
wait $child
status=$?
[ -z "${watch-}" ] || kill $watch
exit $status
"""
"""Runs its arguments. The SSH server's process is its parent: once that is gone, so is the program, cut or not."""


class SshTransport(ShellTransport):
    """A device over SSH; make one with :meth:`connect` and close it."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection

    @classmethod
    def connect(cls, address: Address, ask: Callable[[str], str | None] = nobody) -> SshTransport:
        """Connect and prove who both sides are.

        ``ask`` puts a question for a password or a passphrase to a person,
        and says None if nobody is there. Raises UnreachableError,
        UnknownHostKeyError, ChangedHostKeyError, RevokedHostKeyError or
        KeyRefusedError.
        """
        return cls(address.name, Connection(address, ask))

    def _command(self, argv: Sequence[str]) -> Sequence[str]:
        return ["sh", "-c", _SUPERVISED, "sh", *argv]

    def close(self) -> None:
        """Hang up; a second call does nothing."""
        self._connection.close()

    def _exec(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        timeout_s: float,
        doing: str,
    ) -> Completed:
        collected = bytearray()
        channel = self._start(shlex.join(["exec", *argv]), doing)
        ends = _Ends(channel)
        try:
            stderr = converse(ends, stdin=stdin, on_stdout=on_stdout or collected.extend, timeout_s=timeout_s)
            status = ends.status(timeout_s)
        except SilenceError:
            self.close()  # ends the program too
            raise DeviceSilentError(self.name, doing.removesuffix(" ran"), timeout_s) from None
        finally:
            channel.close()
        if status is None:
            raise ConnectionLostError(self.name, doing)
        return Completed(status=status, stdout=bytes(collected), stderr=stderr)

    def _start(self, command: str, doing: str) -> paramiko.Channel:
        wire = self._connection.wire
        try:
            channel = wire.open_session(timeout=_OPEN_TIMEOUT_S)
            channel.exec_command(command.encode(errors="surrogateescape"))
        except (paramiko.SSHException, EOFError, OSError) as error:
            if wire.is_active():
                raise NoShellError(self.name, str(error)) from error
            raise ConnectionLostError(self.name, doing) from error
        channel.settimeout(SLICE_S)
        return channel


class _Ends:
    """The near ends of a channel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def send(self, data: memoryview) -> int:
        try:
            taken: int = self._channel.send(data)
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise BrokenPipeError from error
        if not taken:
            raise BrokenPipeError
        return taken

    def end_input(self) -> None:
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise BrokenPipeError from error

    def receive(self) -> bytes:
        chunk: bytes = self._channel.recv(_CHUNK)
        return chunk

    def receive_error(self) -> bytes:
        chunk: bytes = self._channel.recv_stderr(_CHUNK)
        return chunk

    def ended(self) -> bool:
        return bool(self._channel.exit_status_ready())

    def status(self, timeout_s: float) -> int | None:
        """The exit status; None if the channel ended without one, SilenceError if neither comes."""
        if not self._channel.status_event.wait(timeout_s):
            raise SilenceError
        return self._channel.exit_status if self._channel.exit_status >= 0 else None
