"""Mending single rows of the active table, without ever overwriting what a projector wrote meanwhile.

Each write is a compare-and-set on the version that was read before the item was: if a change was applied since, the
row has another version and stays as it is. The version itself is kept, so that any later change still wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cqrsctl.read_model.connection import literal
from cqrsctl.read_model.schema import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import Projection, SqlValue
    from cqrsctl.projection.tables import Table
    from cqrsctl.read_model.connection import Connection


class Stored(NamedTuple):
    """What the physical table has of a key beside its columns. `deleted`: a tombstone."""

    version: int
    deleted: bool


def stored(connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Stored]:
    """The versions of those keys that the physical table has."""
    if not keys:
        return {}
    names = ", ".join(quoted(column.name) for column in table.projection.keys)
    wanted = ", ".join(f"({', '.join(map(literal, key))})" for key in keys)
    rows = connection.query(
        f"SELECT {names}, _version, _deleted FROM {quoted(table.name)} WHERE ({names}) IN ({wanted})"
    )
    return {
        tuple([row[column.name] for column in table.projection.keys]): Stored(
            int(row["_version"]), bool(row["_deleted"])
        )
        for row in rows
    }


def mend(
    connection: Connection, table: Table, key: tuple[Any, ...], values: Sequence[SqlValue] | None, known: Stored | None
) -> bool:
    """Write the values of an item's row, or with None a tombstone, within the running transaction.

    `known`: what was stored when the row was seen to differ. False where it is something else by now, so that nothing
    was written. Raises ValueRejected, TransactionConflict, DatabaseError.
    """
    if known is None:
        return values is not None and _insert(connection, table, key, values)
    columns = table.projection.values
    cells = ["NULL"] * len(columns) if values is None else list(map(literal, values))
    changes = [f"{quoted(column.name)} = {cell}" for column, cell in zip(columns, cells, strict=True)]
    changes += [f"_deleted = {values is None:d}", "_applied_at = NOW(6)"]
    written, _ = connection.upsert(
        f"UPDATE {quoted(table.name)} SET {', '.join(changes)}"
        f" WHERE {_is(table.projection, key)} AND _version = {known.version} AND _deleted = {known.deleted:d}",
        1,
    )
    return written == 1


def _insert(connection: Connection, table: Table, key: tuple[Any, ...], values: Sequence[SqlValue]) -> bool:
    """Insert a row that is older than any change, unless the key is there by now."""
    projection = table.projection
    names = ", ".join(quoted(column.name) for column in (*projection.keys, *projection.values))
    written, _ = connection.upsert(
        f"INSERT INTO {quoted(table.name)} ({names}, _version, _deleted, _changed_at, _applied_at)"
        f" VALUES ({', '.join(map(literal, (*key, *values)))}, 0, FALSE, NOW(6), NOW(6))"
        " ON DUPLICATE KEY UPDATE _version = _version",
        1,
    )
    return written == 1


def _is(projection: Projection, key: tuple[Any, ...]) -> str:
    return " AND ".join(
        f"{quoted(column.name)} = {literal(part)}" for column, part in zip(projection.keys, key, strict=True)
    )
