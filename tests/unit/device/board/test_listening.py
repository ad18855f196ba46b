from __future__ import annotations

import pytest

from edgeq.device.board.listening import Listening, parse_listening
from edgeq.errors import BadListenAddressError


def test_an_address_alone_leaves_the_port_to_the_kernel() -> None:
    assert parse_listening("10.0.0.7") == Listening(address="10.0.0.7", port=0)
    assert parse_listening("0.0.0.0:2222") == Listening(address="0.0.0.0", port=2222)
    assert [str(parse_listening(text)) for text in ("10.0.0.7", "10.0.0.7:22")] == ["10.0.0.7", "10.0.0.7:22"]


@pytest.mark.parametrize(
    "text",
    ["", ":2222", "board", "board:22", "10.0.0", "10.0.0.7:", "10.0.0.7:x", "10.0.0.7:65536", "10.0.0.7:-1", "::1"],
)
def test_what_qemu_cannot_forward_from_is_an_error_that_shows_what_it_can(text: str) -> None:
    with pytest.raises(BadListenAddressError) as caught:
        parse_listening(text)
    assert "--listen 0.0.0.0:2222" in caught.value.hint


def test_only_loopback_is_out_of_reach_for_others() -> None:
    assert Listening().reachable_from_here_only
    assert Listening(address="127.0.0.2").reachable_from_here_only
    assert not Listening(address="0.0.0.0").reachable_from_here_only
    assert not Listening(address="10.0.0.7").reachable_from_here_only


def test_all_addresses_are_reached_through_loopback_and_one_through_itself() -> None:
    assert Listening(address="0.0.0.0").reached_at == "127.0.0.1"
    assert Listening(address="10.0.0.7").reached_at == "10.0.0.7"
