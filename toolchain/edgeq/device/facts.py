"""What a device says of itself: read by one small shell script, never guessed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeq.errors import NotAPosixDeviceError
from edgeq.records import DeviceFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeq.device.transport import Transport

FACTS_SCRIPT = r"""
section() { echo "=== $1"; }
section machine; machine=$(uname -m); echo "$machine"
section kernel; uname -r
unset OMP_NUM_THREADS OMP_THREAD_LIMIT  # GNU's nproc would tell these instead of the cores
section cores; nproc 2>/dev/null
section model
{ tr -d '\000' < /proc/device-tree/model || getprop ro.product.model; } 2>/dev/null; echo
section governor; cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null
section memory; cat /proc/meminfo 2>/dev/null
section libc
getconf GNU_LIBC_VERSION 2>/dev/null || for file in /lib/*/libc.so.6 /lib64/libc.so.6 /lib/libc.so.6; do
  if [ -x "$file" ]; then "$file" 2>/dev/null; break; fi
done
for file in /lib/ld-musl-*.so.1; do
  if [ -x "$file" ]; then "$file" 2>&1; fi
done
section libstdcxx
for folder in "/usr/lib/$machine-linux-gnu" /usr/lib/arm-linux-gnueabihf /usr/lib64 /usr/lib /lib \
  "/usr/local/lib/$machine-linux-gnu" /usr/local/lib64 /usr/local/lib; do
  if [ -e "$folder/libstdc++.so.6" ]; then readlink -f "$folder/libstdc++.so.6"; fi
done
section loaders
for file in /lib/ld-linux*.so* /lib64/ld-linux*.so* /lib/ld-musl-*.so* /system/bin/linker64; do
  if [ -e "$file" ]; then echo "$file"; fi
done
section frequency
for file in /sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq; do
  if [ -r "$file" ]; then cat "$file"; fi
done
section cpu; cat /proc/cpuinfo 2>/dev/null
exit 0
"""

EMULATED_MODELS = frozenset({"linux,dummy-virt"})
"""What QEMU's ``virt`` machine calls itself in its device tree."""

_PARTS = {
    (0x41, 0xB76): "arm1176",
    (0x41, 0xC05): "cortex-a5",
    (0x41, 0xC07): "cortex-a7",
    (0x41, 0xC08): "cortex-a8",
    (0x41, 0xC09): "cortex-a9",
    (0x41, 0xC0D): "cortex-a12",
    (0x41, 0xC0E): "cortex-a17",
    (0x41, 0xC0F): "cortex-a15",
    (0x41, 0xD01): "cortex-a32",
    (0x41, 0xD02): "cortex-a34",
    (0x41, 0xD03): "cortex-a53",
    (0x41, 0xD04): "cortex-a35",
    (0x41, 0xD05): "cortex-a55",
    (0x41, 0xD06): "cortex-a65",
    (0x41, 0xD07): "cortex-a57",
    (0x41, 0xD08): "cortex-a72",
    (0x41, 0xD09): "cortex-a73",
    (0x41, 0xD0A): "cortex-a75",
    (0x41, 0xD0B): "cortex-a76",
    (0x41, 0xD0C): "neoverse-n1",
    (0x41, 0xD0D): "cortex-a77",
    (0x41, 0xD0E): "cortex-a76ae",
    (0x41, 0xD40): "neoverse-v1",
    (0x41, 0xD41): "cortex-a78",
    (0x41, 0xD42): "cortex-a78ae",
    (0x41, 0xD44): "cortex-x1",
    (0x41, 0xD46): "cortex-a510",
    (0x41, 0xD47): "cortex-a710",
    (0x41, 0xD48): "cortex-x2",
    (0x41, 0xD49): "neoverse-n2",
    (0x41, 0xD4B): "cortex-a78c",
    (0x41, 0xD4D): "cortex-a715",
    (0x41, 0xD4E): "cortex-x3",
    (0x41, 0xD4F): "neoverse-v2",
    (0x41, 0xD80): "cortex-a520",
    (0x41, 0xD81): "cortex-a720",
    (0x41, 0xD82): "cortex-x4",
}
"""(implementer, part) of MIDR, as Linux prints it: asm/cputype.h of arch/arm and arch/arm64."""


def read_facts(transport: Transport) -> DeviceFacts:
    """Ask the device; what it does not say stays empty or None."""
    done = transport.run(["/bin/sh", "-c", FACTS_SCRIPT], timeout_s=30.0)
    sections = _sections(done.stdout.decode(errors="replace"))
    if not sections.get("machine"):
        raise NotAPosixDeviceError(transport.name, done.stderr.decode(errors="replace"))
    model = sections.get("model", "")
    processors, memory = _processors(sections.get("cpu", "")), sections.get("memory", "")
    return DeviceFacts(
        model=model,
        machine=sections["machine"],
        cpu=" + ".join(dict.fromkeys(name for name in map(_cpu, processors) if name)),
        features=_features(processors),
        cores=number(sections.get("cores", "")),
        kernel=sections.get("kernel", ""),
        libc=_libc(sections.get("libc", "")),
        governor=sections.get("governor", ""),
        ram_bytes=meminfo_bytes(memory, "MemTotal"),
        emulated=model in EMULATED_MODELS,
        libstdcxx=_libstdcxx(sections.get("libstdcxx", "")),
        loaders=tuple(sections.get("loaders", "").split()),
        max_mhz=_highest_mhz(sections.get("frequency", "")),
        available_bytes=meminfo_bytes(memory, "MemAvailable"),
        swap_bytes=meminfo_bytes(memory, "SwapTotal"),
        swap_free_bytes=meminfo_bytes(memory, "SwapFree"),
    )


def _sections(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("=== "):
            lines = found.setdefault(line[4:], [])
        else:
            lines.append(line)
    return {name: "\n".join(part).strip() for name, part in found.items()}


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """One dictionary for each paragraph of /proc/cpuinfo."""
    paragraphs = []
    for paragraph in cpuinfo.split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        fields = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in fields:
            paragraphs.append(fields)
    return paragraphs


def _cpu(processor: Mapping[str, str]) -> str:
    """The core's name; its numbers where the name is not known."""
    if "CPU part" not in processor:
        return processor.get("model name", "")
    implementer, part = processor.get("CPU implementer", ""), processor["CPU part"]
    try:
        return _PARTS[int(implementer, 16), int(part, 16)]
    except (KeyError, ValueError):
        return f"implementer {implementer} part {part}"


def _features(processors: list[dict[str, str]]) -> tuple[str, ...]:
    """What every core has."""
    each = [set((fields.get("Features") or fields.get("flags") or "").split()) for fields in processors]
    return tuple(sorted(set.intersection(*each))) if each else ()


def _libc(text: str) -> str:
    """Turn "glibc 2.36", or what the C library says of itself, into "glibc 2.36" or "musl 1.2.3"."""
    found = re.search(r"^glibc (\d+\.\d+)|GNU C Library .*?version (\d+\.\d+)", text, re.MULTILINE)
    if found:
        return f"glibc {found[1] or found[2]}"
    found = re.search(r"^musl libc.*\nVersion (\d+(?:\.\d+)+)", text, re.MULTILINE)
    return f"musl {found[1]}" if found else ""


def _libstdcxx(paths: str) -> str:
    """The newest GLIBCXX of any C++ library there, from the files' names: libstdc++.so.6.0.N has up to 3.4.N.

    Source: "ABI Policy and Guidelines" of the GNU C++ library's manual, which
    pairs the two in a table since GCC 3.4.0.
    """
    found = [int(number) for number in re.findall(r"libstdc\+\+\.so\.6\.0\.(\d+)$", paths, re.MULTILINE)]
    return f"3.4.{max(found)}" if found else ""


def _highest_mhz(text: str) -> int | None:
    return max((int(line) // 1000 for line in text.split() if line.isdecimal()), default=None)


def meminfo_bytes(text: str, key: str) -> int | None:
    """The value of a line of /proc/meminfo, None without it."""
    found = re.search(rf"^{key}:\s*(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def number(text: str) -> int | None:
    """An integer, None for any other text."""
    return int(text) if re.fullmatch(r"-?\d+", text) else None
