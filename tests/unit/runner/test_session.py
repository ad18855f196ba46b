from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edgeq.device.transport import Completed
from edgeq.errors import DeviceError, RunnerCrashedError, RunnerFailedError, RunnerProtocolError
from edgeq.runner import Execution, Pace, execute, hash_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

HELLO = '{"event":"hello","protocol":1,"engine":"executorch","triple":"aarch64-linux-gnu","build":"ab"}\n'
LOADED = (
    '{"event":"loaded","ns":5,"runtime_version":"1.5.1","threads":2,"planned_bytes":64,"backends":[],'
    '"inputs":[{"name":"x","dtype":"float32","shape":[1]}],"outputs":[{"name":"y","dtype":"float32","shape":[1]}]}\n'
)
RUNS = "".join(
    f'{{"event":"run","kind":"{kind}","ns":{ns},"instructions":{ns * 10}}}\n'
    for kind, ns in (("first", 9), ("warmup", 8), ("timed", 6), ("timed", 7))
)
OUTPUTS = "".join(f'{{"event":"output","index":{i},"bytes":4,"shapes":[[1]]}}\nout{i}\n' for i in range(2))
DONE = '{"event":"done","samples":2,"peak_rss_bytes":1024}\n'
WHOLE = HELLO + LOADED + RUNS + OUTPUTS + DONE


class Device:
    """Answers every program with a script."""

    name = "desk"

    def __init__(self, stdout: str | bytes, *, status: int = 0, stderr: str = "") -> None:
        self._stdout = stdout.encode() if isinstance(stdout, str) else stdout
        self._status = status
        self._stderr = stderr
        self.argv: list[str] = []
        self.stdin = b""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Completed:
        assert env is None
        assert timeout_s > 0
        assert on_stdout is not None
        self.argv = list(argv)
        self.stdin = b"".join(stdin)
        for start in range(0, len(self._stdout), 11):
            on_stdout(self._stdout[start : start + 11])
        return Completed(status=self._status, stdout=b"", stderr=self._stderr.encode())

    def put(self, local: Path, remote: str, *, mode: int = 0o644) -> None:
        raise NotImplementedError

    def get(self, remote: str, local: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def _execute(device: Device, **changes: Any) -> tuple[Execution, list[tuple[int, bytes]]]:
    outputs: list[tuple[int, bytes]] = []
    settings: dict[str, Any] = {
        "folder": "d",
        "executable": "runner",
        "model": "m.pte",
        "threads": 2,
        "warmup": 1,
        "repeats": 2,
        "count_instructions": True,
        "samples": [b"aaaa", b"bbbb"],
        "on_outputs": lambda index, data: outputs.append((index, data)),
        "timeout_s": 5,
    }
    return execute(device, **(settings | changes)), outputs


def test_everything_the_runner_said_is_in_the_result() -> None:
    device = Device(WHOLE)

    done, outputs = _execute(device)

    assert [run.ns for run in (done.first, *done.warmup, *done.runs)] == [9, 8, 6, 7]
    assert done.runs[0].instructions == 60
    assert (done.load_ns, done.planned_bytes, done.peak_rss_bytes, done.samples) == (5, 64, 1024, 2)
    assert (done.engine, done.build, done.runtime_version, done.threads) == ("executorch", "ab", "1.5.1", 2)
    assert outputs == [(0, b"out0"), (1, b"out1")]
    assert device.stdin == b"aaaabbbb"


def test_the_command_line_says_what_was_asked_for() -> None:
    device = Device(WHOLE)

    _execute(device, shapes=((1, 3, 2), ()))

    assert " ".join(device.argv) == (
        "d/runner run --model d/m.pte --threads 2 --warmup 1 --repeats 2 --sample-bytes 4 --instructions "
        "--shapes 1x3x2,scalar"
    )


def test_a_pace_the_cpus_and_the_looks_at_memory_are_on_the_command_line() -> None:
    device = Device(WHOLE)

    _execute(device, pace=Pace(rate_hz=29.97, arrivals="even", seed=3), cpus=(4, 5), memory_every=100, most_ms=1500)

    assert " ".join(device.argv).endswith(
        "--instructions --rate 29.970000 --arrivals even --seed 3 --most-ms 1500 --cpus 4,5 --memory-every 100"
    )
    assert Pace(pause_ms=20).words() == ["--pause-ms", "20"]
    assert Pace().words() == []


def test_where_time_ends_the_runs_there_may_be_fewer_but_not_none() -> None:
    assert len(_execute(Device(WHOLE), repeats=50, most_ms=10)[0].runs) == 2
    with pytest.raises(RunnerProtocolError):
        _execute(Device(WHOLE), repeats=50)
    with pytest.raises(RunnerProtocolError):
        _execute(Device(WHOLE), warmup=3, repeats=50, most_ms=10)


def test_a_runner_of_before_says_nothing_of_memory_and_cores() -> None:
    done, _ = _execute(Device(WHOLE))

    assert (done.ready_ns, done.load_rss_bytes, done.load_anonymous_bytes, done.khz) == (None, None, None, None)
    assert (done.cpus, done.not_pinned, done.resources, done.test_faults) == ((), "", (), False)


def test_without_a_sample_nothing_is_started() -> None:
    device = Device(WHOLE)

    with pytest.raises(ValueError, match="no sample"):
        _execute(device, samples=[])

    assert device.argv == []


def test_the_runners_own_sentence_is_the_message() -> None:
    said = HELLO + '{"event":"error","code":"missing_operator","message":"this runtime has no kernel for: aten::foo"}\n'

    with pytest.raises(RunnerFailedError, match="aten::foo") as caught:
        _execute(Device(said, status=66, stderr="executorch: Missing operator"))

    assert caught.value.code == "missing_operator"
    assert "lower" in caught.value.hint
    assert "Missing operator" in caught.value.detail


def test_nothing_that_moves_a_terminal_comes_through() -> None:
    said = HELLO + '{"event":"error","code":"cannot_load","message":"\\u001b[31mno\\u001b[0m\\u0007 ü\\u009b"}\n'

    with pytest.raises(RunnerFailedError, match=r": no ü$") as caught:
        _execute(Device(said, status=65, stderr="\x1b[1;31mred\x1b[m\r\nnext\x00"))

    assert caught.value.detail == "red\nnext"


def test_a_crash_that_the_runner_could_tell_is_a_crash() -> None:
    said = HELLO + '\n{"event":"error","code":"crashed","message":"the runtime crashed (SIGSEGV) while loading"}\n'

    with pytest.raises(RunnerCrashedError, match="SIGSEGV") as caught:
        _execute(Device(said, status=75))

    assert "damaged" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (137, "memory"),
        (139, "crashed"),
        (127, "library"),
        (126, "processor"),
        (134, "gave up"),
        (132, "instruction"),
        (1, "-v"),
    ],
)
def test_an_end_without_a_word_is_explained_by_its_status(status: int, hint: str) -> None:
    with pytest.raises(RunnerCrashedError, match=f"status {status}") as caught:
        _execute(Device(HELLO + LOADED, status=status, stderr="the last words"))

    assert hint in caught.value.hint
    assert caught.value.detail == "the last words"


def test_a_program_that_is_not_there_is_explained() -> None:
    with pytest.raises(RunnerCrashedError, match="127") as caught:
        _execute(Device("", status=127, stderr="d/runner: not found"))

    assert "deploy again" in caught.value.hint


def test_status_0_without_done_is_a_failure() -> None:
    with pytest.raises(RunnerCrashedError, match="status 0"):
        _execute(Device(HELLO + LOADED + RUNS + OUTPUTS))


def test_a_bad_status_after_done_is_a_failure() -> None:
    with pytest.raises(RunnerCrashedError, match="status 139"):
        _execute(Device(WHOLE, status=139))


@pytest.mark.parametrize(
    "stdout",
    [
        HELLO.replace('"protocol":1', '"protocol":2') + LOADED,
        HELLO + LOADED + "Killed\n",
        HELLO + LOADED + RUNS + OUTPUTS.replace('"index":0', '"index":1'),
        HELLO + LOADED + RUNS + OUTPUTS + OUTPUTS,
        HELLO + LOADED + RUNS + OUTPUTS + DONE.replace('"samples":2', '"samples":3'),
        HELLO + LOADED + RUNS.replace("first", "timed") + OUTPUTS + DONE,
        HELLO + LOADED + OUTPUTS + DONE,
        HELLO + RUNS + OUTPUTS + DONE,
        WHOLE + DONE,
        WHOLE + "{",
        "\n".join(["<html>"] * 20000),
    ],
    ids=[
        "another protocol",
        "garbage",
        "outputs out of order",
        "too many outputs",
        "wrong count",
        "no first run",
        "no runs",
        "not loaded",
        "done twice",
        "a torn line",
        "another program",
    ],
)
def test_a_stream_that_no_runner_writes_is_an_error_of_the_device(stdout: str) -> None:
    with pytest.raises(RunnerProtocolError) as caught:
        _execute(Device(stdout, stderr="hm"))

    assert isinstance(caught.value, DeviceError)


def test_an_endless_stream_of_garbage_is_left() -> None:
    with pytest.raises(RunnerProtocolError):
        _execute(Device(HELLO.encode() + b"y\n" * 2_000_000))


def test_what_the_callers_callback_raises_comes_through() -> None:
    def full(_index: int, _data: bytes) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        _execute(Device(WHOLE), on_outputs=full)


def test_hashes_are_given_for_the_files_that_are_there() -> None:
    device = Device(
        HELLO
        + '{"event":"file","path":"d/a","sha256":"aa"}\n{"event":"file","path":"d/b","sha256":null}\n'
        + '{"event":"done","files":2}\n'
    )

    assert hash_files(device, folder="d", executable="runner", names=["a", "b"]) == {"a": "aa"}
    assert device.argv == ["d/runner", "hash", "d/a", "d/b"]


def test_hashes_of_other_files_are_refused() -> None:
    device = Device(HELLO + '{"event":"file","path":"d/z","sha256":"aa"}\n{"event":"done","files":1}\n')

    with pytest.raises(RunnerProtocolError):
        hash_files(device, folder="d", executable="runner", names=["a"])


def test_a_profile_is_asked_for_and_has_to_come() -> None:
    profile = '{"event":"profile","format":"executorch","bytes":2}\n{}\n'
    device = Device(HELLO + LOADED + RUNS.replace("timed", "profiled") + profile + OUTPUTS + DONE)
    done, _ = _execute(device, profile=True)

    assert "--profile" in device.argv
    assert [run.ns for run in done.runs] == [6, 7]
    assert done.profile is not None
    assert done.profile.json == b"{}"
    with pytest.raises(RunnerProtocolError, match="no profile"):
        _execute(Device(WHOLE), profile=True)
