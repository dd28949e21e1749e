"""Repairing single rows of the active table, without ever overwriting what a projector wrote meanwhile.

Each write is a compare-and-set on the version that was read before the item was: if a change was applied since, the
row has another version and stays as it is. The repaired row has version 0: it is the item as it was at a moment, so of
the changes that have yet to be applied those from before it are stale, and all later ones win.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cqrsctl.read_model.checkpoints import naive
from cqrsctl.read_model.connection import literal
from cqrsctl.read_model.schema import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.fitting import SqlValue
    from cqrsctl.projection.tables import PhysicalTable
    from cqrsctl.read_model.connection import Connection


class Stored(NamedTuple):
    """What the physical table has of a key beside its columns. `deleted`: a tombstone."""

    version: int
    deleted: bool


def stored(
    connection: Connection, table: PhysicalTable, keys: Sequence[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Stored]:
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


def overwrite(
    connection: Connection,
    table: PhysicalTable,
    key: tuple[Any, ...],
    values: Sequence[SqlValue] | None,
    known: Stored | None,
    moment: datetime,
) -> bool:
    """Write the values of an item's row, or with None a tombstone, within the running transaction.

    `known`: what was stored when the row was seen to differ. False if it is something else by now, so that nothing
    was written. `moment`, by the clock of the changes: the item contains all earlier changes and no others. Raises
    ValueRejected, TransactionConflict, DatabaseError.
    """
    if known is None:
        return values is not None and _insert(connection, table, key, values, moment, "_version = _version")
    columns = table.projection.values
    cells = ["NULL"] * len(columns) if values is None else list(map(literal, values))
    changes = [f"{quoted(column.name)} = {cell}" for column, cell in zip(columns, cells, strict=True)]
    changes += [f"_deleted = {values is None:d}", f"_changed_at = {_time(moment)}", "_applied_at = NOW(6)"]
    written, _ = connection.upsert(
        f"UPDATE {quoted(table.name)} SET {', '.join(changes)}, _version = 0"
        f" WHERE {_is(table.projection, key)} AND _version = {known.version} AND _deleted = {known.deleted:d}"
        f" AND (_version > 0 OR _changed_at <= {_time(moment)})",
        1,
    )
    return written == 1


def put_into_former(
    connection: Connection,
    table: PhysicalTable,
    key: tuple[Any, ...],
    values: Sequence[SqlValue] | None,
    moment: datetime,
) -> None:
    """Write a repaired row, or with None a tombstone, into the table that an undo would bring back.

    That one is not projected any more, so only a repair of a later moment can have brought it something newer.
    """
    names = [*(quoted(column.name) for column in table.projection.values), "_version", "_deleted", "_applied_at"]
    # The guard reads _changed_at, so that one comes last.
    assignments = ", ".join(f"{name} = IF({_IS_LATER}, VALUES({name}), {name})" for name in [*names, "_changed_at"])
    _insert(connection, table, key, values, moment, assignments)


_IS_LATER = "VALUES(_changed_at) >= _changed_at"


def _insert(
    connection: Connection,
    table: PhysicalTable,
    key: tuple[Any, ...],
    values: Sequence[SqlValue] | None,
    moment: datetime,
    where_it_is: str,
) -> bool:
    """Insert a row, or change one that is there by the assignments of `where_it_is`; whether a row was written."""
    projection = table.projection
    columns = [quoted(column.name) for column in (*projection.keys, *projection.values)]
    cells = [*map(literal, key), *(["NULL"] * len(projection.values) if values is None else map(literal, values))]
    written, _ = connection.upsert(
        f"INSERT INTO {quoted(table.name)} ({', '.join(columns)}, _version, _deleted, _changed_at, _applied_at)"
        f" VALUES ({', '.join(cells)}, 0, {values is None:d}, {_time(moment)}, NOW(6))"
        f" ON DUPLICATE KEY UPDATE {where_it_is}",
        1,
    )
    return written == 1


def _time(moment: datetime) -> str:
    return literal(naive(moment))


def _is(projection: Projection, key: tuple[Any, ...]) -> str:
    return " AND ".join(
        f"{quoted(column.name)} = {literal(part)}" for column, part in zip(projection.keys, key, strict=True)
    )
