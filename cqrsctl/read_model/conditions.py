"""Conditions on a view's columns: values as they are typed become those of the column's declared type, then SQL."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from cqrsctl.errors import UsageError
from cqrsctl.projection.fitting import Kind, Misfit
from cqrsctl.read_model.schema import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cqrsctl.change import Value
    from cqrsctl.projection.definition import Column
    from cqrsctl.projection.fitting import SqlValue

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


class Comparison(StrEnum):
    """How a column's value is compared, as it is typed."""

    EQUAL = "="
    DIFFERENT = "!="
    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="
    LIKE = "LIKE"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a column's value is to be. A value of None is NULL, which is only equal or different."""

    column: Column
    comparison: Comparison
    value: SqlValue

    def sql(self) -> tuple[str, list[SqlValue]]:
        """The condition and its parameters. A row without a value differs from every value."""
        name = quoted(self.column.name)
        match self.comparison, self.value:
            case Comparison.EQUAL, None:
                return f"{name} IS NULL", []
            case Comparison.DIFFERENT, None:
                return f"{name} IS NOT NULL", []
            case Comparison.DIFFERENT, value:
                return f"NOT ({name} <=> %s)", [value]
            case comparison, value:
                return f"{name} {comparison} %s", [value]


def condition(column: Column, comparison: Comparison, text: str) -> Condition:
    """The condition that a person typed; no text is NULL. Raises UsageError if it makes no sense for the column."""
    if not text:
        if comparison not in {Comparison.EQUAL, Comparison.DIFFERENT}:
            raise UsageError(f"{column.name}{comparison}: the value is missing.")
        return Condition(column, comparison, None)
    return Condition(column, comparison, value_of(column, text))


def pattern_of(text: str) -> str:
    """The pattern of LIKE that values with a text in them match; a text with % in it is a pattern itself."""
    return text if "%" in text else "%" + text.replace("\\", "\\\\").replace("_", "\\_") + "%"


def where_clause(conditions: Iterable[Condition]) -> tuple[str, list[SqlValue]]:
    """The clause of all conditions together, empty if there are none, and its parameters."""
    made = [each.sql() for each in conditions]
    clause = " AND ".join(f"({sql})" for sql, _ in made)
    return f"WHERE {clause}" if clause else "", [value for _, values in made for value in values]


def value_of(column: Column, text: str) -> SqlValue:
    """A typed value as the column's. Raises UsageError if the column cannot have it."""
    try:
        return column.type.fit(_READ.get(column.type.kind, _text)(text))
    except Misfit as misfit:
        raise UsageError(f"{column.name} is {column.type}: {misfit}.") from None


def _text(typed: str) -> Value:
    try:
        typed.encode()
    except UnicodeEncodeError:
        raise Misfit(f"{typed!r} is not UTF-8") from None
    return typed


def _number(typed: str) -> Value:
    if not _NUMBER.fullmatch(typed.strip()):
        raise Misfit(f"{typed!r} is not a number")
    return Decimal(format(Decimal(typed.strip()), "f"))  # SQL takes a number with an exponent for a double


def _boolean(typed: str) -> Value:
    if typed.lower() not in {"true", "false"}:
        raise Misfit(f"{typed!r} is neither true nor false")
    return typed.lower() == "true"


def _binary(typed: str) -> Value:
    try:
        return base64.b64decode(typed, validate=True)
    except ValueError:
        raise Misfit(f"{typed!r} is not base64") from None


def _json(_: str) -> Value:
    raise Misfit("only whether it has a value can be asked here, and all else with `cqrsctl query sql`")


_READ: Mapping[Kind, Callable[[str], Value]] = {
    Kind.BIGINT: _number,
    Kind.DECIMAL: _number,
    Kind.DOUBLE: _number,
    Kind.BOOLEAN: _boolean,
    Kind.VARBINARY: _binary,
    Kind.JSON: _json,
}
