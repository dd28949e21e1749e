"""Queries on the view: its rows and keys by key, and SQL that cannot write."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import UsageError
from cqrsctl.projection.fitting import Kind
from cqrsctl.read_model.schema import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.projection.definition import Column, Projection
    from cqrsctl.read_model.connection import Connection

_READING = {"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "TABLE", "VALUES"}
_SPACE_OR_COMMENT = re.compile(r"(\s+|--\s[^\n]*(\n|$)|#[^\n]*(\n|$)|/\*(?![!M]).*?\*/)*", re.DOTALL)
_TEXT_OR_COMMENT = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`]|``)*` | --\s[^\n]* | \#[^\n]* | /\*(?![!M]).*?\*/""",
    re.DOTALL | re.VERBOSE,
)


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
    """Raises UsageError if a statement does not begin like a query.

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


def beyond(keys: Sequence[Column], after: Sequence[Any], *, descending: bool = False) -> tuple[str, list[Any]]:
    """The condition of later keys in a form that MySQL answers from the index, as it does not for (a, b) > (x, y)."""
    name, value, later = quoted(keys[0].name), after[0], "<" if descending else ">"
    if len(keys) == 1:
        return f"{name} {later} %s", [value]
    rest, parameters = beyond(keys[1:], after[1:], descending=descending)
    return f"{name} {later}= %s AND ({name} {later} %s OR ({rest}))", [value, value, *parameters]
