"""What a doctor says: one thing that was looked at, how it is, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "unknown", "warning", "problem"]
"""``unknown`` is what could not be read; a ``problem`` stops edgeq, a ``warning`` does not."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``code`` is a name that scripts may rely on, ``remedy`` the next step, empty where nothing is to be done."""

    code: str
    severity: Severity
    text: str
    remedy: str = ""


def ok(code: str, text: str) -> Finding:
    """As it should be."""
    return Finding(code=code, severity="ok", text=text)


def unknown(code: str, text: str) -> Finding:
    """Not to be read there."""
    return Finding(code=code, severity="unknown", text=text)


def warning(code: str, text: str, remedy: str) -> Finding:
    """Works, and may cost something."""
    return Finding(code=code, severity="warning", text=text, remedy=remedy)


def problem(code: str, text: str, remedy: str) -> Finding:
    """Stops edgeq."""
    return Finding(code=code, severity="problem", text=text, remedy=remedy)
