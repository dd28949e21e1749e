"""Queries on the view: filters, keyset paging, and SQL that cannot write."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import UsageError
from cqrsctl.projection.fitting import Kind
from cqrsctl.read_model.schema import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.projection.definition import Column, Projection
    from cqrsctl.read_model.connection import Connection

_ROWS_AT_ONCE = 1_000
_READING = {"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "TABLE", "VALUES"}
_SPACE_OR_COMMENT = re.compile(r"(\s+|--\s[^\n]*(\n|$)|#[^\n]*(\n|$)|/\*(?![!M]).*?\*/)*", re.DOTALL)
_TEXT_OR_COMMENT = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`]|``)*` | --\s[^\n]* | \#[^\n]* | /\*(?![!M]).*?\*/""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which products a query is about. Prices are inclusive."""

    name_like: str | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    out_of_stock: bool | None = None

    def conditions(self, projection: Projection) -> tuple[list[str], list[Any]]:
        """SQL conditions and their parameters. Raises UsageError where the view lacks a filter's column."""
        chosen: list[tuple[str, str, Any]] = [
            ("Name", "LIKE %s", None if self.name_like is None else _like(self.name_like)),
            ("Price", ">= %s", self.min_price),
            ("Price", "<= %s", self.max_price),
            ("OutOfStock", "= %s", self.out_of_stock),
        ]
        used = [entry for entry in chosen if entry[2] is not None]
        names = [quoted(require_column(projection, name).name) for name, _, _ in used]
        sql = [f"{name} {test}" for name, (_, test, _) in zip(names, used, strict=True)]
        return sql, [value for _, _, value in used]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page of a listing: filtered, sorted by one column and then by key, both up or both down, after the row that a
    token names."""

    projection: Projection
    filters: Filters
    sort: str
    limit: int
    after: str | None = None

    def run(self, connection: Connection) -> tuple[list[dict[str, Any]], str | None]:
        """The page's rows, and the token of the next page (None: there is none). Raises UsageError."""
        column, descending = self._order()
        conditions, parameters = self.filters.conditions(self.projection)
        if self.after:
            sort_value, keys = self._from_token(self.after)
            condition, more = _after(column, self.projection.keys, sort_value, keys, descending=descending)
            conditions.append(condition)
            parameters += more
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        names = [quoted(each.name) for each in (column, *(key for key in self.projection.keys if key is not column))]
        direction = " DESC" if descending else ""
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
        return page, self._token(places[self.limit - 1]) if len(places) > self.limit else None

    def _order(self) -> tuple[Column, bool]:
        return require_column(self.projection, self.sort.removeprefix("-")), self.sort.startswith("-")

    def _token(self, row: dict[str, Any]) -> str:
        column, _ = self._order()
        content = [self.sort, _packed(row[column.name]), [_packed(row[key.name]) for key in self.projection.keys]]
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    def _from_token(self, token: str) -> tuple[Any, list[Any]]:
        try:
            padded = token + "=" * (-len(token) % 4)
            sort, sort_value, keys = json.loads(base64.urlsafe_b64decode(padded))
            values = _unpacked(sort_value), [_unpacked(key) for key in keys]
        except (ValueError, TypeError, KeyError, ArithmeticError):
            raise UsageError("--after: that is not a token of `query list`.", hint="Copy the token whole.") from None
        if sort != self.sort or len(values[1]) != len(self.projection.keys):
            raise UsageError(
                f"--after: the token belongs to a listing sorted by {sort!r}, not {self.sort!r}.",
                hint="Give the same --sort as for the page before.",
            )
        return values


def get(connection: Connection, projection: Projection, product_id: int) -> dict[str, Any] | None:
    """One row of the view by its key, or None. Raises UsageError where the key is not one number."""
    (key, *others) = projection.keys
    if others or key.type.kind is not Kind.BIGINT:
        raise UsageError(f"The key of view {projection.view} is not one number.", hint="Use: cqrsctl query sql")
    rows = connection.query(
        f"SELECT {select_list(projection)} FROM {quoted(projection.view)} WHERE {quoted(key.name)} = %s", (product_id,)
    )
    return typed(projection, rows[0]) if rows else None


def count(connection: Connection, projection: Projection, filters: Filters) -> int:
    """How many rows of the view pass the filters."""
    conditions, parameters = filters.conditions(projection)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    found = connection.query(f"SELECT COUNT(*) AS n FROM {quoted(projection.view)}{where}", parameters)
    return int(found[0]["n"])


def rows_by_key(
    connection: Connection, projection: Projection, keys: Sequence[tuple[Any, ...]]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The view's rows that have one of the keys, by key."""
    if not keys:
        return {}
    marks = "(" + ", ".join(["%s"] * len(projection.keys)) + ")"
    names = ", ".join(quoted(key.name) for key in projection.keys)
    rows = connection.query(
        f"SELECT {select_list(projection)} FROM {quoted(projection.view)}"
        f" WHERE ({names}) IN ({', '.join([marks] * len(keys))})",
        [part for key in keys for part in key],
    )
    return {tuple(row[key.name] for key in projection.keys): typed(projection, row) for row in rows}


def keys_after(
    connection: Connection, projection: Projection, after: tuple[Any, ...] | None, limit: int
) -> list[tuple[Any, ...]]:
    """The view's keys in order, after one of them, at most `limit`."""
    names = ", ".join(quoted(key.name) for key in projection.keys)
    condition, parameters = ("", []) if after is None else beyond(projection.keys, after)
    where = f" WHERE {condition}" if condition else ""
    rows = connection.query(
        f"SELECT {names} FROM {quoted(projection.view)}{where} ORDER BY {names} LIMIT %s", [*parameters, limit]
    )
    return [tuple(row.values()) for row in rows]


def read_only(connection: Connection, sql: str) -> Iterator[tuple[list[str], tuple[Any, ...] | None]]:
    """Run one statement in a read-only transaction: first (names, None), then (names, row) for each row.

    Writing is barred three times: only statements that begin like a query are sent, one at a time (the
    connection cannot send several); the transaction is read-only, and so is every other that the session might
    begin; and it is rolled back at the end. Raises UsageError, DatabaseError.
    """
    require_reading(sql)
    connection.execute("SET SESSION TRANSACTION READ ONLY")
    connection.execute("START TRANSACTION READ ONLY")
    try:
        yield from connection.stream(sql)
    finally:
        connection.close()


def require_reading(sql: str) -> None:
    """Raises UsageError where a statement does not begin like a query.

    Comments that MySQL or MariaDB would execute (`/*!`, `/*M!`) are no comments here.
    """
    skipped = _SPACE_OR_COMMENT.match(sql)
    rest = sql[skipped.end() if skipped else 0 :].lstrip("(").lstrip()
    word = re.match(r"[A-Za-z]+", rest)
    if word is None or word[0].upper() not in _READING:
        raise UsageError(
            f"Only queries are run here, and this begins with {(word[0] if word else rest[:10])!r}.",
            hint=f"It must begin with one of {', '.join(sorted(_READING))}.",
        )
    code = _TEXT_OR_COMMENT.sub(" ", sql)
    if re.search(r"/\*|\bINTO\b", code, re.IGNORECASE):
        raise UsageError("A query here can have neither INTO nor comments that the server executes.")


def typed(projection: Projection, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the declared types: MySQL returns booleans as numbers and JSON as text."""
    converted = dict(row)
    for column in projection.columns:
        value = converted[column.name]
        if value is None:
            continue
        if column.type.kind is Kind.BOOLEAN:
            converted[column.name] = bool(value)
        elif column.type.kind is Kind.JSON:
            converted[column.name] = json.loads(value)
    return converted


def select_list(projection: Projection) -> str:
    return ", ".join(quoted(column.name) for column in projection.columns)


def require_column(projection: Projection, name: str) -> Column:
    """The view's column of a name. Raises UsageError where there is none."""
    column = projection.column(name)
    if column is None:
        names = ", ".join(column.name for column in projection.columns)
        raise UsageError(f"View {projection.view} has no column {name!r}.", hint=f"It has {names}.")
    return column


def _after(
    column: Column, keys: tuple[Column, ...], sort_value: Any, key_values: list[Any], *, descending: bool
) -> tuple[str, list[Any]]:
    """The condition of rows that come after one in the order (column, keys). NULL sorts first, going up."""
    names = ", ".join(quoted(key.name) for key in keys)
    later_key = f"({names}) {'<' if descending else '>'} ({', '.join(['%s'] * len(keys))})"
    if len(keys) == 1 and keys[0] is column:
        return f"{names} {'<' if descending else '>'} %s", key_values
    name = quoted(column.name)
    if sort_value is None:
        beyond = "" if descending else f" OR {name} IS NOT NULL"
        return f"(({name} IS NULL AND {later_key}){beyond})", key_values
    beyond = f"{name} < %s OR {name} IS NULL" if descending else f"{name} > %s"
    return f"({beyond} OR ({name} = %s AND {later_key}))", [sort_value, sort_value, *key_values]


def beyond(keys: Sequence[Column], after: Sequence[Any]) -> tuple[str, list[Any]]:
    """The condition of later keys in a form that MySQL answers from the index, as it does not for (a, b) > (x, y)."""
    name, value = quoted(keys[0].name), after[0]
    if len(keys) == 1:
        return f"{name} > %s", [value]
    rest, parameters = beyond(keys[1:], after[1:])
    return f"{name} >= %s AND ({name} > %s OR ({rest}))", [value, value, *parameters]


def _like(text: str) -> str:
    """TEXT as a LIKE pattern: with % it is one already, else it may stand anywhere."""
    return text if "%" in text else "%" + text.replace("\\", "\\\\").replace("_", "\\_") + "%"


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
