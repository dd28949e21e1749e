"""The account of rebuilds: which table is being built and how far, the cutover, and the way back.

A rebuild registers the next physical table as being built; from then on every projector writes both tables. It loads
the snapshot, and once all changes up to the snapshot's end are in, puts the view over the new table. Whatever moment it
dies in, this account has what is needed to resume or abandon it; the view serves all the while.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import Busy, CqrsctlError
from cqrsctl.projection.declaration import declaration_of
from cqrsctl.projection.tables import PhysicalTable
from cqrsctl.read_model import checkpoints, dead_letters, loaded_segments, locks, registry, schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection

_UNDO_WITHIN = timedelta(hours=23)
"""The stream keeps changes for 24 hours, and the former table has to be brought up to date from it."""

VIEW_LOCK_SECONDS = 3
"""So long a change of the view waits for queries under way, and new ones wait behind it; then it is tried again."""
_INDEX_LOCK_SECONDS = 600
_NOTHING_TO_UNDO = "nothing_to_undo"


class RebuildState(StrEnum):
    """How far a rebuild is."""

    LOADING = "loading"
    LOADED = "loaded"
    CUTOVER = "cutover"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A projection's last rebuild. `table` is the one that it makes or made, `former` the one behind the view before.

    `undoing`: the table is there already, from before, and is only brought up to date. `ended_gap`: the former table
    lacks changes that are lost.
    """

    table: PhysicalTable
    former: PhysicalTable
    stream_arn: str
    state: RebuildState
    undoing: bool
    begun_at: datetime
    ended_at: datetime | None
    ended_gap: bool


def limit_lock_waits(connection: Connection, seconds: int) -> None:
    """Let a change of a table or view wait at most that long for the transactions that use it."""
    connection.execute(f"SET SESSION lock_wait_timeout = {seconds}")


def take_lock(connection: Connection, database: str, projection: str) -> None:
    """Be the only one who rebuilds a projection, for as long as the connection lives. Raises Busy."""
    if not locks.take(connection, locks.of_rebuild(database, projection)):
        raise Busy(
            f"Projection {projection} is being rebuilt by another process.",
            hint="Wait for that one, or stop it; `cqrsctl rebuild` then resumes where it stopped.",
        )


def require_lock(connection: Connection, database: str, projection: str) -> None:
    """Raises TransientDatabaseError if the lock was lost. It also keeps the connection from being idle."""
    locks.require(connection, {locks.of_rebuild(database, projection): f"the rebuild of {projection}"})
    connection.commit()


def find(connection: Connection, name: str) -> Rebuild | None:
    """A projection's last rebuild, under way or done; None if there never was one."""
    rows = connection.query(
        """
        SELECT rebuild.*, snapshot.since
        FROM cqrs_rebuild AS rebuild
        LEFT JOIN cqrs_snapshot AS snapshot
               ON snapshot.projection = rebuild.projection AND snapshot.version = rebuild.version
        WHERE rebuild.projection = %s
        """,
        (name,),
    )
    connection.commit()
    return _rebuild(rows[0]) if rows else None


def begin(
    connection: Connection,
    projection: Projection,
    stream_arn: str,
    segments: int,
    floor: Callable[[], datetime | None] = lambda: None,
) -> Rebuild:
    """Make the next table and register it as being built. The caller has the lock; no other one is being built.

    `floor` is asked once no transaction of a projector is under way any more: a time, by the clock of the changes, that
    is later than every change which came into the read model until then. All changes from before it have to be in the
    snapshot that is read later; whatever brings one of them again is stale for the new table.

    Checkpoints from which no projector could resume (a gap, another stream) are replaced: the snapshot needs only what
    comes from now on. Tables that earlier rebuilds left are dropped. Raises TransactionConflict if somebody reads
    them, DatabaseError.
    """
    (active,) = registry.read(connection, [projection]).active
    connection.rollback()
    there = schema.physical_tables(connection, projection.name)
    version = max([active.version, *(int(name.rpartition("_v")[2]) for name in there)]) + 1
    for name in there:
        if name != active.name:
            connection.execute(f"DROP TABLE {schema.quoted(name)}")
    table = PhysicalTable(projection, version)
    connection.execute(schema.table_ddl(table, indexed=False))
    _lock_tables(connection, projection.name)
    since = floor()
    replaced = None
    if checkpoints.are_lost(connection, projection.name, stream_arn):
        replaced = checkpoints.serialised(connection, projection.name)
        checkpoints.restore(connection, projection.name, "[]")
    connection.execute(
        """
        REPLACE INTO cqrs_rebuild
            (projection, version, declaration, former_version, former_declaration, stream, state, undoing,
             replaced_checkpoints, begun_at)
        VALUES (%s, %s, %s, %s, %s, %s, 'loading', FALSE, %s, NOW(6))
        """,
        (
            projection.name,
            version,
            declaration_of(projection),
            active.version,
            declaration_of(active.projection),
            stream_arn,
            replaced,
        ),
    )
    dead_letters.forget_settled(connection)
    loaded_segments.make(connection, projection.name, segments)
    connection.execute(
        "DELETE FROM cqrs_snapshot WHERE projection = %s AND version <> %s", (projection.name, active.version)
    )
    connection.execute(
        "INSERT INTO cqrs_snapshot VALUES (%s, %s, %s)", (projection.name, version, checkpoints.naive(since))
    )
    _set_building(connection, projection.name, version)
    connection.commit()
    return _require(connection, projection.name)


def begin_undo(connection: Connection, name: str, stream_arn: str) -> Rebuild:
    """Register the former table as being built: the changes since the cutover are read once more, and come into it.

    The caller has the lock of the rebuild and that of the projector. Raises CqrsctlError if there is no way back.
    """
    done = find(connection, name)
    if done is None or done.state is not RebuildState.DONE:
        raise CqrsctlError(f"There is no rebuild of projection {name} to undo.", code=_NOTHING_TO_UNDO)
    if (refusal := _refused_undo(connection, done, stream_arn)) is not None:
        raise refusal
    _lock_tables(connection, name)
    dead_letters.unsettle(connection, name, since=done.ended_at)
    now = checkpoints.serialised(connection, name)
    (account,) = connection.query("SELECT cutover_checkpoints FROM cqrs_rebuild WHERE projection = %s", (name,))
    checkpoints.restore(connection, name, account["cutover_checkpoints"])
    _exchange(connection, name)
    connection.execute(
        """
        UPDATE cqrs_rebuild
        SET state = 'loaded', undoing = TRUE, replaced_checkpoints = %s, begun_at = NOW(6)
        WHERE projection = %s
        """,
        (now, name),
    )
    _set_building(connection, name, done.former.version)
    connection.commit()
    return _require(connection, name)


def abandon(connection: Connection, rebuild: Rebuild) -> None:
    """Forget a rebuild that is under way: its table is dropped, and checkpoints that it replaced come back.

    Raises CqrsctlError if the cutover has begun: then the view may be over the new table.
    """
    name = rebuild.table.projection.name
    if rebuild.state is RebuildState.CUTOVER:
        raise CqrsctlError(
            f"The rebuild of projection {name} is at its cutover and can only be finished.",
            hint="Finish it with: cqrsctl rebuild",
            code="cutover_begun",
        )
    _lock_tables(connection, name)
    _set_building(connection, name, None)
    (account,) = connection.query("SELECT replaced_checkpoints FROM cqrs_rebuild WHERE projection = %s", (name,))
    if account["replaced_checkpoints"] is not None:
        checkpoints.restore(connection, name, account["replaced_checkpoints"])
    if rebuild.undoing:
        _exchange(connection, name)
        connection.execute(
            """
            UPDATE cqrs_rebuild
            SET state = 'done', undoing = FALSE, replaced_checkpoints = NULL
            WHERE projection = %s
            """,
            (name,),
        )
    else:
        loaded_segments.forget(connection, name)
        connection.execute("DELETE FROM cqrs_rebuild WHERE projection = %s", (name,))
    connection.commit()
    if not rebuild.undoing:
        connection.execute(f"DROP TABLE IF EXISTS {schema.quoted(rebuild.table.name)}")


def way_back(connection: Connection, name: str) -> PhysicalTable | None:
    """The table that an undo would bring back, as long as the table's stream stays; None if an undo is refused."""
    done = find(connection, name)
    if done is None or done.state is not RebuildState.DONE:
        return None
    return done.former if _refused_undo(connection, done, done.stream_arn) is None else None


def _refused_undo(connection: Connection, done: Rebuild, stream_arn: str) -> CqrsctlError | None:
    """Why a finished rebuild cannot be undone; None if it can be."""
    name = done.table.projection.name
    if done.former.name not in schema.physical_tables(connection, name):
        return CqrsctlError(f"Table {done.former.name} is gone: the rebuild cannot be undone.", code=_NOTHING_TO_UNDO)
    if done.stream_arn != stream_arn or _age(connection, name) > _UNDO_WITHIN:
        return CqrsctlError(
            f"The changes since {done.ended_at:%Y-%m-%d %H:%M} UTC are not in the stream any more, so table "
            f"{done.former.name} cannot be brought up to date.",
            hint="Declare the projection as it was, then: cqrsctl rebuild",
            code=_NOTHING_TO_UNDO,
        )
    if done.ended_gap:
        return CqrsctlError(
            f"The rebuild of projection {name} ended a gap: table {done.former.name} lacks the changes that were lost.",
            code=_NOTHING_TO_UNDO,
        )
    return None


def under_way(connection: Connection, name: str) -> Rebuild | None:
    """The rebuild that has not come to its end, or None."""
    found = find(connection, name)
    return found if found and found.state is not RebuildState.DONE else None


def mark_loaded(connection: Connection, rebuild: Rebuild) -> None:
    """Remember that the snapshot is in, with its indexes."""
    connection.rollback()
    if (statement := schema.indexes_ddl(connection, rebuild.table)) is not None:
        # An index may take an hour, and at its end waits for transactions under way: it must not fail then.
        limit_lock_waits(connection, _INDEX_LOCK_SECONDS)
        connection.execute(statement)
        limit_lock_waits(connection, VIEW_LOCK_SECONDS)
    _set_state(connection, rebuild, RebuildState.LOADED)


def cut_over(connection: Connection, rebuild: Rebuild) -> None:
    """Put the view over the new table, and end writing the former one. It may be run again if it was cut short.

    Both tables are written until the last step, so whoever reads either sees the same.
    """
    name = rebuild.table.projection.name
    connection.rollback()
    _set_state(connection, rebuild, RebuildState.CUTOVER)
    connection.execute(schema.view_ddl(rebuild.table))
    if rebuild.former.projection.view != rebuild.table.projection.view:
        connection.execute(f"DROP VIEW IF EXISTS {schema.quoted(rebuild.former.projection.view)}")
    _lock_tables(connection, name)
    connection.execute(
        """
        UPDATE cqrs_projection
        SET view_name = %s, active_version = %s, declaration = %s, building_version = NULL
        WHERE name = %s
        """,
        (rebuild.table.projection.view, rebuild.table.version, declaration_of(rebuild.table.projection), name),
    )
    connection.execute(
        """
        UPDATE cqrs_rebuild
        SET state = 'done', replaced_checkpoints = IF(undoing, NULL, replaced_checkpoints), undoing = FALSE,
            cutover_checkpoints = %s, ended_at = NOW(6)
        WHERE projection = %s
        """,
        (checkpoints.serialised(connection, name), name),
    )
    loaded_segments.forget(connection, name)
    connection.commit()


def count_shown(connection: Connection, table: PhysicalTable) -> int:
    """The number of rows that a view over a table shows; it reads all of them."""
    (row,) = connection.query(f"SELECT COUNT(*) AS n FROM {schema.quoted(table.name)} WHERE _deleted = FALSE")
    connection.commit()
    return int(row["n"])


def _rebuild(row: dict[str, Any]) -> Rebuild:
    return Rebuild(
        table=PhysicalTable(
            registry.declared(row["projection"], row["declaration"]), row["version"], checkpoints.aware(row["since"])
        ),
        former=PhysicalTable(registry.declared(row["projection"], row["former_declaration"]), row["former_version"]),
        stream_arn=row["stream"],
        state=RebuildState(row["state"]),
        undoing=bool(row["undoing"]),
        begun_at=row["begun_at"],
        ended_at=row["ended_at"],
        ended_gap=row["replaced_checkpoints"] is not None and not row["undoing"],
    )


def _require(connection: Connection, name: str) -> Rebuild:
    found = find(connection, name)
    if found is None:
        raise AssertionError("it was just begun")
    return found


def _age(connection: Connection, name: str) -> timedelta:
    """How long ago the cutover was, by the server's clock."""
    (row,) = connection.query(
        "SELECT TIMESTAMPDIFF(SECOND, ended_at, NOW(6)) AS seconds FROM cqrs_rebuild WHERE projection = %s", (name,)
    )
    return timedelta(seconds=row["seconds"])


def _lock_tables(connection: Connection, name: str) -> None:
    """Wait until no transaction of a projector is under way, and let none begin until this one ends."""
    connection.rollback()
    connection.query("SELECT name FROM cqrs_projection WHERE name = %s FOR UPDATE", (name,))


def _set_building(connection: Connection, name: str, version: int | None) -> None:
    connection.execute("UPDATE cqrs_projection SET building_version = %s WHERE name = %s", (version, name))


def _set_state(connection: Connection, rebuild: Rebuild, state: RebuildState) -> None:
    connection.execute(
        "UPDATE cqrs_rebuild SET state = %s WHERE projection = %s", (state.value, rebuild.table.projection.name)
    )
    connection.commit()


def _exchange(connection: Connection, name: str) -> None:
    """Make the former table the one that is made, and the other way round."""
    (done,) = connection.query("SELECT * FROM cqrs_rebuild WHERE projection = %s", (name,))
    connection.execute(
        "UPDATE cqrs_rebuild SET version = %s, declaration = %s, former_version = %s, former_declaration = %s"
        " WHERE projection = %s",
        (done["former_version"], done["former_declaration"], done["version"], done["declaration"], name),
    )
