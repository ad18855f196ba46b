"""How numbers look to a person: a unit beside each, no digit that means nothing."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata

NOTHING = "\u2013"
"""Stands where nothing was measured: an en dash."""

RUNTIMES = {"executorch": "ExecuTorch", "onnxruntime": "ONNX Runtime"}

MILLION = 1_000_000

_NBSP = "\u00a0"
_MINUS = "\u2212"
_FINE = 2000
"""From this many samples on, a share has a second decimal."""


def printable(text: str) -> str:
    """The text without characters that steer a terminal, a browser or a reader instead of being read.

    Control characters, bidirectional overrides and lone surrogates become
    U+FFFD; line breaks and tabs become spaces.
    """
    return "".join(
        " " if char in "\n\r\t" else "\ufffd" if unicodedata.category(char) in {"Cc", "Cf", "Cs"} else char
        for char in text
    )


def significant(value: float, digits: int = 3) -> str:
    """``value`` with that many significant digits and no exponent: 0.0123, 1.20, 123, 1,234."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded if decimals > 0 else value:,.{max(0, decimals)}f}"


def count(value: int) -> str:
    """9,031."""
    return f"{value:,}"


def ms(value: float) -> str:
    """17.4 ms; below one, 19.9 us with a Greek mu."""
    return f"{significant(value)}{_NBSP}ms" if value >= 1 else f"{significant(value * 1e3)}{_NBSP}\u00b5s"


def ms_range(low: float, high: float) -> str:
    """17.31 to 17.44 ms: a digit more than a single latency, as the ends of an interval are close."""
    if high < 1:
        return f"{significant(low * 1e3, 4)} to {significant(high * 1e3, 4)}{_NBSP}\u00b5s"
    return f"{significant(low, 4)} to {significant(high, 4)}{_NBSP}ms"


def some(number: int, thing: str, several: str = "") -> str:
    """1 core, 4 cores; 3 classes where that is ``several``."""
    return f"{count(number)} {thing if number == 1 else several or f'{thing}s'}"


def ratio(value: float) -> str:
    """2.7x, with a multiplication sign."""
    return f"{significant(value)}\u00d7"


def reach(low: float | None, high: float | None) -> str:
    """The interval of a ratio in parentheses, after a space; nothing where there is none."""
    return "" if low is None or high is None else f" (95 %: {ratio(low)} to {ratio(high)})"


def megabytes(size_bytes: int) -> str:
    """4.91 MB, millions of bytes; 44.5 kB; 8.32 GB."""
    if size_bytes >= 1000 * MILLION:
        return f"{significant(size_bytes / 1e9)}{_NBSP}GB"
    if size_bytes < MILLION:
        return f"{significant(size_bytes / 1e3)}{_NBSP}kB"
    return f"{significant(size_bytes / 1e6)}{_NBSP}MB"


def millions(value: int) -> str:
    """124.2 M, to a tenth of a million, or three digits below ten."""
    return f"{value / 1e6:,.1f}{_NBSP}M" if value >= 10 * MILLION else f"{significant(value / 1e6)}{_NBSP}M"


def thousands(value: int) -> str:
    """154 k, three digits."""
    return f"{significant(value / 1e3)}{_NBSP}k"


def of_total(part: int, total: int) -> str:
    """9,031 of 10,000."""
    return f"{count(part)} of {count(total)}"


def percent(share: float, samples: int | None = None) -> str:
    """90.3 %; a second decimal when enough samples stand behind it; never 100 % when something is missing."""
    digits = 2 if samples and samples >= _FINE else 1
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) == 100:  # noqa: PLR2004  # per cent
        text = f"> {100 - 10**-digits:.{digits}f}"
    if share > 0 and float(text.removeprefix("> ")) == 0:
        text = f"< {10**-digits:.{digits}f}"
    return f"{text}{_NBSP}%"


def percent_range(low: float, high: float, samples: int | None = None) -> str:
    """88.1 to 92.3 %."""
    digits = 2 if samples and samples >= _FINE else 1
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}{_NBSP}%"


def signed(value: float, digits: int) -> str:
    """+0.12 or a true minus sign; 0.00 has none."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else _MINUS) + text


def points(value: float, samples: int | None = None) -> str:
    """A signed difference of two percentages, in percentage points."""
    return f"{signed(value, 2 if samples and samples >= _FINE else 1)}{_NBSP}pp"


def p_value(value: float) -> str:
    """As p = 0.021, or p < 0.001."""
    if value < 0.001:  # noqa: PLR2004  # convention
        return f"p{_NBSP}<{_NBSP}0.001"
    return f"p{_NBSP}={_NBSP}{value:.3f}" if value < 0.1 else f"p{_NBSP}={_NBSP}{value:.2f}"  # noqa: PLR2004  # convention


def decibels(value: float | None, *, identical: bool) -> str:
    """16.3 dB; a record has None for identical outputs, and where no ratio could be taken."""
    if value is None:
        return "identical" if identical else NOTHING
    return f"{value:.1f}{_NBSP}dB"


def moment(iso: str) -> str:
    """2026-11-21 01:30 UTC, from ISO 8601; anything else as it is."""
    try:
        return dt.datetime.fromisoformat(iso).astimezone(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return iso


def listed(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
