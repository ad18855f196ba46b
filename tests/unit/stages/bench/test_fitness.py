from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.device.health import HEALTH_SCRIPT
from edgeq.errors import UnfitDeviceError
from edgeq.progress import Silent
from edgeq.records import BusyProcess, Clock, DeviceState, Timing
from edgeq.stages.bench.fitness import clock_moved, fit_state, unfit
from edgeq.stages.bench.plan import Settings
from edgeq.testing import FakeTransport, sample_facts

if TYPE_CHECKING:
    from pathlib import Path

FACTS = replace(sample_facts(), ram_bytes=4 << 30, swap_bytes=1 << 30)
WELL = DeviceState(
    celsius=50.0, throttled=False, available_bytes=3 << 30, swap_free_bytes=1 << 30, load=0.1, cpu_share=0.02
)
BUSY = """now 1
load 3.9
sample
cpu 100 0 0 100 0 0 0 0
cpu0 0
7 (stress) R 1 0 0 0 0 0 0 0 0 0 100 0 0
sample
cpu 190 0 0 110 0 0 0 0
cpu0 0
7 (stress) R 1 0 0 0 0 0 0 0 0 0 190 0 0
"""


def _how(timing: Timing = "hardware", **changes: Any) -> Settings:
    plain = Settings(
        timing=timing, artifacts=(), threads=(1,), warmup=1, repeats=20, samples=None, budget_s=None, max_celsius=80
    )
    return replace(plain, **changes)


def _kinds(state: DeviceState, timing: Timing = "hardware") -> list[str]:
    return [one.kind for one in unfit(state, FACTS, _how(timing))]


def test_a_device_that_is_well_is_fit() -> None:
    assert _kinds(WELL) == []
    assert _kinds(DeviceState()) == []


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"throttled": True, "throttled_bits": 0x4}, ["throttled"]),
        ({"throttled": True}, ["throttled"]),
        ({"throttled": False, "throttled_bits": 0x50000}, []),
        ({"celsius": 80.0}, ["hot"]),
        ({"celsius": 79.9}, []),
        ({"cpu_share": 0.25}, ["busy"]),
        ({"cpu_share": 0.2}, []),
        ({"swap_free_bytes": 900 << 20}, []),
        ({"available_bytes": 100 << 20}, []),
        ({"swap_free_bytes": 900 << 20, "available_bytes": 100 << 20}, ["swapping"]),
    ],
)
def test_each_reason_has_its_bound(changes: dict[str, Any], kinds: list[str]) -> None:
    assert _kinds(replace(WELL, **changes)) == kinds


def test_a_machine_that_people_work_at_may_be_half_busy_and_warm() -> None:
    assert _kinds(replace(WELL, cpu_share=0.45, celsius=85.0), "host") == []
    assert _kinds(replace(WELL, cpu_share=0.55), "host") == ["busy"]


def test_an_emulated_board_is_always_fit() -> None:
    assert _kinds(replace(WELL, throttled=True, cpu_share=1.0, celsius=100.0), "emulated") == []


def test_a_reason_names_who_computes_and_a_remedy() -> None:
    state = replace(WELL, cpu_share=0.5, busy=(BusyProcess(pid=7, name="updater", share=1.9),))
    (found,) = unfit(state, FACTS, _how())

    assert found.reason == "others use 50% of its processors, more than 20%: updater (7)"
    assert found.remedy


@pytest.mark.parametrize(
    ("governor", "khz", "moved"),
    [
        ("ondemand", (1_800_000, 1_500_000), True),
        ("ondemand", (1_800_000, 1_700_000), False),
        ("performance", (1_800_000, 1_500_000), False),
        ("ondemand", (None, 1_500_000), False),
        ("ondemand", (), False),
        ("", (1_800_000, 1_500_000), False),
    ],
)
def test_a_clock_that_moves_under_load_is_told_by_its_governor_and_its_reach(
    governor: str, khz: tuple[int | None, ...], *, moved: bool
) -> None:
    state = replace(WELL, clocks=(Clock(name="policy0", governor=governor),))

    assert bool(list(clock_moved(khz, state, _how()))) is moved
    assert not list(clock_moved(khz, state, _how("emulated")))


def test_an_unfit_device_is_refused_with_the_reason_and_the_remedy(tmp_path: Path) -> None:
    device = FakeTransport(tmp_path, health=BUSY)

    with pytest.raises(UnfitDeviceError) as caught:
        fit_state(device, FACTS, _how(), progress=Silent())

    assert caught.value.exit_code == 4
    assert "others use 90% of its processors" in caught.value.message
    assert "stress (7)" in caught.value.message
    assert "--force" in caught.value.hint
    assert sum(HEALTH_SCRIPT in argv for argv in device.ran) == 3  # a burst that ends is waited for


def test_with_force_it_is_measured_and_the_reason_is_kept(tmp_path: Path) -> None:
    _, found = fit_state(FakeTransport(tmp_path, health=BUSY), FACTS, _how(force=True), progress=Silent())

    assert [one.kind for one in found] == ["busy"]
