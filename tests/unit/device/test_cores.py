from __future__ import annotations

import pytest

from edgeq.device.cores import CORES_SCRIPT, Core, Pinning, pinning, read_cores
from edgeq.device.local import LocalTransport
from edgeq.device.transport import Completed


def _cores(*speeds: int | None) -> tuple[Core, ...]:
    return tuple(Core(cpu=cpu, speed=speed) for cpu, speed in enumerate(speeds))


RK3588 = _cores(530, 530, 530, 530, 1024, 1024, 1024, 1024)
SNAPDRAGON_865 = _cores(*(4 * (1_804_800,)), *(3 * (2_419_200,)), 2_841_600)


class Says(LocalTransport):
    """A device that answers each question with the same text."""

    text = ""

    def run(self, argv: object, **_: object) -> Completed:
        del argv
        return Completed(status=0, stdout=self.text.encode(), stderr=b"")


@pytest.mark.parametrize(
    ("cores", "threads", "cpus"),
    [
        (RK3588, 1, (4, 5, 6, 7)),
        (RK3588, 4, (4, 5, 6, 7)),
        (SNAPDRAGON_865, 1, (7,)),
        (SNAPDRAGON_865, 2, (4, 5, 6, 7)),
        (SNAPDRAGON_865, 4, (4, 5, 6, 7)),
        (_cores(1024, 1000, 980, 500), 2, (0, 1, 2)),
    ],
)
def test_threads_run_on_the_fastest_kind_that_has_a_core_for_each(
    cores: tuple[Core, ...], threads: int, cpus: tuple[int, ...]
) -> None:
    chosen = pinning(cores, threads)

    assert chosen.cpus == cpus
    assert chosen.why == f"the fastest {len(cpus)} of {len(cores)} cores"


@pytest.mark.parametrize(
    ("cores", "threads", "why"),
    [
        (_cores(1024, 1024, 1024, 1024), 2, "alike"),
        (_cores(5_100_000, 4_900_000), 1, "alike"),
        (_cores(None, None), 1, "does not say"),
        (_cores(1024, None), 1, "does not say"),
        ((), 1, "does not say"),
        (RK3588, 8, "more than it has fast cores"),
        (RK3588, 5, "more than it has fast cores"),
    ],
)
def test_where_there_is_nothing_to_choose_nothing_is_pinned_and_it_says_why(
    cores: tuple[Core, ...], threads: int, why: str
) -> None:
    chosen = pinning(cores, threads)

    assert chosen.cpus == ()
    assert chosen.why.startswith("not pinned: ")
    assert why in chosen.why


def test_what_is_asked_for_wins() -> None:
    assert pinning(RK3588, 1, asked=(0, 2)) == Pinning(cpus=(0, 2), why="as asked for")


def test_the_schedulers_capacity_counts_more_than_the_frequency() -> None:
    device = Says(".")
    device.text = "core 10 1024 1500000\ncore 0 460 1900000\nsomething else\ncore x 1 1\n"

    assert read_cores(device) == (Core(cpu=0, speed=460), Core(cpu=10, speed=1024))


def test_without_a_capacity_the_frequency_counts() -> None:
    device = Says(".")
    device.text = "core 0 - 1900000\ncore 1 1024 2200000\ncore 2 - -\n"

    assert read_cores(device) == (
        Core(cpu=0, speed=1_900_000),
        Core(cpu=1, speed=2_200_000),
        Core(cpu=2, speed=None),
    )


def test_this_machine_has_cores(tmp_path: object) -> None:
    cores = read_cores(LocalTransport(tmp_path))  # type: ignore[arg-type]

    assert cores
    assert len({core.cpu for core in cores}) == len(cores)
    assert "cpu_capacity" in CORES_SCRIPT
