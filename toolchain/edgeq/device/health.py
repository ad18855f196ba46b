"""How a device is doing: read before and after each measurement, and by ``edgeq doctor``."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.device.facts import meminfo_bytes, number
from edgeq.records import BusyProcess, Clock, DeviceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgeq.device.transport import Transport

BUSY_SHARE = 0.1
"""From this part of one core on, another process may have cost the measured one time."""

HEALTH_SCRIPT = r"""
LC_ALL=C; export LC_ALL
echo "now $(date +%s 2>/dev/null)"
echo "load $(cat /proc/loadavg 2>/dev/null)"
grep -e '^MemAvailable:' -e '^SwapFree:' /proc/meminfo 2>/dev/null
for zone in /sys/class/thermal/thermal_zone*; do
  if [ -r "$zone/temp" ]; then echo "zone $(cat "$zone/type") $(cat "$zone/temp" 2>/dev/null)"; fi
done
for cooler in /sys/class/thermal/cooling_device*; do
  case $(cat "$cooler/type" 2>/dev/null) in *cpufreq*) echo "slowed $(cat "$cooler/cur_state" 2>/dev/null)";; esac
done
said=
for file in /sys/devices/platform/soc*/*firmware/get_throttled; do
  if [ -r "$file" ]; then said=$(cat "$file" 2>/dev/null); fi
done
if [ -z "$said" ] && command -v vcgencmd >/dev/null 2>&1; then said=$(vcgencmd get_throttled 2>/dev/null); fi
echo "throttled ${said#throttled=}"
for policy in /sys/devices/system/cpu/cpufreq/policy*; do
  if [ -d "$policy" ]; then
    line="clock ${policy##*/}"
    for file in scaling_governor scaling_cur_freq scaling_max_freq cpuinfo_max_freq; do
      line="$line $file=$(cat "$policy/$file" 2>/dev/null)"
    done
    echo "$line"
  fi
done
echo "self $$"
sample() {
  echo "sample"
  grep '^cpu' /proc/stat 2>/dev/null
  cat /proc/[0-9]*/stat 2>/dev/null
}
if [ "$1" -gt 0 ]; then sample; sleep "$1"; sample; fi
exit 0
"""
"""$1 is how many seconds to watch the processes. sh, cat, grep, date and sleep are all it needs."""

THROTTLED_NOW = {
    0: "under-voltage",
    1: "the frequency is capped",
    2: "throttled",
    3: "at the soft temperature limit",
}
"""Bits of get_throttled that hold now; 16 higher they say what happened since the start.

Source: Raspberry Pi documentation, "vcgencmd", get_throttled.
"""
THROTTLED_SINCE_START = 16

_NOW_MASK = 0xF
_WATCH_S = 1
_LEAST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class _Process:
    name: str
    parent: int
    ticks: int


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """The ticks of all cores together since the start, those of them idle, and every process."""

    cores: int
    total: int
    idle: int
    processes: dict[int, _Process]


def read_state(transport: Transport, *, watch_s: int = _WATCH_S) -> DeviceState:
    """Ask the device how it is doing, and watch its processes for ``watch_s`` seconds."""
    before = time.time()
    done = transport.run(["/bin/sh", "-c", HEALTH_SCRIPT, "sh", str(watch_s)], timeout_s=30.0 + watch_s)
    after = time.time()
    text = done.stdout.decode(errors="replace")
    said: dict[str, list[list[str]]] = {}
    for line in text.partition("\nsample\n")[0].splitlines():
        key, *words = line.split()[:10] or [""]
        said.setdefault(key, []).append(words)

    bits = _bits(said)
    slowed = [count for words in said.get("slowed", []) if (count := number(" ".join(words))) is not None]
    told = ([bool(bits & _NOW_MASK)] if bits is not None else []) + [count > 0 for count in slowed]
    share, busy = _watched(text, number(_first(said, "self")))
    return DeviceState(
        celsius=_celsius(said),
        throttled=any(told) if told else None,
        throttled_bits=bits,
        clocks=tuple(_clock(words) for words in said.get("clock", [])),
        available_bytes=meminfo_bytes(text, "MemAvailable"),
        swap_free_bytes=meminfo_bytes(text, "SwapFree"),
        load=_float(_first(said, "load")),
        cpu_share=share,
        busy=busy,
        clock_skew_s=_skew(number(_first(said, "now")), before, after),
    )


def throttled_words(bits: int) -> tuple[list[str], list[str]]:
    """What the bits say of now, and of the time since the start."""
    now = [words for bit, words in THROTTLED_NOW.items() if bits >> bit & 1]
    return now, [words for bit, words in THROTTLED_NOW.items() if bits >> (bit + THROTTLED_SINCE_START) & 1]


def _first(said: Mapping[str, list[list[str]]], key: str) -> str:
    """The first word of the first line of that key."""
    return next((words[0] for words in said.get(key, []) if words), "")


def _float(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _celsius(said: Mapping[str, list[list[str]]]) -> float | None:
    hottest = None
    for words in said.get("zone", []):
        value = number(words[-1]) if words else None
        if value is not None and re.search("cpu|soc|pkg", " ".join(words[:-1]), re.IGNORECASE):
            hottest = max(hottest or 0.0, value / 1000)
    return hottest


def _bits(said: Mapping[str, list[list[str]]]) -> int | None:
    text = _first(said, "throttled")
    return int(text, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]+", text) else None


def _clock(words: list[str]) -> Clock:
    values = dict(word.partition("=")[::2] for word in words[1:])
    return Clock(
        name=words[0] if words else "",
        governor=values.get("scaling_governor", ""),
        mhz=_mhz(values.get("scaling_cur_freq", "")),
        limit_mhz=_mhz(values.get("scaling_max_freq", "")),
        max_mhz=_mhz(values.get("cpuinfo_max_freq", "")),
    )


def _mhz(kilohertz: str) -> int | None:
    value = number(kilohertz)
    return None if value is None else value // 1000


def _skew(said: int | None, before: float, after: float) -> float | None:
    """How far a clock that said ``said`` (whole seconds, cut off) is ahead of ours; 0 if it may be equal."""
    if said is None:
        return None
    if said > after:
        return round(said - after, 1)
    return round(min(0.0, said + 1 - before), 1)


def _watched(text: str, script: int | None) -> tuple[float | None, tuple[BusyProcess, ...]]:
    """The share of all cores' time that was used between the two samples, and by whom.

    The script itself and the processes it descends from are edgeq's own
    way in, and left out of the list. A process that began or ended in
    between is in the share only.
    """
    samples = [sample for part in text.split("\nsample\n")[1:] if (sample := _sample(part))]
    if len(samples) != 2:  # noqa: PLR2004  # before and after
        return None, ()
    first, second = samples
    elapsed, idle = second.total - first.total, second.idle - first.idle
    if elapsed <= 0:
        return None, ()
    ours = set(_line_of(second, script))
    busy = []
    for pid, process in second.processes.items():
        earlier = first.processes.get(pid)
        if pid in ours or earlier is None or earlier.name != process.name:
            continue
        share = (process.ticks - earlier.ticks) * second.cores / elapsed
        if share >= _LEAST_SHARE:
            busy.append(BusyProcess(pid=pid, name=process.name, share=round(share, 2)))
    used = min(1.0, max(0.0, 1 - idle / elapsed))
    return round(used, 3), tuple(sorted(busy, key=lambda one: -one.share))


def _sample(text: str) -> _Sample | None:
    """One reading of the first lines of /proc/stat and of every /proc/PID/stat (proc(5))."""
    found = re.search(r"^cpu +(\d[\d ]*)$", text, re.MULTILINE)
    if found is None:
        return None
    # user nice system idle iowait irq softirq steal; what guests used is in user already.
    ticks = [int(word) for word in found[1].split()[:8]]
    processes = {}
    for match in re.finditer(r"^(\d+) \((.*)\) \S (\d+) (.*)$", text, re.MULTILINE):
        fields = match[4].split()
        # utime and stime are fields 14 and 15; the parent, in front of these, is field 4.
        if len(fields) > 11 and fields[9].isdecimal() and fields[10].isdecimal():  # noqa: PLR2004
            name = "".join(letter for letter in match[2] if letter.isprintable())
            used = int(fields[9]) + int(fields[10])
            processes[int(match[1])] = _Process(name=name, parent=int(match[3]), ticks=used)
    cores = len(re.findall(r"^cpu\d+ ", text, re.MULTILINE)) or 1
    return _Sample(cores=cores, total=sum(ticks), idle=sum(ticks[3:5]), processes=processes)


def _line_of(sample: _Sample, pid: int | None) -> Iterator[int]:
    """A process and all that it descends from, but for init."""
    while pid is not None and pid > 1 and pid in sample.processes:
        yield pid
        pid = sample.processes[pid].parent
