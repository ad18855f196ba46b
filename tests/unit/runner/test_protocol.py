from __future__ import annotations

import random

import pytest

from edgeq.runner.protocol import (
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
    Run,
    StreamError,
)

HELLO = b'{"event":"hello","protocol":1,"engine":"executorch","triple":"aarch64-linux-gnu","build":"ab"}\n'
LOADED = (
    b'{"event":"loaded","ns":5,"runtime_version":"1.5.1","threads":1,"planned_bytes":null,"backends":["XnnpackBackend"],'
    b'"inputs":[{"name":"x","dtype":"float32","shape":[1,-1]}],"outputs":[{"name":"","dtype":"int8","shape":[]}]}\n'
)
RUN = b'{"event":"run","kind":"first","ns":7,"instructions":null}\n'
OUTPUT = b'{"event":"output","index":0,"bytes":5,"shapes":[[5]]}\n\n{"\n\x00\n'
DONE = b'{"event":"done","samples":1,"peak_rss_bytes":9}\n'
WHOLE = HELLO + LOADED + RUN + b'{"event":"alive"}\n' + OUTPUT + DONE


def _read(data: bytes, *, chunk: int | None = None) -> list[Event]:
    reader = EventReader()
    step = chunk or max(len(data), 1)
    events = [event for start in range(0, len(data), step) for event in reader.feed(data[start : start + step])]
    reader.end()
    return events


@pytest.mark.parametrize("chunk", [None, 1, 2, 7, 64])
def test_a_whole_stream_is_understood_however_it_is_cut(chunk: int | None) -> None:
    hello, loaded, run, alive, output, done = _read(WHOLE, chunk=chunk)

    assert hello == Hello(protocol=1, engine="executorch", triple="aarch64-linux-gnu", build="ab")
    assert isinstance(loaded, Loaded)
    assert loaded.inputs[0].shape == (1, -1)
    assert loaded.planned_bytes is None
    assert run == Run(kind="first", ns=7, instructions=None)
    assert alive == Alive()
    assert output == Output(index=0, shapes=((5,),), data=b'\n{"\n\x00')
    assert done == Done(samples=1, peak_rss_bytes=9)


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_a_profile_is_a_frame_of_json(chunk: int | None) -> None:
    line = b'{"event":"profile","format":"executorch","bytes":16}\n{"operators":[]}\n'

    assert _read(HELLO + line + DONE, chunk=chunk)[1] == Profile(format="executorch", json=b'{"operators":[]}')
    with pytest.raises(StreamError, match="the profile is cut short"):
        _read(HELLO + line[:-5])
    with pytest.raises(StreamError, match="the profile is longer"):
        _read(HELLO + line.replace(b"16", b"9") + DONE)


def test_a_login_message_before_hello_is_skipped() -> None:
    assert _read(b"Welcome to board\n\n\xff\xfe{}\n" + HELLO + DONE)[0] == _read(HELLO + DONE)[0]


def test_keys_of_a_newer_runner_are_ignored() -> None:
    (_, done) = _read(HELLO + b'{"event":"done","samples":3,"colour":"red"}\n')

    assert done == Done(samples=3)


def test_an_error_after_a_crash_may_start_on_a_line_of_its_own() -> None:
    (_, failed) = _read(HELLO + b'\n{"event":"error","code":"crashed","message":"SIGSEGV"}\n')

    assert failed == Failed(code="crashed", message="SIGSEGV")


def test_an_absent_file_has_no_hash() -> None:
    (_, absent) = _read(HELLO + b'{"event":"file","path":"d/x","sha256":null}\n')

    assert absent == File(path="d/x", sha256=None)


def test_an_empty_output_is_an_output() -> None:
    (_, output) = _read(HELLO + b'{"event":"output","index":0,"bytes":0,"shapes":[[0]]}\n\n')

    assert output == Output(index=0, shapes=((0,),), data=b"")


@pytest.mark.parametrize(
    "line",
    [
        b"Segmentation fault",
        b"[]",
        b"{}",
        b'{"event":"walk"}',
        b'{"event":"run","kind":"first","ns":"7","instructions":null}',
        b'{"event":"run","kind":"first","ns":-7,"instructions":null}',
        b'{"event":"run","kind":"fast","ns":7,"instructions":null}',
        b'{"event":"run","kind":"first","ns":7}',
        b'{"event":"run","kind":"first","ns":7.5,"instructions":null}',
        b'{"event":"output","index":0,"bytes":-1,"shapes":[]}',
        b'{"event":"output","index":0,"bytes":99999999999999,"shapes":[]}',
        b'{"event":"done","samples":1',
        b'{"event":"done","samples":1}{"event":"done"}',
        b"\xff\xfe\x00",
        HELLO.strip(),
    ],
)
def test_a_line_that_no_runner_writes_is_refused(line: bytes) -> None:
    with pytest.raises(StreamError):
        _read(HELLO + line + b"\n")


def test_a_frame_that_is_longer_than_its_line_says_is_refused() -> None:
    with pytest.raises(StreamError, match="longer than its line says"):
        _read(HELLO + b'{"event":"output","index":0,"bytes":2,"shapes":[[3]]}\nabc\n')


@pytest.mark.parametrize("cut", [len(HELLO) + 3, len(WHOLE) - len(DONE) - 2, len(WHOLE) - 1])
def test_a_stream_cut_inside_a_line_or_a_frame_is_told(cut: int) -> None:
    with pytest.raises(StreamError, match="cut short"):
        _read(WHOLE[:cut])


def test_an_endless_line_is_refused_before_it_fills_the_memory() -> None:
    reader = EventReader()

    with pytest.raises(StreamError, match="without an end"):
        for _ in range(100):
            list(reader.feed(b"x" * 65536))


def test_an_endless_login_message_is_refused() -> None:
    reader = EventReader()

    with pytest.raises(StreamError, match="something else"):
        for _ in range(100):
            list(reader.feed(b"hello?\n" * 1000))


def test_random_damage_ends_in_a_refusal_or_in_events_and_never_in_another_error() -> None:
    rng = random.Random(1)  # noqa: S311  # damage, not secrets
    for _ in range(2000):
        data = bytearray(WHOLE)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            _read(bytes(data), chunk=rng.randrange(1, 100))
        except StreamError:
            continue
