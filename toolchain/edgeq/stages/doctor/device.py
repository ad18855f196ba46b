"""A device: what it is, how it is doing, and whether edgeq's files can lie and run there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.device.facts import read_facts
from edgeq.device.health import BUSY_SHARE, read_state, throttled_words
from edgeq.device.inventory import BOARD, LOCAL, devices_file, entries, store_root
from edgeq.device.place import Place, read_place
from edgeq.records import DeviceFacts, DeviceState
from edgeq.runner.elf import version_key
from edgeq.stages.compatibility import another_system, missing_features
from edgeq.stages.doctor.finding import Finding, ok, problem, unknown, warning
from edgeq.triple import KINDS, TRIPLES, runnable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.device.transport import Transport
    from edgeq.target import Target
    from edgeq.triple import Kind, Triple

_STORE_BYTES = 80_000_000
_ROOMY_STORE_BYTES = 300_000_000
_LEAST_MEMORY_BYTES = 64_000_000
_ROOMY_MEMORY_BYTES = 256_000_000
_MOST_SKEW_S = 60.0
_HOT_CELSIUS = 80.0
_WARM_BELOW_HOT = 10.0
_INT8_FEATURES = {"asimddp": "int8 dot product", "i8mm": "int8 matrix product", "bf16": "bf16", "sve": "SVE"}


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was read of a device, and what that means."""

    facts: DeviceFacts
    state: DeviceState
    place: Place
    findings: tuple[Finding, ...]


def examine(transport: Transport, device: str, *, target: Target | None) -> Examined:
    """Ask a device everything; ``target``, if one is given, is what it is held against."""
    facts = read_facts(transport)
    place = read_place(transport, store_root(device))
    state = read_state(transport)
    triples = runnable(facts.machine, facts.loaders)
    findings = (
        *_machine(facts, triples),
        *_features(facts, target, triples),
        *_system(facts, KINDS[_triple(triples, target)]),
        *_memory(facts, state),
        *_place(place, device),
        *_clock(state, facts),
        *_frequency(facts, state),
        *_temperature(state, facts, target),
        *_throttling(state, facts),
        *_load(facts, state),
    )
    return Examined(facts=facts, state=state, place=place, findings=findings)


def _triple(triples: Sequence[Triple], target: Target | None) -> Triple:
    """The kind whose runner is asked about: the target's if it can run there, else what the device runs best."""
    return target.runner_triple if target and target.runner_triple in triples else next(iter(triples), TRIPLES[0])


def _machine(facts: DeviceFacts, triples: Sequence[Triple]) -> Iterator[Finding]:
    what = facts.model or "a machine without a device tree"
    cores = f"{facts.cores} x " if facts.cores else ""
    text = f"{what}: {cores}{facts.cpu or 'unknown core'}, {facts.machine}, Linux {facts.kernel or '?'}"
    known = {machine: kind.loader for kind in reversed(KINDS.values()) for machine in kind.machines}
    if facts.machine not in known:
        yield problem(
            "device.machine",
            f"{text}; edgeq has no runner for {facts.machine}",
            "use a 64-bit Arm system on that board, or one of 32 bits on a core of ARMv7 with NEON",
        )
    elif not triples:
        yield problem(
            "device.machine",
            f"{text}; its programs are of another kind: {', '.join(facts.loaders)} is there, and not "
            f"{known[facts.machine]}",
            another_system(facts),
        )
    elif triples == ("arm-linux-gnueabihf",):
        kernel = " under a 64-bit kernel" if facts.machine == "aarch64" else ""
        yield ok("device.machine", f"{text}; 32-bit programs{kernel}: only .onnx, as ExecuTorch has none for them")
    else:
        yield ok("device.machine", text)


def _features(facts: DeviceFacts, target: Target | None, triples: Sequence[Triple]) -> Iterator[Finding]:
    if target and triples and target.triple not in triples:
        yield problem(
            "device.target",
            f"target {target.name} is for {target.triple}, and this device runs {' and '.join(triples)}",
            f"take another target (edgeq targets), such as {KINDS[triples[0]].generic}",
        )
    if not facts.features:
        yield unknown("device.features", "it does not say which features its cores have")
        return
    if facts.machine == "aarch64":
        said = [f"{words} {'yes' if one in facts.features else 'no'}" for one, words in _INT8_FEATURES.items()]
        yield ok("device.features", ", ".join(said))
        if "sme" in facts.features:
            yield warning(
                "device.features",
                "its cores have SME: int8 results of ExecuTorch 1.5.1 were wrong on an emulated core with SVE and SME",
                "trust what `edgeq bench` says of the agreement with the host, and prefer .onnx if it is low",
            )
    missing = missing_features(target, facts) if target else ()
    if target and missing:
        yield warning(
            "device.target",
            f"target {target.name} has {', '.join(missing)}, which this device has not: slower kernels run there",
            "build for another target: edgeq targets",
        )


def _system(facts: DeviceFacts, kind: Kind) -> Iterator[Finding]:
    """The C and C++ libraries that a runner takes from the device."""
    name, _, version = facts.libc.partition(" ")
    if not facts.libc:
        yield unknown("device.libc", f"it does not say which C library it has; edgeq needs glibc {kind.glibc}")
    elif name != "glibc" or version_key(version) < version_key(kind.glibc):
        yield problem(
            "device.libc",
            f"its C library is {facts.libc}, and the runner needs glibc {kind.glibc}",
            "install a newer system there, such as Debian 12 or Raspberry Pi OS of 2023",
        )
    else:
        yield ok("device.libc", f"{facts.libc} (from {kind.glibc} on will do)")
    if not facts.libstdcxx:
        yield unknown("device.libstdcxx", "no libstdc++ was found at the usual places; the runner needs one")
    elif version_key(facts.libstdcxx) < version_key(kind.glibcxx):
        yield problem(
            "device.libstdcxx",
            f"its libstdc++ ends at GLIBCXX_{facts.libstdcxx}, and the runner needs {kind.glibcxx}",
            "update libstdc++6 there",
        )
    else:
        yield ok("device.libstdcxx", f"libstdc++ up to GLIBCXX_{facts.libstdcxx} (from {kind.glibcxx} on will do)")


def _memory(facts: DeviceFacts, state: DeviceState) -> Iterator[Finding]:
    free = state.available_bytes if state.available_bytes is not None else facts.available_bytes
    if facts.ram_bytes is None or free is None:
        yield unknown("device.memory", "it does not say how much memory it has")
        return
    swap = f"{_mb(facts.swap_free_bytes or 0)} of {_mb(facts.swap_bytes)} swap" if facts.swap_bytes else "no swap"
    text = f"{_mb(free)} of {_mb(facts.ram_bytes)} memory are free, {swap}"
    if free < _LEAST_MEMORY_BYTES:
        yield problem("device.memory", text, "end other programs there; a runner alone takes about 30 MB")
    elif free < _ROOMY_MEMORY_BYTES:
        yield warning("device.memory", text, "end other programs there, or take a small model")
    else:
        yield ok("device.memory", text)
    used = (facts.swap_bytes or 0) - (facts.swap_free_bytes or 0)
    if facts.swap_bytes and used > facts.swap_bytes // 4:
        yield warning(
            "device.swap",
            f"{_mb(used)} are swapped out: what is needed again has to be read back while it is measured",
            "end other programs there, then restart it",
        )


def _place(place: Place, device: str) -> Iterator[Finding]:
    where = f"{place.root} (at {place.existing or '?'})"
    elsewhere = _elsewhere(device)
    if place.problem:
        yield problem(
            "device.root", f"{where} cannot be written: {place.problem}", f"{elsewhere}, one that it may write"
        )
    elif place.executes is False:
        yield problem(
            "device.root",
            f"no program in {where} may be started: {place.mount or 'its file system'} is mounted noexec",
            f"{elsewhere}, one on a file system without noexec (`mount` there lists them)",
        )
    elif place.executes is None:
        yield unknown("device.root", f"{where} could not be tried")
    else:
        yield ok("device.root", f"{where} can be written, and programs start there")
    if place.free_bytes is None:
        yield unknown("device.disk", f"it does not say how much room is left for {place.root}")
        return
    text = f"{_mb(place.free_bytes)} are free for {place.root}"
    if place.free_bytes < _STORE_BYTES:
        yield problem(
            "device.disk", f"{text}; runners and a model take about {_mb(_STORE_BYTES)}", f"free some, or {elsewhere}"
        )
    elif place.free_bytes < _ROOMY_STORE_BYTES:
        yield warning("device.disk", text, f"free some, or {elsewhere}")
    else:
        yield ok("device.disk", text)


def _elsewhere(device: str) -> str:
    """How to choose another folder on that device."""
    if device.partition(":")[0] in (LOCAL, BOARD):
        return "set HOME to another folder"
    if device in entries():
        return f'set root = "/a/folder" under [{device}] in {devices_file()}'
    host = device.removeprefix("ssh://").rpartition("@")[2]
    return f'give it a table in {devices_file()}, with host = "{host}" and root = "/a/folder", and use that name'


def _clock(state: DeviceState, facts: DeviceFacts) -> Iterator[Finding]:
    skew = state.clock_skew_s
    if skew is None:
        yield unknown("device.clock", "it does not tell the time")
    elif abs(skew) > _MOST_SKEW_S:
        yield warning(
            "device.clock",
            f"its clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's",
            "restart the emulated board: edgeq board stop, then start"
            if facts.emulated
            else "set it there: sudo timedatectl set-ntp true, or sudo date -u -s @$(date +%s)",
        )
    else:
        yield ok("device.clock", "its clock agrees with this machine's" + (f" ({skew:+.0f} s)" if skew else ""))


def _frequency(facts: DeviceFacts, state: DeviceState) -> Iterator[Finding]:
    clocks = [clock for clock in state.clocks if clock.governor or clock.mhz is not None]
    if not clocks:
        why = "an emulated board has none; nor has its time a meaning" if facts.emulated else "no cpufreq there"
        yield unknown("device.frequency", f"it does not say at which frequency it runs ({why})")
        return
    text = "; ".join(
        f"{clock.name} at {clock.mhz or '?'} of {clock.max_mhz or clock.limit_mhz or '?'} MHz, "
        f"governor {clock.governor or '?'}"
        for clock in clocks
    )
    capped = [one for one in clocks if one.limit_mhz and one.max_mhz and one.limit_mhz < one.max_mhz]
    slow = sorted({one.governor for one in clocks if one.governor and one.governor != "performance"})
    if capped:
        yield warning(
            "device.frequency",
            f"{text}; it may not go beyond {min(one.limit_mhz or 0 for one in capped)} MHz",
            "lift the limit there: cat cpuinfo_max_freq into scaling_max_freq of each "
            "/sys/devices/system/cpu/cpufreq/policy*, as root",
        )
    if slow:
        yield warning(
            "device.governor",
            f"{'' if capped else text + '; '}governor {', '.join(slow)} changes the frequency while it is measured",
            "there, as root: echo performance | tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
        )
    if not capped and not slow:
        yield ok("device.frequency", text)


def _temperature(state: DeviceState, facts: DeviceFacts, target: Target | None) -> Iterator[Finding]:
    if state.celsius is None:
        yield unknown("device.temperature", "it has no sensor" if facts.emulated else "it does not say how hot it is")
        return
    hot = float(target.measuring.max_celsius) if target else _HOT_CELSIUS
    text = f"{state.celsius:.0f} C"
    cool = "give it a fan or a heat sink, let it cool down, then measure"
    if state.celsius >= hot:
        yield warning("device.temperature", f"{text}: from {hot:.0f} C on it slows down", cool)
    elif state.celsius >= hot - _WARM_BELOW_HOT:
        yield warning("device.temperature", f"{text}: close to {hot:.0f} C, where it slows down", cool)
    else:
        yield ok("device.temperature", text)


def _throttling(state: DeviceState, facts: DeviceFacts) -> Iterator[Finding]:
    bits = state.throttled_bits
    now, since = throttled_words(bits or 0)
    told = f" (get_throttled says 0x{bits:x})" if bits is not None else ""
    power = "use the power supply that is made for that board, and a short cable; then restart it"
    cooling = "give it a fan or a heat sink, and restart it"
    remedy = power if "under-voltage" in now + since else cooling
    if now or state.throttled:
        words = ", ".join(now) or "the kernel's thermal governor holds its cores back"
        yield warning("device.throttling", f"it is slowed down now: {words}{told}", remedy)
    elif since:
        yield warning("device.throttling", f"since its start it was slowed down: {', '.join(since)}{told}", remedy)
    elif state.throttled is None:
        why = "an emulated board is never" if facts.emulated else "neither its firmware nor its kernel tells"
        yield unknown("device.throttling", f"it does not say whether it is slowed down ({why})")
    else:
        yield ok("device.throttling", f"it is not slowed down{told}")


def _load(facts: DeviceFacts, state: DeviceState) -> Iterator[Finding]:
    others = [one for one in state.busy if one.share >= BUSY_SHARE]
    if others:
        named = ", ".join(f"{one.name or '?'} ({one.pid}) {one.share:.0%}" for one in others[:5])
        yield warning(
            "device.load",
            f"others are computing there, in parts of one core: {named}",
            f"end them before you measure: kill {' '.join(str(one.pid) for one in others[:5])}, or stop their service",
        )
    elif state.load is None:
        yield unknown("device.load", "it does not say how busy it is")
    elif facts.cores and state.load > facts.cores / 2:
        yield warning(
            "device.load",
            f"load {state.load:.2f} on {facts.cores} cores over the last minute, and nobody is computing now",
            "wait a minute and look again; many short processes show in the load alone",
        )
    else:
        yield ok("device.load", f"load {state.load:.2f}; no other process uses a tenth of a core")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
