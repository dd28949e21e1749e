"""MySQL's column types on SQLite: values are checked as strict mode does, stored so that they compare as in MySQL, and
handed back as PyMySQL does.

A DECIMAL is stored as text that sorts as the number does, a DATETIME as text of 26 characters.
"""

from __future__ import annotations

import decimal
import json
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pymysql import err
from pymysql.constants import ER

if TYPE_CHECKING:
    from collections.abc import Callable

DIGITS = 65
"""The most digits of a DECIMAL (MySQL 8.0 Reference Manual, "Fixed-Point Types")."""
_COMPLEMENT = str.maketrans("0123456789", "9876543210")
_AFTER_DIGITS = "~"
_EXACT = decimal.Context(prec=200)
INVALID_JSON = 4025
"""MariaDB: a JSON column is text with a CHECK."""


def error(number: int, text: str) -> err.MySQLError:
    """The error that PyMySQL makes of a server's number."""
    kind = err.error_map.get(number, err.OperationalError)
    made: err.MySQLError = kind(number, text)
    return made


class Kind(StrEnum):
    """How a value is stored and compared."""

    INTEGER = "INTEGER"
    DECIMAL = "DECIMAL"
    DATETIME = "DATETIME"
    TEXT = "TEXT"
    FLOAT = "REAL"
    BINARY = "BLOB"
    ANY = "ANY"
    """A parameter or NULL: it takes the type of what it is compared with."""


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type with its limits. `size` counts characters, bytes or digits; `binary` text is compared by code point."""

    kind: Kind
    name: str = ""
    size: int = 0
    scale: int = 0
    least: int = 0
    most: int = 0
    members: tuple[str, ...] = ()
    binary: bool = False

    @property
    def sqlite(self) -> str:
        """The type and collation of a column in SQLite."""
        if self.kind is Kind.TEXT:
            return f"TEXT COLLATE {'RTRIM' if self.binary else 'MYSQL_CI'}"
        return "TEXT" if self.kind in {Kind.DECIMAL, Kind.DATETIME} else self.kind.value


ANY = SqlType(Kind.ANY)
INTEGER = SqlType(Kind.INTEGER, "bigint", least=-(2**63), most=2**63 - 1)
TEXT = SqlType(Kind.TEXT, "longtext", 2**32 - 1, binary=True)
DATETIME = SqlType(Kind.DATETIME, "datetime")


def a_decimal(scale: int = 0) -> SqlType:
    """The type of a DECIMAL that an expression makes."""
    return SqlType(Kind.DECIMAL, "decimal", DIGITS, scale)


def encode_decimal(value: Any) -> str | None:
    """A number as text that sorts as it: the sign, 65 digits, and decimals without zeros at their end."""
    if value is None:
        return None
    if type(value) is int and value >= 0:
        return f"1{value:065d}"
    number = Decimal(repr(value) if isinstance(value, float) else value)
    whole, _, fraction = format(number.copy_abs(), "f").partition(".")
    fraction = fraction.rstrip("0")
    digits = whole.zfill(DIGITS) + (f".{fraction}" if fraction else "")
    return f"1{digits}" if number >= 0 else f"0{digits.translate(_COMPLEMENT)}{_AFTER_DIGITS}"


def decode_decimal(text: str, scale: int = 0) -> Decimal:
    """The number that `encode_decimal` made text of, with a number of decimals."""
    positive, digits = text[0] == "1", text[1:]
    if not positive:
        digits = digits.removesuffix(_AFTER_DIGITS).translate(_COMPLEMENT)
    whole, _, fraction = digits.partition(".")
    return Decimal(f"{'' if positive else '-'}{whole}.{fraction.ljust(scale, '0')}" if scale else digits)


def encode_datetime(value: Any) -> str | None:
    """A time as DATETIME(6) shows it. Raises ValueError where it is none."""
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


_encode_text_datetime = lru_cache(maxsize=4_096)(encode_datetime)


def bound(value: Any) -> Any:
    """A parameter that is no column's value, as SQLite takes it."""
    match value:
        case bool():
            return int(value)
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
        case Decimal():
            return format(value, "f")
        case datetime():
            return encode_datetime(value)
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `default` is what it gets where an INSERT leaves it out, if `has_default`."""

    name: str
    type: SqlType
    not_null: bool = False
    auto_increment: bool = False
    has_default: bool = False
    default: Any = None

    def stored(self, value: Any) -> Any:
        """A value as it is stored. Raises MySQL's errors where strict mode refuses it."""
        if value is None:
            if self.not_null:
                raise error(ER.BAD_NULL_ERROR, f"Column '{self.name}' cannot be null")
            return None
        return _STORED[self.type.kind](self, value)

    def omitted(self) -> Any:
        """What is stored where an INSERT leaves the column out. Raises MySQL's error where it may not."""
        if self.has_default or not self.not_null:
            return self.stored(self.default)
        raise error(ER.NO_DEFAULT_FOR_FIELD, f"Field '{self.name}' doesn't have a default value")

    def too_long(self) -> err.MySQLError:
        return error(ER.DATA_TOO_LONG, f"Data too long for column '{self.name}' at row 1")

    def out_of_range(self) -> err.MySQLError:
        return error(ER.WARN_DATA_OUT_OF_RANGE, f"Out of range value for column '{self.name}' at row 1")

    def incorrect(self, value: Any) -> err.MySQLError:
        return error(
            ER.TRUNCATED_WRONG_VALUE_FOR_FIELD,
            f"Incorrect {self.type.name} value: '{value}' for column '{self.name}' at row 1",
        )


def _integer(column: Column, value: Any) -> int:
    if type(value) is not int:
        try:
            value = int(Decimal(value).to_integral_value(decimal.ROUND_HALF_UP))
        except (decimal.InvalidOperation, ValueError, TypeError):
            raise column.incorrect(value) from None
    if not column.type.least <= value <= column.type.most:
        raise column.out_of_range()
    number: int = value
    return number


def _decimal(column: Column, value: Any) -> str | None:
    whole_digits = column.type.size - column.type.scale
    if type(value) is not int:
        try:
            value = Decimal(repr(value) if isinstance(value, float) else value)
        except (decimal.InvalidOperation, ValueError, TypeError):
            raise column.incorrect(value) from None
        value = value.quantize(Decimal(1).scaleb(-column.type.scale), decimal.ROUND_HALF_UP, _EXACT)
    if not -(10**whole_digits) < value < 10**whole_digits:
        raise column.out_of_range()
    return encode_decimal(value)


def _datetime(column: Column, value: Any) -> str | None:
    try:
        return _encode_text_datetime(value)
    except (ValueError, TypeError):
        raise error(
            ER.TRUNCATED_WRONG_VALUE, f"Incorrect datetime value: '{value}' for column '{column.name}' at row 1"
        ) from None


def _text(column: Column, value: Any) -> str:
    text = value if type(value) is str else str(bound(value))
    kind = column.type
    if kind.members:
        if text not in kind.members:
            raise error(ER.WARN_DATA_TRUNCATED, f"Data truncated for column '{column.name}' at row 1")
        return text
    if kind.name == "json":
        return _json(column, text)
    length = len(text) if kind.name in {"varchar", "char"} or len(text) * 4 <= kind.size else len(text.encode())
    if length > kind.size:
        if len(text.rstrip(" ")) > kind.size:
            raise column.too_long()
        return text[: kind.size]
    return text


def _json(column: Column, text: str) -> str:
    try:
        json.loads(text)
    except ValueError:
        raise error(INVALID_JSON, f"CONSTRAINT `{column.name}` failed") from None
    return text


def _float(column: Column, value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        raise column.incorrect(value) from None


def _binary(column: Column, value: Any) -> bytes:
    content = value if isinstance(value, bytes) else str(bound(value)).encode()
    if len(content) > column.type.size:
        raise column.too_long()
    return content


_STORED: dict[Kind, Callable[[Column, Any], Any]] = {
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.DATETIME: _datetime,
    Kind.TEXT: _text,
    Kind.FLOAT: _float,
    Kind.BINARY: _binary,
}


def loader(kind: SqlType) -> Callable[[Any], Any] | None:
    """What makes PyMySQL's value of a stored one; None where it is the same."""
    if kind.kind is Kind.DECIMAL:
        return partial(decode_decimal, scale=kind.scale)
    return datetime.fromisoformat if kind.kind is Kind.DATETIME else None


_INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
_TEXTS = {"tinytext": 2**8 - 1, "text": 2**16 - 1, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1, "json": 2**32 - 1}
_BLOBS = {"blob": 2**16 - 1, "mediumblob": 2**24 - 1, "longblob": 2**32 - 1}


def type_named(name: str, sizes: tuple[int, ...], members: tuple[str, ...], *, unsigned: bool, binary: bool) -> SqlType:
    """A type as CREATE TABLE declares it."""
    name = {"boolean": "tinyint", "bool": "tinyint"}.get(name.lower(), name.lower())
    size = sizes[0] if sizes else 0
    if name in _INTEGERS:
        bits = _INTEGERS[name]
        least, most = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return SqlType(Kind.INTEGER, name, least=least, most=most)
    if name in _TEXTS or name in {"varchar", "char"}:
        return SqlType(Kind.TEXT, name, _TEXTS.get(name, size), binary=binary)
    if name in _BLOBS or name == "varbinary":
        return SqlType(Kind.BINARY, name, _BLOBS.get(name, size))
    match name, sizes:
        case "decimal", (precision, scale):
            return SqlType(Kind.DECIMAL, name, precision, scale)
        case "enum", ():
            return SqlType(Kind.TEXT, name, 255, members=members, binary=binary)
        case ("double", ()) | ("datetime", (6,)):
            return SqlType(Kind.FLOAT if name == "double" else Kind.DATETIME, name)
        case _:
            raise NotImplementedError(f"the type {name}{sizes or ''}")


_ESCAPES = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}
_ESCAPED = re.compile(r"\\(.)|''", re.DOTALL)


class Now(Enum):
    """The time of the statement, as a value in it."""

    NOW = "NOW(6)"


def literal_value(text: str) -> Any:
    """The value of a literal in a statement."""
    first = text[0]
    if first == "'":
        inner = text[1:-1]
        if "\\" in inner or "''" in inner:
            return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]) if match[1] else "'", inner)
        return inner
    if text in _WORDS:
        return _WORDS[text]
    if first == "_":
        return bytes.fromhex(text.partition("'")[2][:-1])
    if text.isdigit() or text[1:].isdigit():
        return int(text)
    return float(text) if "e" in text.lower() else Decimal(text)


_WORDS = {"NULL": None, "TRUE": 1, "FALSE": 0, "NOW(6)": Now.NOW}
