"""Times, durations, sizes, sums of money and counts as people read them: one form of each."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
_UNITS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things: 1 change, 2 changes."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def listed(names: Collection[str], most: int = 10) -> str:
    """Names in a sentence: A, B, C; of many the first ones: A, B and 7 more."""
    shown = ", ".join(islice(names, most))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def duration(seconds: float | None) -> str:
    """A duration of at most two units: 0.4 s, 41 s, 4 min 10 s, 2 h 5 min, 3 d; None is unknown."""
    if seconds is None:
        return "unknown"
    if 0 < seconds < 9.95 and seconds % 1:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    for size, unit, smaller_size, smaller in _UNITS:
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def ago(seconds: float) -> str:
    """How long ago something was, in one unit: 2 s ago, 41 s ago, 5 min ago, 3 h ago."""
    for size, unit, *_ in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{duration(seconds) if seconds < _MINUTE else f'{int(seconds)} s'} ago"


def moment(at: datetime, now: datetime) -> str:
    """A time of day with its zone, and with the date if it is another day than `now`: 12:04:25 UTC."""
    at, now = (each.replace(tzinfo=UTC) if each.tzinfo is None else each.astimezone(UTC) for each in (at, now))
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def size(number: int) -> str:
    """Bytes: 1 byte, 16 KB, 1.5 MB."""
    if number < 1_000:
        return count(number, "byte")
    value = float(number)
    for unit in ("KB", "MB", "GB"):
        value /= 1_000
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"
    return f"{value / 1_000:.1f} TB"


def money(value: Decimal) -> Decimal:
    """A decimal with all digits that count, and at least two after the point: 19.9000 is 19.90."""
    if not value.is_finite():
        return value
    whole, _, decimals = format(value, "f").partition(".")
    return Decimal(f"{whole}.{decimals.rstrip('0').ljust(2, '0')}")


def dollars(value: Decimal) -> str:
    """A sum in dollars: $1,234.50."""
    return f"${money(value):,}"
