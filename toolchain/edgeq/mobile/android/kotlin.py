"""Names and numbers as Kotlin writes them."""

from __future__ import annotations

import re

import numpy as np

from edgeq.mobile import names

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
    return names.camel(text, _KEYWORDS)


def constant(text: str) -> str:
    """``int8-static.pte`` as ``INT8_STATIC_PTE``."""
    name = "_".join(re.findall(r"[A-Za-z0-9]+", text)).upper()
    return name if name[:1].isalpha() else f"M{name}"


def is_keyword(word: str) -> bool:
    """Whether no package may be called so."""
    return word in _KEYWORDS
