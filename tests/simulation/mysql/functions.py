"""MySQL's functions and collations that SQLite lacks."""

from __future__ import annotations

import decimal
import re
import unicodedata
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tests.simulation.mysql.values import decode_decimal, encode_datetime, encode_decimal

if TYPE_CHECKING:
    import sqlite3

_EXACT = decimal.Context(prec=200)
_SIGNS = {"+": _EXACT.add, "-": _EXACT.subtract, "*": _EXACT.multiply}
_UNITS = {
    "MICROSECOND": timedelta(microseconds=1),
    "SECOND": timedelta(seconds=1),
    "MINUTE": timedelta(minutes=1),
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
}


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that need nothing but their arguments."""
    connection.create_function("as_decimal", 1, encode_decimal, deterministic=True)
    connection.create_function("as_datetime", 1, encode_datetime, deterministic=True)
    connection.create_function("add_interval", 3, _add_interval, deterministic=True)
    connection.create_function("timestamp_difference", 3, _timestamp_difference, deterministic=True)
    connection.create_function("calculate", 3, _calculate, deterministic=True)
    connection.create_function("mysql_like", 3, _like, deterministic=True)
    connection.create_function("mysql_regexp", 3, _regexp, deterministic=True)
    connection.create_function("cast_decimal", 3, _cast_decimal, deterministic=True)
    connection.create_function("concat", -1, _concat, deterministic=True)
    connection.create_aggregate("decimal_sum", 1, cast("Any", _DecimalSum))
    connection.create_collation("MYSQL_CI", _compare)


def _add_interval(moment: str | None, amount: int | None, unit: str) -> str | None:
    if moment is None or amount is None:
        return None
    return encode_datetime(datetime.fromisoformat(moment) + amount * _UNITS[unit])


def _timestamp_difference(unit: str, first: str | None, second: str | None) -> int | None:
    if first is None or second is None:
        return None
    difference = datetime.fromisoformat(second) - datetime.fromisoformat(first)
    whole = abs(difference) // _UNITS[unit]
    return whole if difference >= timedelta(0) else -whole


def _calculate(left: str | None, sign: str, right: str | None) -> str | None:
    if left is None or right is None:
        return None
    return encode_decimal(_SIGNS[sign](decode_decimal(left), decode_decimal(right)))


def _cast_decimal(value: Any, digits: int, scale: int) -> str | None:
    if value is None:
        return None
    number = _EXACT.create_decimal(value).quantize(Decimal(1).scaleb(-scale), decimal.ROUND_HALF_UP, _EXACT)
    if number.copy_abs() >= 10 ** (digits - scale):
        raise NotImplementedError(f"{value} in a DECIMAL({digits}, {scale})")
    return encode_decimal(number)


def _concat(*texts: Any) -> str | None:
    return None if None in texts else "".join(map(str, texts))


class _DecimalSum:
    """The exact sum of DECIMALs."""

    def __init__(self) -> None:
        self._sum: Decimal | None = None

    def step(self, value: str | None) -> None:
        if value is not None:
            number = decode_decimal(value)
            self._sum = number if self._sum is None else _EXACT.add(self._sum, number)

    def finalize(self) -> str | None:
        return encode_decimal(self._sum)


@lru_cache(maxsize=1_024)
def _pattern(like: str, binary: int) -> re.Pattern[str]:
    wild = {"%": ".*", "_": "."}
    text = "".join(
        wild.get(part) or re.escape(part[1:] if part[0] == "\\" and len(part) > 1 else part)
        for part in re.findall(r"\\.|.", like, re.DOTALL)
    )
    return re.compile(text, re.DOTALL | (0 if binary else re.IGNORECASE))


def _like(text: Any, pattern: str | None, binary: int) -> int | None:
    if text is None or pattern is None:
        return None
    return int(_pattern(pattern, binary).fullmatch(str(text)) is not None)


def _regexp(text: str | None, pattern: str | None, binary: int) -> int | None:
    if text is None or pattern is None:
        return None
    return int(re.search(pattern, text, 0 if binary else re.IGNORECASE) is not None)


@lru_cache(maxsize=65_536)
def folded(text: str) -> str:
    """A text without what utf8mb4_unicode_520_ci does not tell apart: case, accents, spaces at the end."""
    decomposed = unicodedata.normalize("NFD", text.rstrip(" ").casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _compare(left: str, right: str) -> int:
    one, other = folded(left), folded(right)
    return (one > other) - (one < other)
