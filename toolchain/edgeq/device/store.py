"""What edgeq keeps on a device, and how it gets there.

::

    ROOT/blobs/SHA256               content, each once, read-only
    ROOT/blobs/.SHA256.part         the beginning of one whose push was cut, for the next push to go on from
    ROOT/deployments/ID/NAME        hard links to blobs: what belongs together, under the names it needs
    ROOT/deployments/ID/.verified   inode, size and time of each file when their bytes were last hashed
    ROOT/current/MODEL@TARGET       ids, one a line, the active one first and the ones before it after it
    ROOT/.shared.PID.edgeq-tmp      an edgeq that adds to the store, there as long as its shell PID lives
    ROOT/.alone.PID.edgeq-tmp       one that takes away from it
    ROOT/.activate.PID.edgeq-tmp    one that moves a pointer, which takes a moment

Any other name ending in ``.PID.edgeq-tmp`` is something half-made; when the
shell PID that was making it is gone, a blob's is kept as its beginning and
all others are removed.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeq.device.store_scripts import ACTIVATE_SCRIPT, GC_SCRIPT, LINK_SCRIPT, LIST_SCRIPT, OPEN_SCRIPT, STANDS_SCRIPT
from edgeq.device.transport import Completed
from edgeq.errors import DeviceBusyError, DeviceDiskFullError, RemoteFileError, UnwritableDeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress

_STORE_TIMEOUT_S = 120.0
_STILL_HERE_S = 10.0
_PATIENCE = 60
"""Seconds that one edgeq waits for another that uses the same store."""

_EXECUTABLE_MODE = 0o555
_DATA_MODE = 0o444
_BUSY = 16


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a store holds: sizes of blobs, of the beginnings of others, deployments, pointers, and room for more.

    ``pointers`` has the ids of each model, the active one first. ``links``
    says whether the file system has hard links, ``free_bytes`` is None
    where it does not say.
    """

    blobs: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    deployments: frozenset[str] = frozenset()
    pointers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    links: bool = False
    free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A deployment as it lies there: its files with their sizes, and the second (Unix time) it was made in."""

    id: str
    made_at: int | None
    files: dict[str, int]


class Store:
    """The files of edgeq on one device, below ``root`` (from the user's home unless absolute)."""

    def __init__(self, transport: Transport, root: str) -> None:
        self._transport = transport
        self.root = root.removeprefix("~/").rstrip("/") or "/"

    @contextlib.contextmanager
    def opened(self, progress: Progress, *, alone: bool = False, patience_s: int = _PATIENCE) -> Iterator[Contents]:
        """What is there, after removing what was left half-made; while the block runs, nothing is taken away.

        Others may add to the store meanwhile unless this is to be
        ``alone``. Raises DeviceBusyError when others do not let go within
        ``patience_s``.
        """
        arguments = [self.root, "alone" if alone else "shared", str(patience_s)]
        held = _Held(self._transport, ["/bin/sh", "-c", OPEN_SCRIPT, "sh", *arguments])
        try:
            text = held.wait_until_ready(progress)
            if text is None:
                self._fail(held.let_go())
            else:
                yield _contents(text)
        finally:
            held.let_go()

    def stands(self, pointer: str, deployment: str) -> bool:
        """Whether that deployment is the active one, and no file of it was touched since it was verified."""
        return self._script(STANDS_SCRIPT, pointer, deployment).stdout == b"stands\n"

    def push(self, local: Path, sha256: str, *, executable: bool, start: int = 0) -> None:
        """Copy one file into the blobs, from byte ``start`` on if so much of it is there."""
        mode = _EXECUTABLE_MODE if executable else _DATA_MODE
        self._transport.put(local, f"{self.root}/blobs/{sha256}", mode=mode, start=start)

    def link(self, deployment: str, files: Mapping[str, str], *, again: bool = False) -> None:
        """Give the blobs of ``files`` (name to sha256) their names; the folder appears when it is complete.

        One that is there stays, unless it is to be made ``again``.
        """
        words = (word for pair in sorted(files.items()) for word in pair)
        self._script(LINK_SCRIPT, deployment, "again" if again else "", *words)

    def activate(self, pointer: str, deployment: str, *, after: str | None = None) -> bool:
        """Make a deployment that was just verified the active one, in a single step; those before are remembered.

        With ``after``, the id of the active one or "" for none, only if that
        is still so: False, and nothing is done, if another became active.
        """
        expected = "any" if after is None else after
        return self._script(ACTIVATE_SCRIPT, pointer, deployment, expected, str(_PATIENCE)).stdout != b"moved\n"

    def list(self) -> tuple[Listed, ...]:
        """Every deployment with its files."""
        made: dict[str, int | None] = {}
        files: dict[str, dict[str, int]] = {}
        for line in self._script(LIST_SCRIPT).stdout.decode(errors="replace").splitlines():
            kind, _, rest = line.partition(" ")
            first, _, last = rest.partition(" ")
            if kind == "deployment":
                deployment = first
                made[deployment], files[deployment] = int(last) if last.isdecimal() else None, {}
            elif kind == "file":
                files[deployment][last] = int(first)
        return tuple(Listed(id=one, made_at=when, files=files[one]) for one, when in made.items())

    def remove(self, deployments: Sequence[str], *, links: bool) -> dict[str, int]:
        """Remove deployments, then blobs that none is left of; the blobs with their sizes. The caller is alone."""
        done = self._script(GC_SCRIPT, "yes" if links else "no", *deployments)
        lines = (line.split() for line in done.stdout.decode(errors="replace").splitlines())
        return {words[1]: int(words[2]) for words in lines if words[:1] == ["freed"]}

    def folder(self, deployment: str) -> str:
        """The path of a deployment on the device."""
        return f"{self.root}/deployments/{deployment}"

    def _script(self, script: str, *arguments: str) -> Completed:
        done = self._transport.run(["/bin/sh", "-c", script, "sh", self.root, *arguments], timeout_s=_STORE_TIMEOUT_S)
        if done.status:
            self._fail(done)
        return done

    def _fail(self, done: Completed) -> None:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        problem = said[-1] if said else f"status {done.status}"
        if done.status == _BUSY:
            raise DeviceBusyError(self._transport.name, self.root)
        if "No space left" in problem or "quota exceeded" in problem:
            raise DeviceDiskFullError(self._transport.name, self.root)
        if any(words in problem for words in ("Read-only", "Permission denied", "not permitted")):
            raise UnwritableDeviceError(self._transport.name, self.root, problem)
        raise RemoteFileError(self._transport.name, self.root, problem)


def _contents(text: str) -> Contents:
    blobs: dict[str, int] = {}
    parts: dict[str, int] = {}
    deployments = set()
    pointers: dict[str, tuple[str, ...]] = {}
    links, free = False, None
    for line in text.splitlines():
        match line.split():
            case ["blob", name, size]:
                blobs[name] = int(size)
            case ["part", name, size]:
                parts[name] = int(size)
            case ["deployment", name]:
                deployments.add(name)
            case ["pointer", name, deployment]:
                pointers[name] = (*pointers.get(name, ()), deployment)
            case ["links", "yes"]:
                links = True
            case ["free", kilobytes]:
                free = int(kilobytes) * 1024
    return Contents(
        blobs=blobs,
        parts=parts,
        deployments=frozenset(deployments),
        pointers={name: tuple(one for one in ids if one in deployments) for name, ids in pointers.items()},
        links=links,
        free_bytes=free,
    )


class _Held:
    """A shell on the device that keeps its marker until it is let go of."""

    def __init__(self, transport: Transport, argv: Sequence[str]) -> None:
        self._said = bytearray()
        self._heard = threading.Condition()
        self._over = threading.Event()
        self._done: Completed | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(transport, argv), daemon=True)
        self._thread.start()

    def wait_until_ready(self, progress: Progress) -> str | None:
        """What the shell said until it was ready; None if it ended before."""
        told = False
        with self._heard:
            while not self._ended and not self._said.endswith(b"ready\n"):
                self._heard.wait(1.0)
                if not told and b"busy\n" in self._said:
                    progress.step("waiting for another edgeq that uses the device")
                    told = True
            return self._said.decode(errors="replace") if self._said.endswith(b"ready\n") else None

    def let_go(self) -> Completed:
        """End the shell; how it ended. Raises what stood in the way, once."""
        self._over.set()
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return self._done or Completed(status=0, stdout=b"", stderr=b"")

    def _run(self, transport: Transport, argv: Sequence[str]) -> None:
        try:
            self._done = transport.run(argv, stdin=self._still_here(), on_stdout=self._hear, timeout_s=_STORE_TIMEOUT_S)
        except BaseException as error:  # noqa: BLE001  # raised again by who waits
            self._failure = error
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def _still_here(self) -> Iterator[bytes]:
        """A line now and then, so that a long push is no silence."""
        while not self._over.wait(_STILL_HERE_S):
            yield b"\n"

    def _hear(self, chunk: bytes) -> None:
        with self._heard:
            self._said += chunk
            self._heard.notify_all()
