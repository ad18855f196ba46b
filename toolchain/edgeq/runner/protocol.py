"""What a runner says on stdout, as typed events; ``toolchain/runner/README.md`` is the specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL = 1

_Count = Annotated[int, msgspec.Meta(ge=0)]

# Larger than anything a runner says, and small enough that a stream of
# something else is noticed before it fills the memory.
_MOST_PREAMBLE = 64 * 1024
_MOST_LINE = 1024 * 1024
_MOST_FRAME = 1 << 31

_HELLO = b'{"event":"hello"'


class StreamError(Exception):
    """The stream is not what a runner writes; the message says where it left the specification."""


class _Event(msgspec.Struct, frozen=True, tag_field="event"):
    """One line of the stream. Keys that a newer runner added are ignored."""


class Hello(_Event, frozen=True, tag="hello"):
    """Always the first event: who speaks. A build for tests that can be slow or leak has ``test_faults``."""

    protocol: int
    engine: str
    triple: str
    build: str
    test_faults: bool = False


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of the model: numpy's name of its dtype, and its shape (-1 where it is open)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Loaded(_Event, frozen=True, tag="loaded"):
    """The model is ready. ``ns`` is what loading took, ``ready_ns`` the time since the program was started.

    ``cpus`` is where it may run, ``not_pinned`` why that is not where it was
    told to. The bytes are of the resident set, and of what no file stands
    behind in it, before the model was loaded and after.
    """

    ns: _Count
    runtime_version: str
    threads: int
    planned_bytes: _Count | None
    backends: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ready_ns: _Count | None = None
    cpus: tuple[_Count, ...] = ()
    not_pinned: str = ""
    rss_bytes_before: _Count | None = None
    rss_bytes: _Count | None = None
    anonymous_bytes_before: _Count | None = None
    anonymous_bytes: _Count | None = None


class Run(_Event, frozen=True, tag="run"):
    """One execution of the first sample: nanoseconds, and retired user-space instructions if they were counted.

    It began ``at_ns`` after the first did. ``latency_ns`` is the time since
    its sample arrived, where samples arrive at a rate.
    """

    kind: Literal["first", "warmup", "timed", "profiled"]
    ns: _Count
    instructions: _Count | None
    at_ns: _Count | None = None
    latency_ns: _Count | None = None


class Resources(_Event, frozen=True, tag="resources"):
    """The process after so many ``runs``: its resident set, and the frequency of the core it ran on."""

    runs: _Count
    khz: _Count | None = None
    rss_bytes: _Count | None = None
    anonymous_bytes: _Count | None = None


class Alive(_Event, frozen=True, tag="alive"):
    """A long measurement goes on."""


class OutputLine(_Event, frozen=True, tag="output"):
    """The line before a frame of ``bytes`` raw bytes and a line feed."""

    index: _Count
    bytes: Annotated[int, msgspec.Meta(ge=0, le=_MOST_FRAME)]
    shapes: tuple[tuple[int, ...], ...]


class ProfileLine(_Event, frozen=True, tag="profile"):
    """The line before a frame of ``bytes`` bytes of JSON and a line feed; ``format`` says what the JSON holds."""

    format: str
    bytes: Annotated[int, msgspec.Meta(ge=0, le=_MOST_FRAME)]


class File(_Event, frozen=True, tag="file"):
    """The sha256 of a file on the device; None if there is no such file."""

    path: str
    sha256: str | None


class Verified(_Event, frozen=True, tag="verified"):
    """A deployment is what its manifest says, and the trusted key in the file ``key`` has signed that."""

    id: str
    model: str
    target: str
    serial: _Count
    key: str


class Failed(_Event, frozen=True, tag="error"):
    """The last event of a run that failed: a code of the specification and a sentence."""

    code: str
    message: str


class Done(_Event, frozen=True, tag="done"):
    """The last event of a run that did all it was asked to."""

    samples: _Count | None = None
    files: _Count | None = None
    peak_rss_bytes: _Count | None = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """The outputs of one sample: little-endian tensors in C order, one after the other."""

    index: int
    shapes: tuple[tuple[int, ...], ...]
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What the runtime says of the operators of every execution of the first sample, in a ``format`` of its own."""

    format: str
    json: bytes


Event = Hello | Loaded | Run | Resources | Alive | Profile | Output | File | Verified | Failed | Done

_Line = Hello | Loaded | Run | Resources | Alive | ProfileLine | OutputLine | File | Verified | Failed | Done

_DECODER: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


class EventReader:
    """Takes the bytes of stdout in chunks of any size and gives events.

    Whatever stands before ``hello`` (a login message) is skipped; after it
    every byte must be as specified. Not more than one line and one frame
    are held.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False
        self._skipped = 0
        self._frame: ProfileLine | OutputLine | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that ``chunk`` completes. Raises StreamError."""
        self._buffer += chunk
        while True:
            event = self._next()
            if event is None:
                return
            if isinstance(event, ProfileLine | OutputLine):
                self._frame = event
            else:
                yield event

    def end(self) -> None:
        """Say that the stream has ended; StreamError if it did so inside a line or a frame."""
        if self._frame is not None:
            raise StreamError(f"{_what(self._frame)} is cut short")
        if self._greeted and self._buffer:
            raise StreamError(f"the last line is cut short: {_shown(self._buffer)}")

    def _next(self) -> Event | ProfileLine | OutputLine | None:
        if self._frame is not None:
            return self._read_frame(self._frame)
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if not self._greeted and not line.startswith(_HELLO):
                self._skip(len(line))
                continue
            if line:
                return self._decode(line)
        if len(self._buffer) > _MOST_LINE:
            raise StreamError(f"a line without an end: {_shown(self._buffer)}")
        return None

    def _skip(self, size: int) -> None:
        self._skipped += size + 1
        if self._skipped > _MOST_PREAMBLE:
            raise StreamError("something else than a runner writes there")

    def _decode(self, line: bytes) -> _Line:
        try:
            event = _DECODER.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StreamError(f"{error}: {_shown(line)}") from error
        if isinstance(event, Hello):
            if self._greeted:
                raise StreamError("a second hello")
            self._greeted = True
        return event

    def _read_frame(self, line: ProfileLine | OutputLine) -> Profile | Output | None:
        if len(self._buffer) <= line.bytes:
            return None
        if self._buffer[line.bytes] != ord("\n"):
            raise StreamError(f"{_what(line)} is longer than its line says")
        data = bytes(self._buffer[: line.bytes])
        del self._buffer[: line.bytes + 1]
        self._frame = None
        if isinstance(line, ProfileLine):
            return Profile(format=line.format, json=data)
        return Output(index=line.index, shapes=line.shapes, data=data)


def _what(line: ProfileLine | OutputLine) -> str:
    """What follows a line, as a person calls it."""
    return "the profile" if isinstance(line, ProfileLine) else f"the output of sample {line.index}"


def _shown(data: bytes | bytearray) -> str:
    """The start of ``data`` as a person can read it."""
    return repr(bytes(data[:120]).decode("utf-8", "replace"))
