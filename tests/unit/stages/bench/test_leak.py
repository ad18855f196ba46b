from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeq.stages.bench.leak import NOISE_BYTES, judge

PAGE = 4096
START = 50 << 20


def _after(*steps: int) -> tuple[int, ...]:
    return tuple(itertools.accumulate(steps, initial=START))


@pytest.mark.parametrize(
    "sizes",
    [
        _after(*9 * (0,)),
        _after(0, 0, PAGE, 0, 0, 0, 0, 0, 0),
        _after(0, 0, 65536, 0, 0, 0, 0, 0, 0),  # one page of a kernel with large ones
        _after(PAGE, -PAGE, PAGE, -PAGE, PAGE, -PAGE, PAGE, -PAGE, PAGE),
        _after(-(1 << 20), 0, 0, 0, 0, 0, 0, 0, 0),
        _after(*9 * (PAGE,)),
    ],
)
def test_what_an_allocator_rounds_to_is_no_leak(sizes: tuple[int, ...]) -> None:
    grew, verdict = judge(sizes)

    assert verdict == "does not grow"
    assert grew <= NOISE_BYTES


@pytest.mark.parametrize("lost", [100, 1000, 100_000])
def test_what_each_inference_loses_is_a_leak(lost: int) -> None:
    # As an allocator takes pages from the kernel: whole ones, when the last is full.
    sizes = [START + int(np.ceil(runs * lost / PAGE)) * PAGE for runs in range(100, 1001, 100)]

    grew, verdict = judge(sizes)

    assert verdict == "grows"
    assert grew >= 0.9 * 900 * lost


def test_what_grew_early_and_then_no_more_was_needed_once() -> None:
    assert judge(_after(0, 200_000, 30_000, 0, 0, PAGE, 0, 0, 0)) == (230_000 + PAGE, "does not grow")


def test_what_grew_late_may_be_a_leak_or_not() -> None:
    assert judge(_after(0, 0, 0, 0, 0, 0, 1 << 20, 0, 0)) == (1 << 20, "cannot tell")


def test_without_looks_nobody_can_tell() -> None:
    assert judge(()) == (0, "cannot tell")
