from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.device.board.lifecycle import _default_name, logs, running, stop
from edgeq.device.board.registry import board_folder
from edgeq.errors import BoardNotRunningError
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["rpi4", "my board", "..", "-x", "", "\N{GREEK SMALL LETTER PI}", "x" * 200])
def test_a_target_of_any_name_gives_a_board_a_name_that_it_can_have(name: str) -> None:
    assert board_folder(_default_name(replace(load_target("rpi4"), name=name)) + "-0123abcd")


def test_without_boards_there_is_nothing_to_list_stop_or_read() -> None:
    assert running() == ()
    for function in (stop, logs):
        with pytest.raises(BoardNotRunningError) as caught:
            function("rpi4")
        assert caught.value.hint == "start one: edgeq board start rpi4"
