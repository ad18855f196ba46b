from __future__ import annotations

from dataclasses import replace

import pytest

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
