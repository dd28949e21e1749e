"""Rows of a view: chosen by conditions, a page at a time in a stable order, one by its key, or counted."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import UsageError
from cqrsctl.projection.fitting import Kind
from cqrsctl.read_model.conditions import where_clause
from cqrsctl.read_model.query import beyond, rows_by_key
from cqrsctl.read_model.schema import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import Column, Projection
    from cqrsctl.projection.fitting import SqlValue
    from cqrsctl.read_model.conditions import Condition
    from cqrsctl.read_model.connection import Connection

_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a listing: by one column and then by key, all up or all down. Raises UsageError for JSON."""

    column: Column
    descending: bool = False

    def __post_init__(self) -> None:
        if self.column.type.kind is Kind.JSON:
            raise UsageError(f"Rows cannot be sorted by {self.column.name}: JSON has no order.")

    def __str__(self) -> str:
        return ("-" if self.descending else "") + self.column.name

    def columns(self, keys: Sequence[Column]) -> list[Column]:
        """The columns that rows are compared by, the first one first."""
        return [self.column, *(key for key in keys if key is not self.column)]


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A page of a listing: the rows that meet all conditions, in order, after the row that a token names."""

    projection: Projection
    conditions: Sequence[Condition]
    order: Order
    limit: int
    after: str | None = None

    def run(self, connection: Connection) -> tuple[list[dict[str, Any]], str | None]:
        """The page's rows, and the token of the next page (None: there is none). Raises UsageError."""
        columns = self.order.columns(self.projection.keys)
        where, parameters = where_clause(self.conditions)
        if self.after:
            later, more = self._later(columns, self._from_token(self.after, len(columns)))
            where = f"{where} AND ({later})" if where else f"WHERE {later}"
            parameters += more
        names = [quoted(column.name) for column in columns]
        direction = " DESC" if self.order.descending else ""
        # Only the keys are sorted: MySQL refuses to sort rows that are longer than its sort buffer (error 1038).
        places = connection.query(
            f"SELECT {', '.join(names)} FROM {quoted(self.projection.view)} {where}"
            f" ORDER BY {', '.join(name + direction for name in names)} LIMIT %s",
            [*parameters, self.limit + 1],
        )
        page: list[dict[str, Any]] = []
        for begin in range(0, min(len(places), self.limit), _ROWS_AT_ONCE):
            some = places[begin : min(begin + _ROWS_AT_ONCE, self.limit)]
            keys = [tuple(place[key.name] for key in self.projection.keys) for place in some]
            rows = rows_by_key(connection, self.projection, keys)
            page += [rows[key] for key in keys if key in rows]
        return page, self._token(columns, places[self.limit - 1]) if len(places) > self.limit else None

    def _later(self, columns: list[Column], values: list[Any]) -> tuple[str, list[Any]]:
        """The condition of rows that come after one. NULL, which no key is, sorts first going up."""
        descending, (column, *keys) = self.order.descending, columns
        if column.key:
            return beyond(columns, values, descending=descending)
        name, (value, *key) = quoted(column.name), values
        later, parameters = beyond(keys, key, descending=descending)
        match value, descending:
            case None, True:
                return f"{name} IS NULL AND {later}", parameters
            case None, False:
                return f"{name} IS NOT NULL OR ({later})", parameters
            case _, True:
                return f"{name} < %s OR {name} IS NULL OR ({name} = %s AND {later})", [value, value, *parameters]
            case _:
                return f"{name} > %s OR ({name} = %s AND {later})", [value, value, *parameters]

    def _token(self, columns: list[Column], place: dict[str, Any]) -> str:
        content = [self.projection.name, str(self.order), [_packed(place[column.name]) for column in columns]]
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    def _from_token(self, token: str, columns: int) -> list[Any]:
        try:
            padded = token + "=" * (-len(token) % 4)
            name, order, packed = json.loads(base64.urlsafe_b64decode(padded))
            values = [_unpacked(value) for value in packed]
        except (ValueError, TypeError, KeyError, ArithmeticError):
            raise UsageError("--after: that is not a token of `query list`.", hint="Copy the token whole.") from None
        if (name, order, len(values)) != (self.projection.name, str(self.order), columns):
            raise UsageError(
                f"--after: the token belongs to a listing of {name} sorted by {order!r}, "
                f"not of {self.projection.name} sorted by {str(self.order)!r}.",
                hint="Give the same --projection and --sort as for the page before.",
            )
        return values


def get(connection: Connection, projection: Projection, key: Sequence[SqlValue]) -> dict[str, Any] | None:
    """The view's row that has a key, or None."""
    return next(iter(rows_by_key(connection, projection, [tuple(key)]).values()), None)


def count(connection: Connection, projection: Projection, conditions: Sequence[Condition]) -> int:
    """How many rows of the view meet all conditions."""
    where, parameters = where_clause(conditions)
    counted = connection.query(f"SELECT COUNT(*) AS n FROM {quoted(projection.view)} {where}", parameters)
    return int(counted[0]["n"])


def _packed(value: Any) -> Any:
    match value:
        case Decimal():
            return {"N": str(value)}
        case datetime():
            return {"T": value.isoformat()}
        case bytes():
            return {"B": base64.b64encode(value).decode()}
        case _:
            return value


def _unpacked(value: Any) -> Any:
    match value:
        case {"N": text}:
            return Decimal(text)
        case {"T": text}:
            return datetime.fromisoformat(text)
        case {"B": text}:
            return base64.b64decode(text)
        case dict() | list():
            raise ValueError("not a column's value")
        case _:
            return value
