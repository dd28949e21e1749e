"""Purging: tombstones are needed as long as an older change of their item may still come, and after that removed.

An older change comes out of the stream, which keeps changes for 24 hours, or it is a dead letter that is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cqrsctl.change import RETENTION
from cqrsctl.errors import Busy, TransactionConflict, UsageError
from cqrsctl.read_model import checkpoints, dead_letters, registry, schema
from cqrsctl.read_model.query import beyond

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.tables import PhysicalTable
    from cqrsctl.read_model.connection import Connection

_MARGIN = timedelta(hours=1)
"""Trimming is not to the second, nor are the times of changes, and clocks differ."""
LEAST_AGE = RETENTION + _MARGIN
USUAL_AGE = timedelta(hours=48)
ROWS_A_TRANSACTION = 1_000
_ROWS_A_LOOK = 10_000

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Purge:
    """What is to be removed of the table behind a projection's view: tombstones of changes before `before`.

    `kept` counts those that are old enough, but that a dead letter may be older than.
    """

    table: PhysicalTable
    before: datetime
    removable: int
    kept: int


def require_age(older_than: timedelta) -> None:
    """Raises UsageError if tombstones so young may still be needed."""
    if older_than < LEAST_AGE:
        raise UsageError(
            "--older-than: tombstones younger than 25 hours are kept. The stream holds older changes of the same "
            "products for 24 hours, and one that is read once more would bring its product back.",
            hint="Give 25h or more.",
        )


def plan(connection: Connection, projection: Projection, older_than: timedelta) -> Purge:
    """What is to be removed, by the database's clock. Raises UsageError, Busy while a rebuild is under way."""
    require_age(older_than)
    table = _active(connection, projection)
    asked = now(connection) - older_than
    before = asked
    if (oldest := _oldest_letter(connection, projection.name)) is not None:
        before = min(before, oldest - _MARGIN)
    removable = count(connection, table.name, before)
    kept = count(connection, table.name, asked) - removable if before < asked else 0
    connection.commit()
    return Purge(table, before, removable, kept)


def now(connection: Connection) -> datetime:
    """The database's time, with a zone."""
    moment: datetime | None = checkpoints.aware(connection.query("SELECT NOW(6) AS now")[0]["now"])
    if moment is None:
        raise AssertionError("a server knows the time")
    return moment


def count(connection: Connection, table: str, before: datetime) -> int:
    """How many tombstones a table has of changes before a moment."""
    found = connection.query(
        f"SELECT COUNT(*) AS n FROM {schema.quoted(table)} WHERE _deleted = TRUE AND _changed_at < %s",
        (checkpoints.naive(before),),
    )
    return int(found[0]["n"])


def batches(connection: Connection, purge: Purge) -> Iterator[list[Key]]:
    """The keys of the tombstones to be removed, as many at once as one transaction takes.

    The table is walked in the order of its key, some thousand rows at a time: nothing is locked, memory is constant.
    """
    after: Key | None = None
    while True:
        end = _key_after(connection, purge, after)
        old = _old_keys(connection, purge, after)
        connection.commit()
        for begin in range(0, len(old), ROWS_A_TRANSACTION):
            yield old[begin : begin + ROWS_A_TRANSACTION]
        if end is None:
            return
        after = end


def remove(connection: Connection, purge: Purge, keys: Sequence[Key]) -> int:
    """Remove tombstones in a transaction of their own; how many were still there and still old.

    Raises Busy if a rebuild has begun, TransactionConflict with the transaction rolled back.
    """
    try:
        # As in the sink, the shared lock keeps a rebuild from changing the tables until this transaction has ended.
        if _active(connection, purge.table.projection, locked=True) != purge.table:
            raise _rebuilt(purge.table.projection)
        removed = connection.execute(
            f"DELETE FROM {schema.quoted(purge.table.name)}"
            f" WHERE ({_key_list(purge.table)}) IN ({', '.join([_marks(purge.table)] * len(keys))})"
            " AND _deleted = TRUE AND _changed_at < %s",
            [*(part for key in keys for part in key), checkpoints.naive(purge.before)],
        )
        connection.commit()
    except (Busy, TransactionConflict):
        connection.rollback()
        raise
    return removed


def _active(connection: Connection, projection: Projection, *, locked: bool = False) -> PhysicalTable:
    """The table behind the view. Raises Busy if another one is being built, ReadModelMissing."""
    found = registry.read(connection, [projection], locked=locked)
    if found.building:
        raise _rebuilt(projection)
    return found.active[0]


def _rebuilt(projection: Projection) -> Busy:
    return Busy(
        f"Projection {projection.name} is being rebuilt: its tables are about to change.",
        hint="Let the rebuild end, or abandon it with `cqrsctl rebuild --discard`, and purge then.",
    )


def _oldest_letter(connection: Connection, projection: str) -> datetime | None:
    """When the oldest change happened that was set aside and may be tried again."""
    if not dead_letters.count(connection, projection):
        return None
    return min(
        (letter.change.created_at for letter in dead_letters.listing(connection) if letter.projection == projection),
        default=None,
    )


def _old_keys(connection: Connection, purge: Purge, after: Key | None) -> list[Key]:
    """The keys of old tombstones among the next rows."""
    names = _key_list(purge.table)
    where, parameters = _after(purge.table, after)
    rows = connection.query(
        f"""
        SELECT {names}
        FROM (
            SELECT {names}, _deleted, _changed_at
            FROM {schema.quoted(purge.table.name)}{where}
            ORDER BY {names}
            LIMIT {_ROWS_A_LOOK}
        ) AS next_rows
        WHERE _deleted = TRUE AND _changed_at < %s
        """,
        [*parameters, checkpoints.naive(purge.before)],
    )
    return [tuple(row.values()) for row in rows]


def _key_after(connection: Connection, purge: Purge, after: Key | None) -> Key | None:
    """The key of the last of the next rows; None if there are fewer rows left than are looked at together."""
    names = _key_list(purge.table)
    where, parameters = _after(purge.table, after)
    rows = connection.query(
        f"SELECT {names} FROM {schema.quoted(purge.table.name)}{where}"
        f" ORDER BY {names} LIMIT 1 OFFSET {_ROWS_A_LOOK - 1}",
        parameters,
    )
    return tuple(rows[0].values()) if rows else None


def _after(table: PhysicalTable, after: Key | None) -> tuple[str, list[Any]]:
    if after is None:
        return "", []
    condition, parameters = beyond(table.projection.keys, after)
    return f" WHERE {condition}", parameters


def _key_list(table: PhysicalTable) -> str:
    return ", ".join(schema.quoted(column.name) for column in table.projection.keys)


def _marks(table: PhysicalTable) -> str:
    return f"({', '.join(['%s'] * len(table.projection.keys))})"
