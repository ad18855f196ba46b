"""How to measure: what the user asked for, else what suits the target and the kind of device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.device.inventory import LOCAL
from edgeq.records import Timing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Deployment
    from edgeq.target import Target

_MOST_ROUNDS = 10
_EMULATED_WARMUP = 2
"""The first two counts of a process differ; from the third on they are equal."""
_EMULATED_REPEATS = 5
_EMULATED_BUDGET_S = 60.0
_SILENCE_S: dict[Timing, float] = {"hardware": 120.0, "host": 120.0, "emulated": 600.0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure.

    ``threads`` are the numbers among which each artifact gets its fastest.
    ``samples`` is None for as many as there are, or as ``budget_s`` (None:
    no bound) allows.
    """

    timing: Timing
    artifacts: tuple[str, ...]
    threads: tuple[int, ...]
    warmup: int
    repeats: int
    samples: int | None
    budget_s: float | None
    profile: bool = False
    seed: int = 0

    @property
    def rounds(self) -> tuple[int, ...]:
        """How many timed runs each round has. Instructions do not drift: one round counts them."""
        count = 1 if self.timing == "emulated" else min(_MOST_ROUNDS, self.repeats)
        return tuple(self.repeats // count + (index < self.repeats % count) for index in range(count))

    @property
    def silence_s(self) -> float:
        """How long one inference may take before the device counts as dead."""
        return _SILENCE_S[self.timing]


def settings(  # noqa: PLR0913  # the options of a command
    target: Target,
    deployment: Deployment,
    *,
    artifacts: Sequence[str] = (),
    samples: int | None = None,
    repeats: int | None = None,
    threads: Sequence[int] = (),
    profile: bool = False,
) -> Settings:
    """The settings for a deployment; None and () leave a choice to the target and the kind of device."""
    emulated = deployment.device_facts.emulated
    timing: Timing = "host" if deployment.device == LOCAL else "emulated" if emulated else "hardware"
    cores = deployment.device_facts.cores or target.bench.threads
    return Settings(
        timing=timing,
        artifacts=tuple(artifacts),
        threads=tuple(sorted(set(threads))) or ((1,) if timing == "emulated" else _doubling(cores)),
        warmup=_EMULATED_WARMUP if timing == "emulated" else target.bench.warmup,
        repeats=repeats or (_EMULATED_REPEATS if timing == "emulated" else target.bench.repeats),
        samples=samples,
        budget_s=_EMULATED_BUDGET_S if timing == "emulated" and samples is None else None,
        profile=profile,
    )


def _doubling(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all cores."""
    return (*(1 << power for power in range((cores - 1).bit_length())), cores)
