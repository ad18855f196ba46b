"""What edgeq needs of this machine and of a device, whether it is there, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import DeviceError, HostToolError
from edgeq.stages.doctor import device, host
from edgeq.stages.doctor.device import Examined
from edgeq.stages.doctor.finding import Finding, problem
from edgeq.stages.doctor.host import HostFacts
from edgeq.triple import TRIPLES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from edgeq.device.transport import Transport
    from edgeq.target import Target

__all__ = ["Diagnosis", "Examined", "Finding", "HostFacts", "diagnose"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found. ``examined`` is None if no device was named or it could not be asked; findings say why."""

    device: str | None
    host: HostFacts
    findings: tuple[Finding, ...]
    examined: Examined | None = None

    @property
    def exit_code(self) -> int:
        """4 if the device has a problem, else 3 if this machine has, else 0: warnings are no failure."""
        problems = {one.code.partition(".")[0] for one in self.findings if one.severity == "problem"}
        if "device" in problems:
            return DeviceError.exit_code
        return HostToolError.exit_code if problems else 0


def diagnose(name: str | None, *, target: Target | None, way: AbstractContextManager[Transport] | None) -> Diagnosis:
    """Look at this machine, then at the device ``name`` on its ``way``; a way that does not open is a finding.

    ConfigError if there is no device of that name.
    """
    boards = target.runner_triple if target and target.emulation else TRIPLES[0]  # a target without one is no board
    facts, findings = host.examine(name, boards=boards)
    if name is None or way is None:
        return Diagnosis(device=None, host=facts, findings=findings)
    try:
        with way as transport:
            examined = device.examine(transport, name, target=target)
    except (DeviceError, HostToolError) as error:
        code = "device.connection" if isinstance(error, DeviceError) else "host.device"
        said = f"{error.message} ({error.detail.strip().splitlines()[-1]})" if error.detail.strip() else error.message
        return Diagnosis(device=name, host=facts, findings=(*findings, problem(code, said, error.hint)))
    return Diagnosis(device=name, host=facts, findings=(*findings, *examined.findings), examined=examined)
