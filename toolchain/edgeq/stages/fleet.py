"""The same work on many devices at once: one that fails does not stop the others."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeq.progress import Progress

Result = TypeVar("Result")
State = Literal["done", "failed", "skipped"]

_AT_ONCE = 16
"""Devices that are worked at the same time; each has a thread and a connection of its own."""

_LOOK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Result]):
    """How it went on one device: its ``result`` if done, its ``error`` if it failed."""

    device: str
    state: State
    result: Result | None = None
    error: Exception | None = None
    seconds: float = 0.0


class Watch(Protocol):
    """Who looks on; called from the thread of each device."""

    def step(self, device: str, text: str) -> None:
        """A device begins with something else."""

    def advance(self, device: str, done: int, total: int | None) -> None:
        """So much of it is done."""

    def ended(self, outcome: Outcome[Result]) -> None:
        """A device is through, or was passed over."""


def on_each(
    devices: Sequence[str], work: Callable[[str, Progress], Result], *, canary: int = 0, watch: Watch
) -> tuple[Outcome[Result], ...]:
    """Do ``work(device, progress)`` on every device, at most sixteen at a time; the outcomes in their order.

    With a ``canary`` the first so many go ahead, and the others are skipped
    unless all of those are done. What interrupts the caller (Ctrl-C) leaves
    at once; the threads end with the process.
    """
    ahead = devices[:canary] if canary else devices
    outcomes = _at_once(ahead, work, watch)
    rest = devices[len(ahead) :]
    if all(outcome.state == "done" for outcome in outcomes):
        return (*outcomes, *_at_once(rest, work, watch))
    skipped = tuple(Outcome[Result](device=device, state="skipped") for device in rest)
    for outcome in skipped:
        watch.ended(outcome)
    return (*outcomes, *skipped)


def _at_once(
    devices: Sequence[str], work: Callable[[str, Progress], Result], watch: Watch
) -> tuple[Outcome[Result], ...]:
    outcomes: dict[str, Outcome[Result]] = {}
    places = threading.Semaphore(_AT_ONCE)

    def one(device: str) -> None:
        with places:
            begun = time.monotonic()
            try:
                result, error = work(device, _Told(device, watch)), None
            except Exception as problem:  # noqa: BLE001  # told with the outcome, whatever it is
                result, error = None, problem
            outcomes[device] = Outcome(
                device=device,
                state="done" if error is None else "failed",
                result=result,
                error=error,
                seconds=time.monotonic() - begun,
            )
            watch.ended(outcomes[device])

    threads = [threading.Thread(target=one, args=(device,), daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(_LOOK_S)
    return tuple(outcomes[device] for device in devices)


class _Told:
    """The progress of one device."""

    def __init__(self, device: str, watch: Watch) -> None:
        self._device = device
        self._watch = watch

    def step(self, text: str) -> None:
        self._watch.step(self._device, text)

    def advance(self, done: int, total: int | None = None) -> None:
        self._watch.advance(self._device, done, total)
