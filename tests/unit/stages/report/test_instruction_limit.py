from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeq.records import DeviceFacts
from edgeq.stages.report.instruction_limit import int8_macs, least_instructions
from edgeq.testing import sample_artifact

A72 = ("fp", "asimd", "crc32")
A76 = (*A72, "asimddp")


@pytest.mark.parametrize(("features", "macs"), [(A72, 8), (A76, 16), ((*A76, "i8mm"), 32), ((), 8)])
def test_how_many_bytes_an_instruction_multiplies_is_the_features_to_say(features: tuple[str, ...], macs: int) -> None:
    assert int8_macs(features) == macs


@pytest.mark.parametrize(
    ("network", "macs", "features", "retired", "share"),
    [
        ("MobileNetV2", 300_774_272, A72, 115_900_000, 0.32),
        ("MobileNetV2", 300_774_272, A76, 51_300_000, 0.37),
        ("ResNet-18", 1_814_073_344, A72, 579_800_000, 0.39),
        ("ResNet-18", 1_814_073_344, A76, 172_600_000, 0.66),
    ],
)
def test_stock_int8_files_reach_the_known_shares_of_the_limit(
    network: str, macs: int, features: tuple[str, ...], retired: int, share: float
) -> None:
    what = replace(sample_artifact("int8-static"), name=network, macs=macs, int8_mac_share=1.0)
    assert least_instructions(what, features) / retired == pytest.approx(share, abs=0.005)


def test_what_stays_float_takes_an_instruction_for_four() -> None:
    assert least_instructions(sample_artifact("fp32"), A76) == 250_000
    mixed = replace(sample_artifact("int8-static"), int8_mac_share=0.5)
    assert least_instructions(mixed, A72) == 62_500 + 125_000


def test_a_row_has_its_share_of_the_limit_on_an_emulated_board_alone(given: Any) -> None:
    board, pi = (given.report(device).rows[1] for device in ("board", "pi"))
    assert board.instruction_limit_share == pytest.approx(board.least_instructions / board.instructions)
    assert (pi.instructions, pi.least_instructions, pi.instruction_limit_share) == (None, None, None)


def test_the_same_file_is_held_against_the_core_that_it_ran_on(given: Any) -> None:
    what = given.manifest().artifacts[2]
    facts = DeviceFacts(cpu="cortex-a76", machine="aarch64", cores=1, emulated=True, features=A76)
    rows = tuple(given.measurement(what, wrong=set(), device_facts=one) for one in (DeviceFacts(features=A72), facts))
    slow, fast = (given.report(rows=(row,)).rows[0] for row in rows)
    assert slow.least_instructions == pytest.approx(2 * fast.least_instructions, rel=0.01)
