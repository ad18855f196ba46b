"""Artifacts on a whole evaluation set, in this process or in one beside it.

A build lowers the next artifact while another process runs the one before:
both take about as long, and lowering is Python that keeps to one core. The
other process is this module run by the same interpreter. It reads jobs, one
JSON a line, and answers in the same way; it ends with its input, so that it
never outlives the build. What it computes is the same on either side.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np

from edgeq import errors
from edgeq.evaluation import EvaluationSet, GrowingArray
from edgeq.files import write_bytes
from edgeq.host import HostRuntime
from edgeq.records import EvaluationData, Format, Golden
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.progress import Progress

_SAY_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """One artifact of the unfinished build in the folder ``build``, to be run on every sample.

    With ``golden`` the first sample and all its outputs are kept as well.
    ``stand_in``, a file relative to the build, is run in the place of an
    artifact that cannot be.
    """

    build: str
    name: str
    format: Format
    threads: int
    evaluation: EvaluationData
    golden: bool
    stand_in: str = ""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error on its way from one process to another: an edgeq one of that ``kind``, or a bug if there is none."""

    kind: str
    message: str
    hint: str = ""
    detail: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure that tells of ``error``."""
        if isinstance(error, errors.EdgeqError):
            return cls(kind=type(error).__name__, message=error.message, hint=error.hint, detail=error.detail)
        return cls(kind="", message="".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """The same error again."""
        if not self.kind:
            return RuntimeError(f"in the process that scores:\n{self.message}")
        kind: type[errors.EdgeqError] = getattr(errors, self.kind)
        error = kind.__new__(kind)
        errors.EdgeqError.__init__(error, self.message, hint=self.hint, detail=self.detail)
        return error


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Where a job is: so many samples are ``done``, or it has ``ended``, perhaps with a golden pair, or ``failed``."""

    done: int = 0
    ended: bool = False
    golden: Golden | None = None
    failed: Failure | None = None


def outputs_file(name: str) -> str:
    """Where a build keeps an artifact's outputs, relative to it."""
    return f"evaluation/host/{name}.npy"


def stand_in_file(name: str) -> str:
    """Where a build keeps what is run here in the place of an artifact that cannot be, relative to it."""
    return f"evaluation/stand_in/{name}"


def run(job: Job, progress: Progress) -> Golden | None:
    """Run every sample and keep the first output of each as a row of a .npy file; the golden pair where asked for."""
    build, golden = Path(job.build), None
    runtime = HostRuntime(build / (job.stand_in or job.name), job.format, threads=job.threads)
    with ExitStack() as stack:
        rows: GrowingArray | None = None
        for index, inputs in enumerate(EvaluationSet(build, job.evaluation)):
            outputs = runtime.run(inputs)
            batch = outputs[0]
            if not batch.ndim or (batch.ndim == 1 and len(batch) > 1):
                raise errors.NoClassesError(job.name, batch.shape)
            if rows is None:
                file = build / outputs_file(job.name)
                rows = stack.enter_context(GrowingArray(file, batch[0].shape, "float32"))
                golden = _kept(build, inputs, outputs) if job.golden else None
            rows.append(batch[0])
            progress.advance(index + 1, job.evaluation.samples)
    return golden


def _kept(build: Path, inputs: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...]) -> Golden:
    digests = []
    for arrays in (inputs, outputs):
        data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        digests.append(hashlib.sha256(data).hexdigest())
        write_bytes(build / "golden" / f"{digests[-1]}.bin", data)
    return Golden(input_sha256=digests[0], output_sha256=digests[1])


class Runner(Protocol):
    """Takes jobs one after the other and gives their results in the same order."""

    def begin(self, job: Job, progress: Progress) -> None:
        """Begin a job now or as soon as those before it have ended."""

    def result(self, progress: Progress) -> Golden | None:
        """The result of the first job whose result was not asked for yet; whatever error it met is raised here."""


class Here:
    """Runs each job in this process when it is begun."""

    def __init__(self) -> None:
        self._results: list[Golden | None] = []

    def begin(self, job: Job, progress: Progress) -> None:
        """Run the job."""
        progress.step(f"scoring {job.name} on this machine")
        self._results.append(run(job, progress))

    def result(self, progress: Progress) -> Golden | None:
        """What the job gave."""
        del progress
        return self._results.pop(0)


class Beside:
    """Runs jobs in one other process while this one goes on."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._begun: list[Job] = []

    def begin(self, job: Job, progress: Progress) -> None:
        """Hand the job over."""
        del progress
        assert self._process.stdin is not None  # noqa: S101  # it was opened with a pipe
        self._begun.append(job)
        try:
            self._process.stdin.write(f"{to_json(job)}\n".encode())
        except BrokenPipeError:
            raise errors.ScoringStoppedError(job.name, self._process.wait()) from None

    def result(self, progress: Progress) -> Golden | None:
        """Wait for the job, telling how far it is."""
        job = self._begun.pop(0)
        progress.step(f"scoring {job.name} on this machine")
        assert self._process.stdout is not None  # noqa: S101  # it was opened with a pipe
        for line in self._process.stdout:
            answer = from_json(Answer, line, where="the process that scores")
            if answer.failed:
                raise answer.failed.error()
            if answer.ended:
                progress.advance(job.evaluation.samples, job.evaluation.samples)
                return answer.golden
            progress.advance(answer.done, job.evaluation.samples)
        raise errors.ScoringStoppedError(job.name, self._process.wait())


@contextmanager
def runner(jobs: int) -> Iterator[Runner]:
    """Somebody who runs artifacts while the block runs: in a process beside this one if ``jobs`` allows two."""
    if jobs == 1:
        yield Here()
        return
    # Nothing is buffered: what a dead process did not take must not fail once more when its pipe is closed.
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        try:
            yield Beside(process)
        finally:
            process.kill()


class _Told:
    """Writes how far a job is, now and then."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._said_at = time.monotonic()

    def step(self, text: str) -> None:
        """Nothing: the other side knows what it waits for."""

    def advance(self, done: int, total: int | None = None) -> None:
        """Say the count when the last one is some time ago."""
        del total
        if time.monotonic() - self._said_at > _SAY_SECONDS:
            self._said_at = time.monotonic()
            _say(self._stream, Answer(done=done))


def _say(stream: IO[str], answer: Answer) -> None:
    stream.write(to_json(answer) + "\n")
    stream.flush()


def main() -> None:
    """Run the jobs that come on stdin until it ends; what libraries print goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the build decides, and ends this process
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for line in sys.stdin:
            job = from_json(Job, line, where="stdin")
            try:
                golden = run(job, _Told(out))
            except BrokenPipeError:
                return  # the build was killed
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the other side's to tell
                _say(out, Answer(failed=Failure.of(error)))
            else:
                _say(out, Answer(ended=True, golden=golden))


if __name__ == "__main__":
    main()
