"""Where an emulated board is to be reached."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from edgeq.errors import BadListenAddressError

_LAST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class Listening:
    """An IPv4 address of this machine and a port of it for a board's ssh; port 0 lets the kernel choose one."""

    address: str = "127.0.0.1"
    port: int = 0

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.port else self.address

    @property
    def reachable_from_here_only(self) -> bool:
        """Whether no other machine can come that way."""
        return IPv4Address(self.address).is_loopback

    @property
    def reached_at(self) -> str:
        """The address that leads there from this machine: 0.0.0.0 stands for all of its own."""
        return "127.0.0.1" if IPv4Address(self.address).is_unspecified else self.address


def parse_listening(text: str) -> Listening:
    """Read ``ADDRESS`` or ``ADDRESS:PORT``; BadListenAddressError if it is not that.

    QEMU's user network forwards from IPv4 addresses, written as numbers.
    """
    address, colon, port = text.partition(":")
    try:
        IPv4Address(address)
        number = int(port) if colon else 0
    except (AddressValueError, ValueError):
        raise BadListenAddressError(text) from None
    if not 0 <= number <= _LAST_PORT:
        raise BadListenAddressError(text)
    return Listening(address=address, port=number)
