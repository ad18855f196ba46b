"""Whether a device is fit to be measured: nothing else slows it down, now or while it is measured.

An emulated board always is, as no time is taken there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeq.device.health import read_state, throttled_words
from edgeq.errors import UnfitDeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.records import DeviceFacts, DeviceState, Timing
    from edgeq.stages.bench.plan import Settings

MOST_USED: dict[Timing, float] = {"hardware": 0.2, "host": 0.5}
"""From this share of all cores' time on others disturb a measurement.

On a board of four cores one busy process is a quarter. A machine that people
work at is never idle, and has cores to spare: half of them must be.
"""

LEAST_AVAILABLE = 0.1
"""With less of the memory than this to be had, and swap in use, pages are fetched back while a model runs."""

MOVED = 0.1
"""A clock that moves by more than this under load changes times by as much."""

_LOOKS = 3
"""A burst of other work that is over in a few seconds is waited for."""


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """A reason, as the row keeps it, and what to do about it."""

    kind: Literal["throttled", "hot", "busy", "swapping", "clock"]
    reason: str
    remedy: str


def fit_state(
    transport: Transport, facts: DeviceFacts, how: Settings, *, progress: Progress
) -> tuple[DeviceState, tuple[Unfit, ...]]:
    """The device's state before a measurement, and why it is not fit for one, if that does not matter (``how.force``).

    Raises UnfitDeviceError if it is not fit, and does not become so within a few seconds.
    """
    progress.step("looking at how the device is doing")
    state = read_state(transport)
    found = tuple(unfit(state, facts, how))
    for _ in range(_LOOKS - 1):
        if not found or how.force:
            break
        state = read_state(transport)
        found = tuple(unfit(state, facts, how))
    refuse(transport.name, found, how)
    return state, found


def refuse(device: str, found: Sequence[Unfit], how: Settings) -> None:
    """UnfitDeviceError if anything was found and the measurement is not forced."""
    if found and not how.force:
        raise UnfitDeviceError(device, [one.reason for one in found], [one.remedy for one in found])


def unfit(state: DeviceState, facts: DeviceFacts, how: Settings) -> Iterator[Unfit]:
    """What is wrong at that moment."""
    if how.timing == "emulated":
        return
    if state.throttled:
        now, _ = throttled_words(state.throttled_bits or 0)
        words = ", ".join(now) or "the kernel's thermal governor holds its cores back"
        remedy = "cool it and feed it: a fan, its own power supply"
        yield Unfit(kind="throttled", reason=f"it is slowed down now: {words}", remedy=remedy)
    if how.timing == "hardware" and state.celsius is not None and state.celsius >= how.max_celsius:
        text = f"it is {state.celsius:.0f} C hot, from {how.max_celsius} C on it slows down"
        yield Unfit(kind="hot", reason=text, remedy="let it cool down")
    most = MOST_USED[how.timing]
    if state.cpu_share is not None and state.cpu_share > most:
        named = ", ".join(f"{one.name or '?'} ({one.pid})" for one in state.busy[:3])
        who = f": {named}" if named else ""
        yield Unfit(
            kind="busy",
            reason=f"others use {state.cpu_share:.0%} of its processors, more than {most:.0%}{who}",
            remedy="end what computes there",
        )
    swapped = (facts.swap_bytes or 0) - (state.swap_free_bytes if state.swap_free_bytes is not None else 0)
    short = state.available_bytes is not None and state.available_bytes < LEAST_AVAILABLE * (facts.ram_bytes or 0)
    if swapped > 0 and short:
        yield Unfit(
            kind="swapping",
            reason=f"it swaps: {swapped >> 20} MB are swapped out and {(state.available_bytes or 0) >> 20} MB are free",
            remedy="end what takes its memory",
        )


def clock_moved(khz: Sequence[int | None], state: DeviceState, how: Settings) -> Iterator[Unfit]:
    """Whether the frequency under load changed between visits, ``khz`` right after each of them.

    A governor that raises the clock under load and holds it there disturbs
    nothing once the level is steady.
    """
    told = [one for one in khz if one]
    governors = sorted({clock.governor for clock in state.clocks if clock.governor and clock.governor != "performance"})
    if how.timing == "emulated" or not governors or not told or max(told) <= (1 + MOVED) * min(told):
        return
    yield Unfit(
        kind="clock",
        reason=f"its frequency under load moved between {min(told) // 1000} and {max(told) // 1000} MHz "
        f"(governor {', '.join(governors)})",
        remedy="there, as root: echo performance | tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
    )
