from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import UnreachableError
from edgeq.stages.fleet import Outcome, on_each

if TYPE_CHECKING:
    from edgeq.progress import Progress


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.states: dict[str, str] = {}

    def step(self, device: str, text: str) -> None:
        self.steps.append((device, text))

    def advance(self, device: str, done: int, total: int | None) -> None:
        self.steps.append((device, f"{done} of {total}"))

    def ended(self, outcome: Outcome[int]) -> None:
        self.states[outcome.device] = outcome.state


def _work(device: str, progress: Progress) -> int:
    progress.step("working")
    if device.startswith("bad"):
        raise UnreachableError(device, "10.0.0.7:22", "no route", hint="check the cable")
    progress.advance(1, 2)
    return len(device)


def test_one_device_that_fails_does_not_stop_the_others() -> None:
    seen = Seen()
    outcomes = on_each(["a", "bad", "ccc"], _work, watch=seen)
    assert [(one.device, one.state, one.result) for one in outcomes] == [
        ("a", "done", 1), ("bad", "failed", None), ("ccc", "done", 3),
    ]  # fmt: skip
    assert isinstance(outcomes[1].error, UnreachableError)
    assert seen.states == {"a": "done", "bad": "failed", "ccc": "done"}
    assert [text for device, text in seen.steps if device == "ccc"] == ["working", "1 of 2"]


def test_a_bug_on_one_device_is_its_outcome_too() -> None:
    outcomes = on_each(["a"], lambda _device, _progress: 1 // 0, watch=Seen())
    assert isinstance(outcomes[0].error, ZeroDivisionError)


@pytest.mark.parametrize(
    ("devices", "states"),
    [
        (["bad", "b", "c"], ["failed", "skipped", "skipped"]),
        (["a", "bad", "c"], ["done", "failed", "done"]),
        (["a", "b", "c"], ["done", "done", "done"]),
    ],
)
def test_behind_a_canary_that_fails_nothing_is_touched(devices: list[str], states: list[str]) -> None:
    seen = Seen()
    outcomes = on_each(devices, _work, canary=1, watch=seen)
    assert [one.state for one in outcomes] == states
    assert {device for device, _ in seen.steps} == {one.device for one in outcomes if one.state != "skipped"}
    assert seen.states == {one.device: one.state for one in outcomes}


def test_devices_are_worked_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=30)

    def work(_device: str, _progress: Progress) -> int:
        return together.wait()

    outcomes = on_each(["a", "b", "c"], work, watch=Seen())
    assert {one.state for one in outcomes} == {"done"}
