from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeq.errors import PaceError
from edgeq.runner import Pace
from edgeq.stages.bench import Settings, settings
from edgeq.testing import sample_deployment, sample_manifest, sample_target


def _settings(*, emulated: bool = False, device: str = "fake", **options: int) -> Settings:
    deployment = sample_deployment(sample_manifest(), emulated=emulated, device=device)
    return settings(sample_target(), deployment, **options)  # type: ignore[arg-type]


def test_the_kind_of_clock_follows_from_the_device() -> None:
    assert _settings().timing == "hardware"
    assert _settings(emulated=True).timing == "emulated"
    assert _settings(device="local").timing == "host"


@pytest.mark.parametrize(("cores", "tried"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (6, (1, 2, 4, 6))])
def test_threads_are_tried_up_to_the_cores_of_the_device(cores: int, tried: tuple[int, ...]) -> None:
    deployment = sample_deployment(sample_manifest())
    deployment = replace(deployment, device_facts=replace(deployment.device_facts, cores=cores))
    assert settings(sample_target(), deployment).threads == tried


def test_a_device_that_does_not_say_its_cores_is_taken_for_the_targets() -> None:
    target = replace(sample_target(), bench=replace(sample_target().bench, threads=2))
    deployment = sample_deployment(sample_manifest())
    deployment = replace(deployment, device_facts=replace(deployment.device_facts, cores=None))
    assert settings(target, deployment).threads == (1, 2)


def test_threads_that_were_asked_for_are_tried_once_each() -> None:
    deployment = sample_deployment(sample_manifest())
    assert settings(sample_target(), deployment, threads=(8, 1, 8)).threads == (1, 8)


def test_an_emulated_board_has_one_thread_as_its_instructions_are_counted() -> None:
    assert _settings(emulated=True).threads == (1,)


@pytest.mark.parametrize(
    ("repeats", "rounds"), [(200, (20,) * 10), (7, (1,) * 7), (23, (3, 3, 3, *(2,) * 7)), (1, (1,))]
)
def test_repeats_are_spread_over_rounds(repeats: int, rounds: tuple[int, ...]) -> None:
    assert _settings(repeats=repeats).rounds == rounds


def test_only_an_emulated_board_has_a_budget_unless_a_number_of_samples_was_asked_for() -> None:
    assert _settings().budget_s is None
    assert _settings(emulated=True).budget_s == 60
    assert _settings(emulated=True, samples=700).budget_s is None


def test_the_mode_follows_from_the_pace() -> None:
    deployment = sample_deployment(sample_manifest())
    modes = [
        settings(sample_target(), deployment, pace=pace).mode
        for pace in (Pace(), Pace(pause_ms=100), Pace(rate_hz=20.0))
    ]
    assert modes == ["back-to-back", "single-shot", "at-rate"]


def test_at_a_rate_rounds_are_few_and_long_as_each_begins_with_an_empty_queue() -> None:
    deployment = sample_deployment(sample_manifest())
    assert settings(sample_target(), deployment, repeats=200, pace=Pace(rate_hz=20.0)).rounds == (40,) * 5


def test_at_a_pace_little_is_warmed_up() -> None:
    target = replace(sample_target(), bench=replace(sample_target().bench, warmup=10))
    deployment = sample_deployment(sample_manifest())
    warmups = [settings(target, deployment, pace=pace).warmup for pace in (Pace(), Pace(pause_ms=9), Pace(rate_hz=1.0))]
    assert warmups == [10, 3, 3]


def test_threads_are_tried_up_to_the_cpus_that_were_asked_for() -> None:
    deployment = sample_deployment(sample_manifest())
    made = settings(sample_target(), deployment, cpus=(5, 4, 5))
    assert (made.cpus, made.threads) == ((4, 5), (1, 2))


@pytest.mark.parametrize("options", [{"pace": Pace(pause_ms=5)}, {"pace": Pace(rate_hz=5.0)}, {"cpus": (0,)}])
def test_an_emulated_board_has_no_time_to_keep_a_pace_in(options: dict[str, Any]) -> None:
    deployment = sample_deployment(sample_manifest(), emulated=True)
    with pytest.raises(PaceError) as caught:
        settings(sample_target(), deployment, **options)
    assert caught.value.exit_code == 2
