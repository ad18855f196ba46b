"""How fast each core of a device is, and which of them to run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.device.facts import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.device.transport import Transport

CORES_SCRIPT = r"""
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  if [ -d "$cpu" ] && [ "$(cat "$cpu/online" 2>/dev/null)" != 0 ]; then
    echo "core ${cpu##*/cpu} $(cat "$cpu/cpu_capacity" 2>/dev/null || echo -)" \
      "$(cat "$cpu/cpufreq/cpuinfo_max_freq" 2>/dev/null || echo -)"
  fi
done
exit 0
"""

AS_FAST = 0.9
"""A core of this part of the fastest one's speed is one of its kind: single cores of a kind may differ by a little."""


@dataclass(frozen=True, kw_only=True)
class Core:
    """One core: its ``speed`` among the others, in a unit of the device's own, None where it does not say."""

    cpu: int
    speed: int | None


@dataclass(frozen=True, kw_only=True)
class Pinning:
    """The CPUs to run on, () for any, and why."""

    cpus: tuple[int, ...] = ()
    why: str = ""


def read_cores(transport: Transport) -> tuple[Core, ...]:
    """Ask the device for its cores that are online.

    Their speed is what the scheduler works with (``cpu_capacity``, which
    knows kinds of cores), else the highest frequency.
    """
    done = transport.run(["/bin/sh", "-c", CORES_SCRIPT], timeout_s=30.0)
    lines = [line.split() for line in done.stdout.decode(errors="replace").splitlines()]
    told = [
        (cpu, number(words[2]), number(words[3]))
        for words in lines
        if len(words) == 4 and words[0] == "core" and (cpu := number(words[1])) is not None  # noqa: PLR2004
    ]
    has_capacity = all(capacity is not None for _, capacity, _ in told)
    return tuple(Core(cpu=cpu, speed=capacity if has_capacity else khz) for cpu, capacity, khz in sorted(told))


def pinning(cores: Sequence[Core], threads: int, *, asked: Sequence[int] = ()) -> Pinning:
    """Where so many threads are to run: where ``asked``, else on the fastest cores where there are several kinds."""
    if asked:
        return Pinning(cpus=tuple(asked), why="as asked for")
    speeds = {core.cpu: core.speed for core in cores if core.speed is not None}
    if not speeds or len(speeds) < len(cores):
        return Pinning(why="not pinned: the device does not say how fast its cores are")
    as_fast = AS_FAST * max(speeds.values())
    if min(speeds.values()) >= as_fast:
        return Pinning(why="not pinned: its cores are alike")
    # The fast kind, then one slower kind after the other, until each thread has a core.
    limits = [as_fast, *sorted({speed for speed in speeds.values() if speed < as_fast}, reverse=True)]
    kinds = (tuple(cpu for cpu, speed in speeds.items() if speed >= limit) for limit in limits)
    chosen = next((cpus for cpus in kinds if len(cpus) >= threads), tuple(speeds))
    if len(chosen) == len(speeds):
        return Pinning(why=f"not pinned: {threads} threads are more than it has fast cores")
    return Pinning(cpus=chosen, why=f"the fastest {len(chosen)} of {len(speeds)} cores")
