"""How an attribute's value becomes the exact value of a column.

Pure: standard library only. A value that does not fit its column exactly raises Misfit; nothing is ever rounded, cut
or converted with loss.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqrsctl.change import Value

SqlValue: TypeAlias = "int | Decimal | str | bytes | bool | float | datetime | None"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DATETIME = datetime(1000, 1, 1, tzinfo=UTC)
_EXACT_INTEGER, _EXACT_POWER_OF_TEN = 2**53, 22
"""Up to here a double holds every whole number, and every power of ten."""
_TEXT_BYTES = 65_535
_LEAST_BIGINT, _MOST_BIGINT = -(2**63), 2**63 - 1


class Misfit(ValueError):
    """A value does not fit its column exactly."""


class Kind(StrEnum):
    """The column types that a projection may declare."""

    BIGINT = "bigint"
    DECIMAL = "decimal"
    VARCHAR = "varchar"
    TEXT = "text"
    BOOLEAN = "boolean"
    DOUBLE = "double"
    DATETIME = "datetime"
    JSON = "json"
    VARBINARY = "varbinary"


def _fit_bigint(value: Value, _: tuple[int, ...]) -> SqlValue:
    number = _number(value)
    whole = int(number)
    if whole != number or not _LEAST_BIGINT <= whole <= _MOST_BIGINT:
        raise Misfit(f"{_short(value)} is not a whole number of 64 bits")
    return whole


def _fit_decimal(value: Value, sizes: tuple[int, ...]) -> SqlValue:
    precision, scale = sizes
    number = _number(value)
    text = str(number)
    if number.adjusted() < precision - scale and "E" not in text and len(text.partition(".")[2]) <= scale:
        return number  # as nearly all do; the others are looked at digit by digit
    digits, exponent = _significant(number)
    if -exponent > scale:
        raise Misfit(f"{_short(value)} has more than {scale} decimals")
    if digits and digits + exponent > precision - scale:
        raise Misfit(f"{_short(value)} has more than {precision - scale} digits before the point")
    return number


def _fit_varchar(value: Value, sizes: tuple[int, ...]) -> SqlValue:
    text = value if isinstance(value, str) else _text(value)
    if len(text) > sizes[0]:
        raise Misfit(f"{len(text)} characters, where {sizes[0]} fit")
    return text


def _fit_text(value: Value, _: tuple[int, ...]) -> SqlValue:
    text = _text(value)
    if len(text.encode()) > _TEXT_BYTES:
        raise Misfit(f"{len(text.encode())} bytes, where {_TEXT_BYTES} fit")
    return text


def _fit_boolean(value: Value, _: tuple[int, ...]) -> SqlValue:
    if not isinstance(value, bool):
        raise Misfit(f"{_short(value)} is not a boolean")
    return value


def _fit_double(value: Value, _: tuple[int, ...]) -> SqlValue:
    number = _number(value)
    double = float(number)
    if Decimal(repr(double)) != number:
        raise Misfit(f"{_short(value)} has more digits than a double keeps")
    return double


def _fit_datetime(value: Value, _: tuple[int, ...]) -> SqlValue:
    """RFC 3339 text, or seconds since 1970; without a zone it is UTC."""
    try:
        moment = _rfc3339(value) if isinstance(value, str) else _since_epoch(_number(value))
    except OverflowError:
        raise Misfit(f"{_short(value)} is not a time between the years 1000 and 9999") from None
    if moment < _FIRST_DATETIME:
        raise Misfit(f"{_short(value)} is before the year 1000")
    return moment.replace(tzinfo=None)


def _since_epoch(seconds: Decimal) -> datetime:
    digits, exponent = _significant(seconds)
    if exponent < -6:
        raise Misfit(f"{_short(seconds)} is finer than a microsecond")
    if digits + exponent > 12:
        raise OverflowError
    return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000))


def _rfc3339(text: str) -> datetime:
    fraction = re.search(r"[.,](\d+)", text)
    if fraction and len(fraction[1].rstrip("0")) > 6:
        raise Misfit(f"{_short(text)} is finer than a microsecond")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Misfit(f"{_short(text)} is not an RFC 3339 time") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _fit_json(value: Value, _: tuple[int, ...]) -> SqlValue:
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True)


def _fit_varbinary(value: Value, sizes: tuple[int, ...]) -> SqlValue:
    if not isinstance(value, bytes):
        raise Misfit(f"{_short(value)} is not binary")
    if len(value) > sizes[0]:
        raise Misfit(f"{len(value)} bytes, where {sizes[0]} fit")
    return value


FITTERS: Mapping[Kind, Callable[[Value, tuple[int, ...]], SqlValue]] = {
    Kind.BIGINT: _fit_bigint,
    Kind.DECIMAL: _fit_decimal,
    Kind.VARCHAR: _fit_varchar,
    Kind.TEXT: _fit_text,
    Kind.BOOLEAN: _fit_boolean,
    Kind.DOUBLE: _fit_double,
    Kind.DATETIME: _fit_datetime,
    Kind.JSON: _fit_json,
    Kind.VARBINARY: _fit_varbinary,
}


def _number(value: Value) -> Decimal:
    if not (isinstance(value, Decimal) and value.is_finite()):
        raise Misfit(f"{_short(value)} is not a number")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise Misfit(f"{_short(value)} is not text")
    return value


def _significant(number: Decimal) -> tuple[int, int]:
    """How many digits a number has without its trailing zeros, and the exponent of the last of them."""
    _, digits, exponent = number.as_tuple()
    stripped = "".join(map(str, digits)).lstrip("0").rstrip("0")
    if not stripped:
        return 0, 0
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return len(stripped), int(exponent) + trailing


def _plain(value: Value) -> object:
    """A value as JSON: numbers keep their digits or are refused, sets become sorted lists, binaries base64."""
    match value:
        case Decimal():
            return _json_number(value)
        case bytes():
            return base64.b64encode(value).decode()
        case frozenset():
            return sorted((_plain(member) for member in value), key=str)
        case list():
            return [_plain(member) for member in value]
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case _:
            return value


def _json_number(value: Decimal) -> int | float:
    """MySQL keeps a JSON number as a 64-bit integer or a double: any other would come back changed.

    The parser of MySQL 8.0 and 8.4, and so of Aurora, is exact only where one multiplication or division by a power of
    ten is (https://bugs.mysql.com/bug.php?id=116160).
    """
    if value == value.to_integral_value() and -(2**63) <= value < 2**63:
        return int(value)
    double, (_, exponent) = float(value), _significant(value)
    if (
        Decimal(repr(double)) != value
        or abs(exponent) > _EXACT_POWER_OF_TEN
        or abs(value.scaleb(-exponent)) > _EXACT_INTEGER
    ):
        raise Misfit(f"{_short(value)} has more digits than a JSON number keeps in MySQL")
    return double


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
