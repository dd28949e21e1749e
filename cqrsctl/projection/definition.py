"""What a projection is: declared columns, and how an item's attributes become exact column values.

Pure: standard library only. A value that does not fit its column exactly raises Misfit; nothing is ever
rounded, cut or converted with loss.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqrsctl.change import Value

SqlValue: TypeAlias = "int | Decimal | str | bytes | bool | float | datetime | None"

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DATETIME = datetime(1000, 1, 1, tzinfo=UTC)
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


_ARGUMENTS = {Kind.DECIMAL: 2, Kind.VARCHAR: 1, Kind.VARBINARY: 1}
_KEY_KINDS = {Kind.BIGINT, Kind.DECIMAL, Kind.VARCHAR, Kind.VARBINARY}


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type with its sizes: `decimal(18,4)` is Kind.DECIMAL with sizes (18, 4)."""

    kind: Kind
    sizes: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """Read `bigint`, `decimal(p,s)`, `varchar(n)`, … Raises ValueError, saying what is allowed."""
        match = re.fullmatch(r"\s*([a-z]+)\s*(?:\(\s*(\d+(?:\s*,\s*\d+)*)\s*\))?\s*", text)
        if match is None or match[1] not in set(Kind):
            raise ValueError(f"unknown type {text!r}; known are " + ", ".join(Kind))
        kind = Kind(match[1])
        sizes = tuple(int(size) for size in match[2].split(",")) if match[2] else ()
        if len(sizes) != _ARGUMENTS.get(kind, 0):
            raise ValueError(f"{kind} takes {_ARGUMENTS.get(kind, 0)} sizes, not {len(sizes)}: {text!r}")
        _check_sizes(kind, sizes)
        return cls(kind, sizes)

    def __str__(self) -> str:
        return f"{self.kind}({','.join(map(str, self.sizes))})" if self.sizes else str(self.kind)

    def fit(self, value: Value) -> SqlValue:
        """The column's value for an attribute's value. Raises Misfit where it would have to be bent."""
        return _FITTERS[self.kind](value, self.sizes)

    def default(self, declared: bool | int | str | None) -> Value:
        """A declared default as an attribute's value: a number may be written as text, to keep its digits."""
        if declared is None or isinstance(declared, bool):
            return declared
        if self.kind in {Kind.BIGINT, Kind.DECIMAL, Kind.DOUBLE} or isinstance(declared, int):
            try:
                number = Decimal(declared)
            except ArithmeticError:
                raise Misfit(f"{declared!r} is not a number") from None
            if not number.is_finite():
                raise Misfit(f"{declared!r} is not a number that a column holds")
            return number
        return declared


def _check_sizes(kind: Kind, sizes: tuple[int, ...]) -> None:
    match kind, sizes:
        case Kind.DECIMAL, (precision, scale) if not (1 <= precision <= 65 and 0 <= scale <= min(30, precision)):
            raise ValueError("decimal(p,s) needs 1 ≤ p ≤ 65 and 0 ≤ s ≤ 30, s ≤ p")
        case ((Kind.VARCHAR | Kind.VARBINARY), (length,)) if not 1 <= length <= 16_000:
            raise ValueError(f"{kind}(n) needs 1 ≤ n ≤ 16000")
        case _:
            pass


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `attribute` is a dotted path into the item; `default` stands in for an absent attribute. A key is
    always required.
    """

    name: str
    type: ColumnType
    attribute: str
    key: bool = False
    required: bool = False
    default: Value = field(default=None, compare=False)
    index: bool = False
    _typed_default: tuple[object, Value] = field(init=False, repr=False)
    """The default as two columns compare it: in Python True equals 1."""
    _first: str = field(init=False, repr=False, compare=False)
    _rest: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _fit: Callable[[Value, tuple[int, ...]], SqlValue] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _IDENTIFIER.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a column name (letters, digits and _, at most 48)")
        if self.key and self.type.kind not in _KEY_KINDS:
            raise ValueError(f"{self.name}: a key column cannot be {self.type.kind}")
        if self.index and self.type.kind in {Kind.TEXT, Kind.JSON}:
            raise ValueError(f"{self.name}: a {self.type.kind} column cannot be indexed")
        if self.default is not None:
            self.type.fit(self.default)
        if self.key:
            object.__setattr__(self, "required", True)
        object.__setattr__(self, "_typed_default", (type(self.default), self.default))
        first, *rest = self.attribute.split(".")
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "_rest", tuple(rest))
        object.__setattr__(self, "_fit", _FITTERS[self.type.kind])

    def of(self, image: Mapping[str, Value]) -> SqlValue:
        """This column's value in an item. Raises Misfit, naming the column."""
        value = image.get(self._first)
        for part in self._rest:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            value = self.default
            if value is None:
                if self.required:
                    raise Misfit(f"{self.name}: the attribute {self.attribute} is missing")
                return None
        try:
            fitted = self._fit(value, self.type.sizes)
        except Misfit as misfit:
            raise Misfit(f"{self.name}: {misfit}") from None
        if self.key and isinstance(fitted, str) and fitted.endswith(" "):
            # MySQL's collations that MariaDB has too pad with spaces: 'a' and 'a ' would be one key.
            raise Misfit(f"{self.name}: a text key cannot end with a space")
        return fitted


@dataclass(frozen=True, slots=True)
class Projection:
    """How one stream becomes the rows of one view."""

    name: str
    view: str
    columns: tuple[Column, ...]
    where: tuple[tuple[str, Value], ...] = field(default=(), compare=False)
    """Attributes (dotted paths) with the values that an item must have to be in the view."""
    _typed_where: tuple[tuple[str, object, Value], ...] = field(init=False, repr=False)
    """The conditions as two projections compare them: in Python True equals 1."""
    keys: tuple[Column, ...] = field(init=False, repr=False, compare=False)
    values: tuple[Column, ...] = field(init=False, repr=False, compare=False)
    key_attributes: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", self.name):
            raise ValueError(f"{self.name!r} is not a projection's name (a-z, 0-9 and _, at most 40)")
        if not _IDENTIFIER.fullmatch(self.view) or self.view.lower().startswith(("cqrs_", f"{self.name}_v")):
            raise ValueError(f"{self.view!r} cannot be the view's name")
        names = [column.name.lower() for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"projection {self.name}: two columns have the same name")
        keys = tuple(column for column in self.columns if column.key)
        if not keys:
            raise ValueError(f"projection {self.name}: no column is the key (key = true)")
        object.__setattr__(self, "_typed_where", tuple((path, type(value), value) for path, value in self.where))
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "values", tuple(column for column in self.columns if not column.key))
        object.__setattr__(self, "key_attributes", frozenset(column.attribute for column in keys))

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)

    def includes(self, image: Mapping[str, Value]) -> bool:
        """Whether an item belongs into the view."""
        return all(is_same(_at(image, path), value) for path, value in self.where)


def is_same(value: object, other: object) -> bool:
    """Whether two values are equal and both booleans or neither, to the innermost member: in Python True equals 1."""
    match value, other:
        case dict(), dict():
            return value.keys() == other.keys() and all(is_same(value[name], other[name]) for name in value)
        case list(), list():
            return len(value) == len(other) and all(map(is_same, value, other))
        case _:
            return isinstance(value, bool) is isinstance(other, bool) and value == other


def _at(image: Mapping[str, Value], path: str) -> Value:
    """The value at a dotted path, or None."""
    first, *rest = path.split(".")
    value = image.get(first)
    for part in rest:
        value = value.get(part) if isinstance(value, dict) else None
    return value


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


_FITTERS = {
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
    """MySQL keeps a JSON number as a 64-bit integer or a double: any other would come back changed."""
    if value == value.to_integral_value() and -(2**63) <= value < 2**63:
        return int(value)
    if Decimal(repr(float(value))) == value:
        return float(value)
    raise Misfit(f"{_short(value)} has more digits than a JSON number keeps")


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def default_product() -> Projection:
    """The projection of the Products table that applies where none is declared."""
    return Projection(
        name="product",
        view="Product",
        columns=(
            Column("ProductId", ColumnType.parse("bigint"), "ProductId", key=True, required=True),
            Column("Name", ColumnType.parse("varchar(255)"), "Name", required=True),
            Column("Price", ColumnType.parse("decimal(18,4)"), "Price", required=True),
            Column("OutOfStock", ColumnType.parse("boolean"), "OutOfStock", default=False),
        ),
    )
