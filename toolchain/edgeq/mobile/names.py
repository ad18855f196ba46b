"""Identifiers made of names that were not meant to be any."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable


def camel(text: str, keywords: Container[str] = ()) -> str:
    """``int8-static.pte`` as ``int8StaticPte``; with ``value`` before a digit, one of ``keywords`` or nothing."""
    first, *others = re.findall(r"[A-Za-z0-9]+", text) or [""]
    name = first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in others)
    return name if name[:1].isalpha() and name not in keywords else f"value{name[:1].upper()}{name[1:]}"


def unlike(names: Iterable[str]) -> list[str]:
    """The names in their order; one that was there before gets a number behind it."""
    found: list[str] = []
    for name in names:
        number = sum(name == other or re.fullmatch(re.escape(name) + r"\d+", other) is not None for other in found)
        found.append(f"{name}{number + 1}" if name in found else name)
    return found
