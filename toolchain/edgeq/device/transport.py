"""The one seam to the outside: what edgeq asks of a device, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How a program on a device ended.

    ``status`` is the exit status, or 128 + the signal's number when a
    signal ended it, as a shell reports it. ``stdout`` is empty when the
    caller took it through ``on_stdout``.
    """

    status: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """A way to a device: put a file, get a file, run a program.

    Paths on the device are POSIX paths; a relative one starts at the
    user's home. Every method raises ``DeviceError`` when the device or the
    way to it fails, and never for a program's own exit status.
    """

    name: str

    def put(self, local: Path, remote: str, *, mode: int = 0o644, start: int = 0) -> None:
        """Copy a file to the device under a temporary name, then rename it: never half a file at ``remote``.

        Missing parent folders are made. What came of a copy that was cut
        stays beside it as ``.NAME.part``; ``start`` is the size of such a
        file, to go on behind its last byte.
        """

    def get(self, remote: str, local: Path) -> None:
        """Copy a file from the device; ``local`` appears only when it is whole."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Completed:
        """Run a program and wait for it.

        ``argv`` reaches the program unchanged, whatever characters it
        holds. ``stdin`` is streamed while output is read, so neither side
        waits for the other. ``on_stdout`` receives chunks of any size as
        they arrive. ``timeout_s`` bounds the silence: the call fails when
        nothing was received or sent for that long.
        """

    def close(self) -> None:
        """Let go of the device; a second call does nothing."""
