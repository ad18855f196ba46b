"""How to measure: what the user asked for, else what suits the target and the kind of device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.device.inventory import LOCAL
from edgeq.errors import PaceError
from edgeq.records import Mode, Timing
from edgeq.runner import BACK_TO_BACK, Pace
from edgeq.stats import MIN_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Deployment, DeviceFacts
    from edgeq.target import Target

_MOST_ROUNDS = 10
_EMULATED_WARMUP = 2
"""The first two counts of a process differ; from the third on they are equal."""
_ROUNDS_AT_RATE = MIN_ROUNDS
"""Each begins with an empty queue, so they are few and long."""
_PACED_WARMUP = 3
"""Between two of them the device rests, and each takes as long as the pace says."""
_EMULATED_REPEATS = 5
_EMULATED_BUDGET_S = 60.0
_SILENCE_S: dict[Timing, float] = {"hardware": 120.0, "host": 120.0, "emulated": 600.0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure.

    ``threads`` are the numbers among which each artifact gets its fastest.
    ``samples`` is None for as many as there are, or as ``budget_s`` (None:
    no bound) allows. ``cpus`` are where to run; () leaves it to what is
    known of the cores. With ``force`` an unfit device is measured as well.
    """

    timing: Timing
    artifacts: tuple[str, ...]
    threads: tuple[int, ...]
    warmup: int
    repeats: int
    samples: int | None
    budget_s: float | None
    profile: bool = False
    leak_check: bool = False
    pace: Pace = BACK_TO_BACK
    cpus: tuple[int, ...] = ()
    force: bool = False
    max_celsius: int = 80
    seed: int = 0

    @property
    def rounds(self) -> tuple[int, ...]:
        """How many timed runs each round has. Instructions do not drift: one round counts them."""
        most = _MOST_ROUNDS if self.pace.rate_hz is None else _ROUNDS_AT_RATE
        count = 1 if self.timing == "emulated" else min(most, self.repeats)
        return tuple(self.repeats // count + (index < self.repeats % count) for index in range(count))

    @property
    def mode(self) -> Mode:
        """What the pace is called."""
        if self.pace.rate_hz is not None:
            return "at-rate"
        return "single-shot" if self.pace.pause_ms else "back-to-back"

    @property
    def silence_s(self) -> float:
        """How long one inference may take before the device counts as dead."""
        return _SILENCE_S[self.timing]


def clock_of(device: str, facts: DeviceFacts) -> Timing:
    """Whose clock runs on that device."""
    return "host" if device == LOCAL else "emulated" if facts.emulated else "hardware"


def settings(  # noqa: PLR0913  # the options of a command
    target: Target,
    deployment: Deployment,
    *,
    artifacts: Sequence[str] = (),
    samples: int | None = None,
    repeats: int | None = None,
    threads: Sequence[int] = (),
    profile: bool = False,
    leak_check: bool = False,
    pace: Pace = BACK_TO_BACK,
    cpus: Sequence[int] = (),
    force: bool = False,
) -> Settings:
    """The settings for a deployment; None and () leave a choice to the target and the kind of device.

    Raises PaceError for a pace or CPUs on an emulated board, which has one core and no time.
    """
    timing = clock_of(deployment.device, deployment.device_facts)
    if timing == "emulated" and (pace != BACK_TO_BACK or cpus):
        raise PaceError(
            "a pace or a choice of CPUs is about time, and an emulated board has none",
            hint="measure on a real board or on this machine; leave the option out to count instructions",
        )
    cores = len(set(cpus)) or deployment.device_facts.cores or target.measuring.threads
    return Settings(
        timing=timing,
        artifacts=tuple(artifacts),
        threads=tuple(sorted(set(threads))) or ((1,) if timing == "emulated" else _doubling(cores)),
        warmup=_warmup(target, timing, pace),
        repeats=repeats or (_EMULATED_REPEATS if timing == "emulated" else target.measuring.repeats),
        samples=samples,
        budget_s=_EMULATED_BUDGET_S if timing == "emulated" and samples is None else None,
        profile=profile,
        leak_check=leak_check,
        pace=pace,
        cpus=tuple(sorted(set(cpus))),
        force=force,
        max_celsius=target.measuring.max_celsius,
    )


def _warmup(target: Target, timing: Timing, pace: Pace) -> int:
    if timing == "emulated":
        return _EMULATED_WARMUP
    return target.measuring.warmup if pace == BACK_TO_BACK else min(target.measuring.warmup, _PACED_WARMUP)


def _doubling(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all cores."""
    return (*(1 << power for power in range((cores - 1).bit_length())), cores)
