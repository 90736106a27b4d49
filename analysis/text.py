"""Numbers as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone

import pandas as pd

UNIT = "\u00a0%"


def printable(text: str) -> str:
    """One line without anything that a terminal obeys: names come from files."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def percent(value: float, digits: int = 2) -> str:
    return "–" if pd.isna(value) else f"{100 * value:.{digits}f}{UNIT}"


def share(value: float) -> str:
    """A share that may be tiny: 26.227 %, 0.0123 %, 4.56e-05 %; 0 where only rounding differs."""
    if pd.isna(value):
        return "–"
    value = 0.0 if abs(value) < 1e-12 else 100 * value
    small = 0 < abs(value) < 0.1
    return f"{value:.3g}{UNIT}" if small else f"{value:.3f}{UNIT}"


def bare_share(value: float) -> str:
    """The number alone, where the heading has the unit."""
    return share(value).removesuffix(UNIT)


def points(value: float) -> str:
    """A difference of shares in percentage points, signed."""
    return "–" if pd.isna(value) else f"{100 * value:+.2f}".replace("-", "−")


def plain(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.4g}"


def count(value: float) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}".replace(",", "\u202f")


def ratio(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.4f}×"


def moment(seconds: float) -> str:
    """Unix time as ISO 8601, UTC."""
    if not math.isfinite(seconds) or seconds <= 0:
        return "–"
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 120 else f"{minutes} min {rest} s"
    )


def interval(lower: float, upper: float, text: Callable[[float], str] = percent) -> str:
    """[lower, upper], units only once."""
    if pd.isna(lower):
        return "(no interval)"
    return f"[{text(lower).removesuffix(UNIT)}, {text(upper)}]"


def correlation(estimate: float, lower: float, upper: float) -> str:
    """0.25 [−0.10, 0.55]"""
    if pd.isna(estimate):
        return "–"
    bounds = "" if pd.isna(lower) else f" [{lower:.2f}, {upper:.2f}]"
    return f"{estimate:.2f}{bounds}".replace("-", "−")


def listed(names: list[str], most: int = 8) -> str:
    """a, b and 3 more"""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
