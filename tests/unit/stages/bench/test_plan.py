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


def test_no_more_threads_than_the_device_has_cores() -> None:
    target = replace(sample_target(), bench=replace(sample_target().bench, threads=8))
    deployment = sample_deployment(sample_manifest())
    assert settings(target, deployment).threads == 4
    assert settings(target, deployment, threads=8).threads == 8


@pytest.mark.parametrize(
    ("repeats", "rounds"), [(200, (20,) * 10), (7, (1,) * 7), (23, (3, 3, 3, *(2,) * 7)), (1, (1,))]
)
def test_repeats_are_spread_over_rounds(repeats: int, rounds: tuple[int, ...]) -> None:
    assert _settings(repeats=repeats).rounds == rounds


def test_a_real_device_runs_every_sample() -> None:
    assert _settings().samples_for(10_000, [None, None]) == 10_000
    assert _settings().probes == 0


@pytest.mark.parametrize(
    ("available", "seconds", "expected"),
    [
        (10_000, (0.005, 0.002), 10_000),
        (10_000, (0.015, 0.002), 10_000),
        (10_000, (0.030, 0.002), 2_000),
        (20, (3.5, 1.0), 20),
        (500, (3.5, 1.0), 17),
        (500, (60.0, 1.0), 10),
        (5, (100.0,), 5),
    ],
)
def test_an_emulated_board_runs_what_a_minute_an_artifact_allows(
    available: int, seconds: tuple[float, ...], expected: int
) -> None:
    assert _settings(emulated=True).samples_for(available, seconds) == expected


def test_a_number_of_samples_that_was_asked_for_is_kept() -> None:
    how = _settings(emulated=True, samples=700)
    assert how.samples_for(10_000, (60.0,)) == 700
    assert how.samples_for(300, (60.0,)) == 300
    assert how.probes == 0
