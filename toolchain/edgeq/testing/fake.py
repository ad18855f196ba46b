"""A device that is a folder: real files, a real shell, a played runner, and faults on request."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from edgeq.device.cores import CORES_SCRIPT
from edgeq.device.facts import FACTS_SCRIPT
from edgeq.device.health import HEALTH_SCRIPT
from edgeq.device.local import LocalTransport
from edgeq.device.manifest import read_manifest
from edgeq.device.transport import Completed
from edgeq.errors import ConnectionLostError, DeviceDiskFullError
from edgeq.files import sha256_file
from edgeq.runner.protocol import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_RPI4_FACTS = """=== machine
aarch64
=== kernel
6.6.31+rpt-rpi-v8
=== cores
4
=== model
Raspberry Pi 4 Model B Rev 1.4
=== governor
ondemand
=== memory
MemTotal:        3884288 kB
=== libc
glibc 2.36
=== cpu
processor	: 0
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU part	: 0xd08
"""

_FOUR_ALIKE = b"".join(b"core %d 1024 1800000\n" % cpu for cpu in range(4))


def identity(_model: str, sample: bytes) -> bytes:
    """A model that answers with its input: the scores of the build of :func:`tiny_build`."""
    return sample


@dataclass(kw_only=True)
class Faults:
    """What goes wrong, and when; None is never.

    Counts run over the life of the device: ``cut_after_bytes`` of files and
    input, ``full_after_bytes`` of files, ``dies_after_outputs`` of the
    runner. A device that was cut or died answers nothing more.
    ``leaks_bytes`` are lost with each inference. ``damages`` are sha256 whose blobs arrive with other bytes, once each.
    """

    cut_after_bytes: int | None = None
    full_after_bytes: int | None = None
    dies_after_outputs: int | None = None
    runner_status: int = 0
    leaks_bytes: int = 0
    damages: set[str] = field(default_factory=set)


class FakeTransport:
    """A device in the folder ``root``.

    ``answer(model, sample)`` is what the played runner computes.
    It may be replaced. ``pushed`` lists what was put, ``ran`` what was run.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str = "fake",
        facts: str = _RPI4_FACTS,
        health: str = "",
        answer: Callable[[str, bytes], bytes] = identity,
    ) -> None:
        self.name = name
        self.faults = Faults()
        self.pushed: list[str] = []
        self.ran: list[tuple[str, ...]] = []
        self._files = LocalTransport(root, name=name)
        self._root = root
        self._facts = facts
        self._health = health
        self.answer = answer
        self._moved = 0
        self._outputs = 0
        self._gone = False
        root.mkdir(parents=True, exist_ok=True)

    def put(self, local: Path, remote: str, *, mode: int = 0o644, start: int = 0) -> None:
        """Copy a file there, unless a fault comes between; one that is cut leaves what came of it."""
        self._alive("copying")
        size = local.stat().st_size - start
        if self.faults.full_after_bytes is not None and self._moved + size > self.faults.full_after_bytes:
            raise DeviceDiskFullError(self.name, remote)
        if self.faults.cut_after_bytes is not None and self._moved + size > self.faults.cut_after_bytes:
            came = start + max(0, self.faults.cut_after_bytes - self._moved)
            part = (self._root / remote).with_name(f".{Path(remote).name}.part")
            part.write_bytes(local.read_bytes()[:came])
        self._move(size, f"copying {local.name}")
        self._files.put(local, remote, mode=mode, start=start)
        self.pushed.append(remote)
        if Path(remote).name in self.faults.damages:
            self.faults.damages.remove(Path(remote).name)
            blob = self._root / remote
            blob.chmod(0o644)
            blob.write_bytes(bytes(size))

    def get(self, remote: str, local: Path) -> None:
        """Copy a file from there."""
        self._alive("copying")
        self._files.get(remote, local)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Completed:
        """Run a program of this machine, or play the runner."""
        self._alive(f"{argv[0]} ran")
        self.ran.append(tuple(argv))
        if FACTS_SCRIPT in argv:
            return Completed(status=0, stdout=self._facts.encode(), stderr=b"")
        if CORES_SCRIPT in argv:
            return Completed(status=0, stdout=_FOUR_ALIKE, stderr=b"")
        if HEALTH_SCRIPT in argv:
            return Completed(status=0, stdout=self._health.encode(), stderr=b"")
        if Path(argv[0]).name.startswith("edgeq-runner-"):
            return self._play(argv, stdin, on_stdout)
        return self._files.run(argv, stdin=stdin, on_stdout=on_stdout, env=env, timeout_s=timeout_s)

    def close(self) -> None:
        """Nothing to let go of."""

    def _play(
        self, argv: Sequence[str], stdin: Iterable[bytes], on_stdout: Callable[[bytes], None] | None
    ) -> Completed:
        if not (self._root / argv[0]).is_file():
            return Completed(status=127, stdout=b"", stderr=f"{argv[0]}: not found\n".encode())
        if self.faults.runner_status:
            return Completed(status=self.faults.runner_status, stdout=b"", stderr=b"the runner does not start\n")
        collected = bytearray()
        say = on_stdout or collected.extend
        say(_line(event="hello", protocol=PROTOCOL, engine="executorch", triple="aarch64-linux-gnu", build="0" * 64))
        try:
            for piece in self._answers(argv, stdin):
                say(piece)
        except _RefusedError as refused:
            say(_line(event="error", code=refused.code, message=str(refused)))
        return Completed(status=0, stdout=bytes(collected), stderr=b"")

    def _answers(self, argv: Sequence[str], stdin: Iterable[bytes]) -> Iterator[bytes]:
        if argv[1] == "hash":
            return self._hash(argv[2:])
        return self._verify(argv) if argv[1] == "verify" else self._run(argv, stdin)

    def _hash(self, paths: Sequence[str]) -> Iterator[bytes]:
        for path in paths:
            file = self._root / path
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
            yield _line(event="file", path=path, sha256=sha256)
        yield _line(event="done", files=len(paths))

    def _verify(self, argv: Sequence[str]) -> Iterator[bytes]:
        options = dict(itertools.pairwise(argv))
        path = self._root / options["--manifest"]
        try:
            text, signature = path.read_bytes(), (self._root / options["--signature"]).read_bytes()
        except FileNotFoundError as error:
            raise _RefusedError("not_signed", f"{error.filename} is not there") from error
        key = _signer(self._root / options["--trusted"], text, signature)
        manifest = read_manifest(text, where=path.name)
        if manifest.serial < int(options["--not-before"]):
            raise _RefusedError("replayed", f"its serial is {manifest.serial}")
        for name, file in manifest.files.items():
            there = path.with_name(name)
            if not there.is_file() or sha256_file(there) != file.sha256:
                raise _RefusedError("tampered", f"{name} is not the file that was signed")
        yield _line(
            event="verified", id=manifest.id, model=manifest.model, target=manifest.target, serial=manifest.serial,
            key=key,
        )  # fmt: skip
        yield _line(event="done", files=len(manifest.files))

    def _run(self, argv: Sequence[str], stdin: Iterable[bytes]) -> Iterator[bytes]:
        options = dict(itertools.pairwise(argv))
        model, size = Path(options["--model"]).name, int(options["--sample-bytes"])
        count = 1 + int(options["--warmup"]) + int(options["--repeats"])
        instructions = 1_000_000 if "--instructions" in argv else None
        yield _line(
            event="loaded", ns=2_000_000, runtime_version="1.5.1", threads=int(options["--threads"]),
            planned_bytes=4096, backends=[], inputs=[], outputs=[], ready_ns=9_000_000, cpus=[0, 1, 2, 3],
            rss_bytes_before=5_000_000, rss_bytes=7_000_000, anonymous_bytes_before=1_000_000,
            anonymous_bytes=2_000_000,
        )  # fmt: skip
        for index in range(count):
            later = "profiled" if "--profile" in argv else "timed"
            kind = "first" if index == 0 else "warmup" if index <= int(options["--warmup"]) else later
            late = {"latency_ns": 1_500_000 + index} if "--rate" in options and index else {}
            yield _line(
                event="run", kind=kind, at_ns=2_000_000 * index, ns=1_000_000 + index, instructions=instructions, **late
            )
        every = int(options.get("--memory-every", count))
        for runs in dict.fromkeys((*range(every, count, every), count)):
            yield _line(
                event="resources", runs=runs, khz=1_800_000, rss_bytes=7_500_000,
                anonymous_bytes=2_000_000 + runs * self.faults.leaks_bytes,
            )  # fmt: skip
        if "--profile" in argv:
            profile = json.dumps(
                {"operators": [{"name": "relu.out", "kind": "kernel", "ns": [900_000] * count}]}
            ).encode()
            yield _line(event="profile", format="executorch", bytes=len(profile)) + profile + b"\n"
        index = -1
        for index, sample in enumerate(_pieces(stdin, size)):
            self._move(size, "the runner ran")
            if self._outputs == self.faults.dies_after_outputs:
                self._die("the runner ran")
            self._outputs += 1
            data = self.answer(model, sample)
            yield _line(event="output", index=index, bytes=len(data), shapes=[[1, len(data) // 4]]) + data + b"\n"
        yield _line(event="done", samples=index + 1, peak_rss_bytes=8_000_000)

    def _move(self, size: int, doing: str) -> None:
        self._moved += size
        if self.faults.cut_after_bytes is not None and self._moved > self.faults.cut_after_bytes:
            self._die(doing)

    def _die(self, doing: str) -> None:
        self._gone = True
        self._alive(doing)

    def _alive(self, doing: str) -> None:
        if self._gone:
            raise ConnectionLostError(self.name, doing)


class _RefusedError(Exception):
    """What the played runner ends with: a code of the specification and a sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def _signer(trusted: Path, text: bytes, signature: bytes) -> str:
    """The name of the trusted key that made the signature."""
    for path in sorted(trusted.glob("*.pub")):
        with contextlib.suppress(InvalidSignature, ValueError):
            key = load_ssh_public_key(path.read_bytes())
            if isinstance(key, Ed25519PublicKey):
                key.verify(signature, text)
                return path.name
    raise _RefusedError("not_signed", "the manifest is signed by no trusted key")


def _line(**event: object) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _pieces(stream: Iterable[bytes], size: int) -> Iterator[bytes]:
    waiting = b""
    for chunk in stream:
        waiting += chunk
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
