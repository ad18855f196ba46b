"""One conversation with a runner on a device: samples go in, times and outputs come out."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.device.manifest import MANIFEST_NAME, SIGNATURE_NAME
from edgeq.errors import RunnerCrashedError, RunnerFailedError, RunnerProtocolError
from edgeq.records import Arrivals
from edgeq.runner.protocol import (
    PROTOCOL,
    Alive,
    Done,
    Event,
    EventReader,
    Failed,
    File,
    Hello,
    Loaded,
    Output,
    Profile,
    Resources,
    Run,
    StreamError,
    Tensor,
    Verified,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edgeq.device.transport import Completed, Transport

# After the stream left the specification so much more is read, for the sake
# of the program's last words on stderr.
_MOST_AFTER_ERROR = 1 << 20

_STDERR_SHOWN = 4000

_PIECE = 1 << 16

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[^\n\t\x20-\x7e\xa0-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """When executions of the first sample begin: one right after the other unless one of these is set.

    ``pause_ms`` is slept before each; samples arrive ``rate_hz`` times a
    second, with exponential times in between (``poisson``, drawn from
    ``seed``) or all alike (``even``).
    """

    pause_ms: int = 0
    rate_hz: float | None = None
    arrivals: Arrivals = "poisson"
    seed: int = 0

    def words(self) -> list[str]:
        """The options of the runner."""
        if self.rate_hz is not None:
            rate = f"{self.rate_hz:.6f}"
            return ["--rate", rate, "--arrivals", self.arrivals, "--seed", str(self.seed)]
        return ["--pause-ms", str(self.pause_ms)] if self.pause_ms else []


BACK_TO_BACK = Pace()


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What a runner did with one model. ``build`` is the hash of its sources and pins.

    ``runs`` are the timed ones, or the profiled ones of a model that was
    loaded to be profiled; ``profile`` is None of any other. Times of a build
    with ``test_faults`` are of no use but to tests. ``ready_ns`` is the time
    from the program's start until the model could be executed,
    ``load_rss_bytes`` what loading added to the resident set,
    ``load_anonymous_bytes`` the part of it that no file stands behind.
    ``resources`` are its memory and frequency, the last after all
    executions. ``not_pinned`` says why it did not run on the CPUs it was
    told to.
    """

    engine: str
    build: str
    runtime_version: str
    threads: int
    load_ns: int
    planned_bytes: int | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    first: Run
    warmup: tuple[Run, ...]
    runs: tuple[Run, ...]
    peak_rss_bytes: int | None
    samples: int
    profile: Profile | None = None
    ready_ns: int | None = None
    cpus: tuple[int, ...] = ()
    not_pinned: str = ""
    load_rss_bytes: int | None = None
    load_anonymous_bytes: int | None = None
    resources: tuple[Resources, ...] = ()
    test_faults: bool = False

    @property
    def khz(self) -> int | None:
        """What the core of the last run had right after it; None where the kernel does not say."""
        return self.resources[-1].khz if self.resources else None


def execute(  # noqa: PLR0913  # a measurement has this many sides
    transport: Transport,
    *,
    folder: str,
    executable: str,
    model: str,
    threads: int,
    warmup: int,
    repeats: int,
    count_instructions: bool,
    samples: Iterable[bytes],
    on_outputs: Callable[[int, bytes], None],
    shapes: Sequence[Sequence[int]] = (),
    profile: bool = False,
    pace: Pace = BACK_TO_BACK,
    most_ms: int | None = None,
    cpus: Sequence[int] = (),
    memory_every: int | None = None,
    timeout_s: float,
) -> Execution:
    """Run ``model`` in the deployment ``folder`` on every sample.

    A sample is the bytes of all inputs: little-endian, C order, one after
    the other; all samples are of one size. The first is executed once more
    than ``warmup`` and ``repeats`` together; each sample's outputs reach
    ``on_outputs(index, data)`` exactly once, in order. ``shapes`` is needed
    where the model leaves a size open. With ``profile`` the runtime times
    each operator, which makes the whole slower. No timed execution begins
    ``most_ms`` after the first one, so there may be fewer of them.
    ``cpus`` are where to run, ``memory_every`` says how often to look at the
    memory. ``timeout_s`` bounds the silence.

    Raises RunnerFailedError (the runner says what is wrong),
    RunnerCrashedError, RunnerProtocolError and what the transport raises.
    """
    stream = iter(samples)
    first = next(stream, None)
    if first is None:
        raise ValueError("there is no sample to run")
    argv = [f"{folder}/{executable}", "run", "--model", f"{folder}/{model}"]
    argv += ["--threads", str(threads), "--warmup", str(warmup), "--repeats", str(repeats)]
    argv += ["--sample-bytes", str(len(first))]
    argv += ["--instructions"] if count_instructions else []
    argv += ["--profile"] if profile else []
    argv += pace.words()
    argv += ["--most-ms", str(most_ms)] if most_ms is not None else []
    argv += ["--cpus", ",".join(map(str, cpus))] if cpus else []
    argv += ["--memory-every", str(memory_every)] if memory_every else []
    argv += ["--shapes", ",".join("x".join(map(str, shape)) or "scalar" for shape in shapes)] if shapes else []
    heard = _Listener(transport.name, on_outputs, model=model)
    heard.run(transport, argv, stdin=_in_pieces(itertools.chain((first,), stream)), timeout_s=timeout_s)
    least = 1 + warmup + (repeats if most_ms is None else min(1, repeats))
    return heard.execution(range(least, 2 + warmup + repeats), profiled=profile)


def hash_files(
    transport: Transport, *, folder: str, executable: str, names: Sequence[str], timeout_s: float = 60.0
) -> dict[str, str]:
    """The sha256 of the files ``names`` in ``folder``, as the runner there computes them; absent files are left out."""
    paths = {f"{folder}/{name}": name for name in names}
    heard = _Listener(transport.name)
    heard.run(transport, [f"{folder}/{executable}", "hash", *paths], timeout_s=timeout_s)
    if [file.path for file in heard.files] != list(paths):
        raise RunnerProtocolError(transport.name, "it answered for other files than it was asked about")
    return {paths[file.path]: file.sha256 for file in heard.files if file.sha256 is not None}


def verify(  # noqa: PLR0913  # a deployment and what it is held against
    transport: Transport, *, folder: str, executable: str, trusted: str, not_before: int = 0, timeout_s: float = 60.0
) -> Verified:
    """Let the runner there check the manifest of the deployment in ``folder`` and every file that it names.

    ``trusted`` is a folder of public keys on the device. Raises
    RunnerFailedError with the code ``not_signed``, ``tampered``,
    ``bad_manifest``, or ``replayed`` if its serial is below ``not_before``.
    """
    manifest, signature = f"{folder}/{MANIFEST_NAME}", f"{folder}/{SIGNATURE_NAME}"
    argv = [f"{folder}/{executable}", "verify", "--manifest", manifest, "--signature", signature]
    heard = _Listener(transport.name)
    heard.run(transport, [*argv, "--trusted", trusted, "--not-before", str(not_before)], timeout_s=timeout_s)
    if heard.verified is None:
        raise RunnerProtocolError(transport.name, "it did not say what it verified")
    return heard.verified


class _Listener:
    """Hears a runner out and keeps what it said."""

    def __init__(self, device: str, on_outputs: Callable[[int, bytes], None] | None = None, *, model: str = "") -> None:
        self.files: list[File] = []
        self.verified: Verified | None = None
        self._device = device
        self._model = model
        self._on_outputs = on_outputs
        self._reader = EventReader()
        self._error = ""
        self._after_error = 0
        self._hello: Hello | None = None
        self._loaded: Loaded | None = None
        self._runs: list[Run] = []
        self._resources: list[Resources] = []
        self._profile: Profile | None = None
        self._outputs = 0
        self._failed: Failed | None = None
        self._done: Done | None = None

    def run(self, transport: Transport, argv: list[str], *, stdin: Iterable[bytes] = (), timeout_s: float) -> None:
        """Run the program until it ends; raises unless it did all it was asked to."""
        ended = transport.run(argv, stdin=stdin, on_stdout=self._hear, timeout_s=timeout_s)
        self._judge(ended, _plain(ended.stderr.decode("utf-8", "replace"))[-_STDERR_SHOWN:].strip())

    def execution(self, expected_runs: range, *, profiled: bool) -> Execution:
        """What was measured; RunnerProtocolError if a part of it is missing."""
        if self._hello is None or self._loaded is None or self._done is None:
            raise RunnerProtocolError(self._device, "it did not say that it loaded the model")
        if len(self._runs) not in expected_runs or self._runs[0].kind != "first":
            raise RunnerProtocolError(self._device, f"it reported {len(self._runs)} of {expected_runs[-1]} runs")
        if (self._profile is not None) != profiled:
            raise RunnerProtocolError(self._device, f"it gave {'no' if profiled else 'a'} profile")
        if self._done.samples != self._outputs:
            raise RunnerProtocolError(self._device, f"it gave {self._outputs} outputs for {self._done.samples} samples")
        return Execution(
            engine=self._hello.engine,
            build=self._hello.build,
            runtime_version=self._loaded.runtime_version,
            threads=self._loaded.threads,
            load_ns=self._loaded.ns,
            planned_bytes=self._loaded.planned_bytes,
            inputs=self._loaded.inputs,
            outputs=self._loaded.outputs,
            first=self._runs[0],
            warmup=tuple(run for run in self._runs if run.kind == "warmup"),
            runs=tuple(run for run in self._runs if run.kind == ("profiled" if profiled else "timed")),
            peak_rss_bytes=self._done.peak_rss_bytes,
            samples=self._outputs,
            profile=self._profile,
            ready_ns=self._loaded.ready_ns,
            cpus=self._loaded.cpus,
            not_pinned=self._loaded.not_pinned,
            load_rss_bytes=_growth(self._loaded.rss_bytes_before, self._loaded.rss_bytes),
            load_anonymous_bytes=_growth(self._loaded.anonymous_bytes_before, self._loaded.anonymous_bytes),
            resources=tuple(self._resources),
            test_faults=self._hello.test_faults,
        )

    def _hear(self, chunk: bytes) -> None:
        if self._error:
            self._after_error += len(chunk)
            if self._after_error > _MOST_AFTER_ERROR:
                raise RunnerProtocolError(self._device, self._error)
            return
        try:
            for event in self._reader.feed(chunk):
                self._take(event)
        except StreamError as error:
            self._error = str(error)

    def _take(self, event: Event) -> None:  # noqa: C901  # one case for each event
        if self._failed is not None or self._done is not None:
            raise StreamError(f"{type(event).__name__.lower()} after the last event")
        match event:
            case Hello():
                self._hello = _understood(event)
            case Loaded():
                self._loaded = event
            case Run():
                self._runs.append(event)
            case Resources():
                self._resources.append(event)
            case Profile():
                self._profile = event
            case Output():
                self._take_output(event)
            case File():
                self.files.append(event)
            case Verified():
                self.verified = event
            case Failed():
                self._failed = event
            case Done():
                self._done = event
            case Alive():
                pass  # hearing it was all that mattered

    def _take_output(self, event: Output) -> None:
        if self._on_outputs is None or event.index != self._outputs:
            raise StreamError(f"the output of sample {event.index} where that of {self._outputs} is due")
        self._outputs += 1
        self._on_outputs(event.index, event.data)

    def _judge(self, ended: Completed, stderr: str) -> None:
        """Raise what went wrong; the runner's own sentence comes before what its end looks like from outside."""
        if self._failed is not None:
            said = _plain(self._failed.message)
            if self._failed.code == "crashed":
                raise RunnerCrashedError(self._device, ended.status, stderr, said=said, model=self._model)
            raise RunnerFailedError(self._device, self._failed.code, said, stderr, model=self._model)
        if self._error:
            raise RunnerProtocolError(self._device, self._error, stderr)
        if ended.status or self._done is None:
            raise RunnerCrashedError(self._device, ended.status, stderr, model=self._model)
        try:
            self._reader.end()
        except StreamError as error:
            raise RunnerProtocolError(self._device, str(error), stderr) from error


def _in_pieces(samples: Iterable[bytes]) -> Iterator[bytes]:
    """Small samples together: a packet for each would take longer than its execution."""
    piece = bytearray()
    for sample in samples:
        piece += sample
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _growth(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _plain(text: str) -> str:
    """The text of a device without what would colour or move about in a terminal."""
    return _CONTROL.sub("", text)


def _understood(hello: Hello) -> Hello:
    if hello.protocol != PROTOCOL:
        raise StreamError(f"it speaks protocol {hello.protocol}, this edgeq speaks {PROTOCOL}")
    return hello
