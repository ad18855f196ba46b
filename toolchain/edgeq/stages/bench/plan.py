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
_BUDGET_STRETCH = 3.0
_FEWEST_SAMPLES = 10
_PROBES = 8
_SILENCE_S: dict[Timing, float] = {"hardware": 120.0, "host": 120.0, "emulated": 600.0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure. ``samples`` is None for as many as there are, or as ``budget_s`` an artifact allows."""

    timing: Timing
    artifacts: tuple[str, ...]
    threads: int
    warmup: int
    repeats: int
    samples: int | None
    budget_s: float | None
    seed: int = 0

    @property
    def rounds(self) -> tuple[int, ...]:
        """How many timed runs each round has. Instructions do not drift: one round counts them."""
        count = 1 if self.timing == "emulated" else min(_MOST_ROUNDS, self.repeats)
        return tuple(self.repeats // count + (index < self.repeats % count) for index in range(count))

    @property
    def probes(self) -> int:
        """How many samples to run beside the timing, to see how long one takes from here."""
        return _PROBES if self.budget_s is not None and self.samples is None else 0

    @property
    def silence_s(self) -> float:
        """How long one inference may take before the device counts as dead."""
        return _SILENCE_S[self.timing]

    def samples_for(self, available: int, probed_s: Sequence[float | None]) -> int:
        """How many of the ``available`` samples every artifact runs, given the seconds one sample took each.

        The same number for all, as they are compared sample by sample.
        """
        if self.samples is not None:
            return min(self.samples, available)
        slowest = max((seconds for seconds in probed_s if seconds is not None), default=0.0)
        if self.budget_s is None or available * slowest <= _BUDGET_STRETCH * self.budget_s:
            return available
        return min(available, max(_FEWEST_SAMPLES, int(self.budget_s / slowest)))


def settings(  # noqa: PLR0913  # the options of a command
    target: Target,
    deployment: Deployment,
    *,
    artifacts: Sequence[str] = (),
    samples: int | None = None,
    repeats: int | None = None,
    threads: int | None = None,
) -> Settings:
    """The settings for a deployment; None and () leave a choice to the target and the kind of device."""
    emulated = deployment.device_facts.emulated
    timing: Timing = "host" if deployment.device == LOCAL else "emulated" if emulated else "hardware"
    cores = deployment.device_facts.cores or target.bench.threads
    return Settings(
        timing=timing,
        artifacts=tuple(artifacts),
        threads=threads or (1 if timing == "emulated" else min(target.bench.threads, cores)),
        warmup=_EMULATED_WARMUP if timing == "emulated" else target.bench.warmup,
        repeats=repeats or (_EMULATED_REPEATS if timing == "emulated" else target.bench.repeats),
        samples=samples,
        budget_s=_EMULATED_BUDGET_S if timing == "emulated" else None,
    )
