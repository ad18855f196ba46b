"""The machine that QEMU plays, and starting it.

One core and ``-icount shift=1,sleep=on``: the guest's clock then counts
instructions while it works and follows the host's while it idles, and its
performance monitor counts retired instructions that are the same from run to
run. A fixed shift is needed for the counter, ``sleep=on`` for network
time-outs to keep their length.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from edgeq.device.board.qmp import QmpError
from edgeq.device.board.systems import SYSTEMS
from edgeq.errors import MissingToolError, NoEmulationError

if TYPE_CHECKING:
    from edgeq.device.board.image import Image
    from edgeq.device.board.listening import Listening
    from edgeq.device.board.qmp import Qmp
    from edgeq.device.board.registry import Claim
    from edgeq.target import Emulation, Target

PROGRAM = "qemu-system-aarch64"
PROGRAMS = ((PROGRAM, "qemu-system-arm"), ("zstd", "zstd"), ("setpriv", "util-linux"))
"""What a board needs on this machine, each with its Debian package."""
GUEST_SSH_PORT = 22
OUTPUT_LOG = "qemu.log"
_children: list[subprocess.Popen[bytes]] = []
"""The QEMUs that this process started and has not seen end: it may leave them running."""
_MACHINES = ("virt",)
_LEAST_RAM_MIB = 256
_KERNEL_ARGUMENTS = "console=ttyAMA0 panic=-1 loglevel=3"
_FIXED = (
    *("-nodefaults", "-no-user-config", "-no-reboot"),
    *("-display", "none"),
    *("-smp", "1"),
    *("-icount", "shift=1,sleep=on"),
    *("-device", "virtio-net-device,netdev=net"),
    *("-append", _KERNEL_ARGUMENTS),
)


def emulation_of(target: Target) -> Emulation:
    """How ``target`` is emulated; NoEmulationError if it is not, or not in a way that works here."""
    emulation = target.emulation
    if emulation is None:
        raise NoEmulationError(target.name, "its file has no [emulation]")
    if emulation.machine not in _MACHINES:
        raise NoEmulationError(
            target.name,
            f"emulation.machine is {emulation.machine!r}, and the image boots on {', '.join(_MACHINES)} only",
        )
    if SYSTEMS[emulation.system].triple != target.triple:
        fitting = " or ".join(repr(name) for name, system in SYSTEMS.items() if system.triple == target.triple)
        raise NoEmulationError(
            target.name,
            f"emulation.system is {emulation.system!r}, whose programs are not for {target.triple}"
            + (f"; {fitting} fits" if fitting else ""),
        )
    if emulation.ram_mib < _LEAST_RAM_MIB:
        raise NoEmulationError(target.name, f"emulation.ram_mib is below {_LEAST_RAM_MIB}")
    return emulation


def require_programs() -> None:
    """Raise MissingToolError unless all programs that a board needs are on this machine."""
    for program, package in PROGRAMS:
        if shutil.which(program) is None:
            raise MissingToolError(program, needed_for="the emulated board", package=package)


def fingerprint(emulation: Emulation, image: Image) -> str:
    """Stands for all that a snapshot depends on: the build of QEMU, the image and the machine."""
    version = subprocess.run((PROGRAM, "--version"), capture_output=True, text=True, check=False).stdout
    return hashlib.sha256(repr((version, image.sha256, _machine(emulation))).encode()).hexdigest()


def arguments(  # noqa: PLR0913  # each is one side of the machine
    emulation: Emulation,
    image: Image,
    listening: Listening,
    *,
    marker: str,
    console_fd: int,
    monitor_fd: int,
    incoming_fd: int | None,
) -> tuple[str, ...]:
    """The command line, to be run in the board's folder.

    The sockets of the console and the monitor are inherited. The port of
    ssh, unless ``listening`` names one, is chosen by the kernel when QEMU
    opens it, so that no two boards can ask for the same one;
    :func:`ssh_port` reads it back. ``marker`` is found again in the list of
    processes.
    """
    forward = f"tcp:{listening.address}:{listening.port}-:{GUEST_SSH_PORT}"
    return (
        *(PROGRAM, "-name", marker),
        *_machine(emulation),
        *("-kernel", str(image.kernel.absolute()), "-initrd", str(image.root.absolute())),
        *("-netdev", f"user,id=net,restrict=on,ipv6=off,hostfwd={forward}"),
        *("-chardev", f"socket,id=console,fd={console_fd},server=on,wait=off,logfile=serial.log"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=monitor,fd={monitor_fd},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=control"),
        *(() if incoming_fd is None else ("-incoming", f"fd:{incoming_fd}")),
    )


def spawn(  # noqa: PLR0913  # each is one side of the machine
    emulation: Emulation,
    image: Image,
    listening: Listening,
    claim: Claim,
    *,
    incoming_fd: int | None,
    ends_with_caller: bool,
) -> subprocess.Popen[bytes]:
    """Start QEMU in the claimed folder, in a session of its own so that Ctrl-C does not reach it.

    ``incoming_fd`` is where a snapshot comes from. With
    ``ends_with_caller`` the kernel kills it when the calling thread ends,
    by whatever means: edgeq cannot clean up after a ``kill -9`` itself.
    """
    console, monitor = claim.console.fileno(), claim.monitor.fileno()
    argv = arguments(
        emulation,
        image,
        listening,
        marker=claim.marker,
        console_fd=console,
        monitor_fd=monitor,
        incoming_fd=incoming_fd,
    )
    tether = ("setpriv", "--pdeathsig", "KILL", "--") if ends_with_caller else ()
    inherited = (claim.lock.fileno(), console, monitor, *(() if incoming_fd is None else (incoming_fd,)))
    reap()
    with (claim.folder / OUTPUT_LOG).open("wb") as output:
        process = subprocess.Popen(
            (*tether, *argv),
            cwd=claim.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
            start_new_session=True,
        )
    _children.append(process)
    return process


def reap() -> None:
    """Take note of those of this process's QEMUs that have ended, so that no entry of them stays in /proc."""
    _children[:] = [process for process in _children if process.poll() is None]


def ssh_port(monitor: Qmp) -> int:
    """The port of this machine that leads to the guest's ssh."""
    table = str(monitor.execute("human-monitor-command", {"command-line": "info usernet"}))
    found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s", table)
    if found is None:
        raise QmpError(f"no forwarded port in {table!r}")
    return int(found[1])


def _machine(emulation: Emulation) -> tuple[str, ...]:
    return ("-machine", emulation.machine, "-cpu", emulation.cpu, "-m", str(emulation.ram_mib), *_FIXED)
