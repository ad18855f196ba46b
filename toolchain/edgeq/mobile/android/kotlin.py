"""Names and numbers as Kotlin writes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

TYPES = {"uint8": "ByteArray", "int32": "IntArray", "int64": "LongArray", "float32": "FloatArray"}
"""What holds a tensor of that dtype."""

_KEYWORDS = frozenset(
    (
        "as", "break", "class", "continue", "do", "else", "false", "for", "fun", "if", "in", "interface", "is", "null",
        "object", "package", "return", "super", "this", "throw", "true", "try", "typealias", "typeof", "val", "var",
        "when", "while",
    )
)  # fmt: skip


def quoted(text: str) -> str:
    """A string literal."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


def float32(value: float) -> str:
    """The shortest literal that is this float."""
    return f"{np.float32(value)!s}f"


def camel(text: str) -> str:
    """``int8-static.pte`` as ``int8StaticPte``; with ``value`` before a digit, a keyword or nothing."""
    first, *others = re.findall(r"[A-Za-z0-9]+", text) or [""]
    name = first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in others)
    return name if name[:1].isalpha() and name not in _KEYWORDS else f"value{name[:1].upper()}{name[1:]}"


def constant(text: str) -> str:
    """``int8-static.pte`` as ``INT8_STATIC_PTE``."""
    name = "_".join(re.findall(r"[A-Za-z0-9]+", text)).upper()
    return name if name[:1].isalpha() else f"M{name}"


def unlike(names: Iterable[str]) -> list[str]:
    """The names in their order; one that was there before gets a number behind it."""
    found: list[str] = []
    for name in names:
        number = sum(name == other or re.fullmatch(re.escape(name) + r"\d+", other) is not None for other in found)
        found.append(f"{name}{number + 1}" if name in found else name)
    return found


def is_keyword(word: str) -> bool:
    """Whether no package may be called so."""
    return word in _KEYWORDS
