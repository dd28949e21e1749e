"""What the database tells of those who write it: who holds the locks, when they last got on, and how much there is.

Only what is quick to ask: rows are the server's own estimate, not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.change import ShardState
from cqrsctl.read_model import dead_letters, function_position, heartbeat, locks, real_columns, rebuilds, registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.function_position import Gap

_STATISTICS_EXPIRY = "information_schema_stats_expiry"


@dataclass(frozen=True, slots=True)
class ProjectorTraces:
    """What a projector leaves behind. `held`: somebody has the lock; `holder` is who has it, else who projected last.

    `progressed_at` is when checkpoints last moved, by the server's clock, and `progress_seconds` how long that is ago;
    None where there are none. `rows_written` counts what the server was written since it began, whoever did it.
    """

    held: bool
    holder: str | None
    by_function: bool
    progressed_at: datetime | None
    progress_seconds: float | None
    rows_written: int


@dataclass(frozen=True, slots=True)
class Building:
    """A table that a rebuild fills: `items` are loaded so far, `held` says whether somebody is at it."""

    table: str
    state: str
    items: int
    held: bool


@dataclass(frozen=True, slots=True)
class StoredProjection:
    """What there is of a projection. `rows` is an estimate; None, as `bytes`, where its table is gone.

    `gaps` counts shards that a projector found trimmed, `function_gap` is what never reached the function, `narrowed`
    are the columns that cannot hold what is declared.
    """

    table: str
    rows: int | None
    bytes: int | None
    building: Building | None
    dead_letters: int
    gaps: int
    declared_otherwise: bool
    function_gap: Gap | None = None
    narrowed: tuple[str, ...] = ()


def of_projector(connection: Connection, database: str, projections: Sequence[Projection]) -> ProjectorTraces:
    """What the projector of some projections left. Raises ReadModelMissing."""
    names = [projection.name for projection in projections]
    held = [name for name in names if locks.is_held(connection, locks.of_projector(database, name))]
    last = heartbeat.last(connection)
    (moved,) = connection.query(
        "SELECT MAX(updated_at) AS at, TIMESTAMPDIFF(MICROSECOND, MAX(updated_at), NOW(6)) AS age FROM cqrs_checkpoint"
        f" WHERE projection IN ({', '.join(['%s'] * len(names))})",
        names,
    )
    return ProjectorTraces(
        held=bool(held),
        holder=locks.holder(connection, held[0]) if held else last and last.holder,
        by_function=last is not None and last.by_function,
        progressed_at=moved["at"],
        progress_seconds=None if moved["age"] is None else max(0.0, moved["age"] / 1_000_000),
        rows_written=_rows_written(connection),
    )


def of_projection(connection: Connection, database: str, projection: Projection) -> StoredProjection:
    """What there is of a projection. Raises ReadModelMissing where it was never made."""
    found = registry.read(connection, [projection])
    (active,) = found.active
    size = _size(connection, active.name)
    gaps = connection.query(
        "SELECT COUNT(*) AS n FROM cqrs_checkpoint WHERE projection = %s AND state = %s",
        (projection.name, ShardState.GAP.value),
    )
    return StoredProjection(
        table=active.name,
        rows=int(size["n"]) if size else None,
        bytes=int(size["bytes"]) if size else None,
        building=_building(connection, database, projection.name),
        dead_letters=dead_letters.count(connection, projection.name),
        gaps=gaps[0]["n"],
        declared_otherwise=active.projection != projection,
        function_gap=next(iter(function_position.gaps(connection, [projection.name])), None),
        narrowed=tuple(map(str, real_columns.narrowed_of(connection, (*found.active, *found.building)))),
    )


def _building(connection: Connection, database: str, name: str) -> Building | None:
    rebuild = rebuilds.under_way(connection, name)
    if rebuild is None:
        return None
    return Building(
        table=rebuild.table.name,
        state=rebuild.state.value,
        items=sum(segment.items for segment in rebuilds.segments(connection, name)),
        held=locks.is_held(connection, locks.of_rebuild(database, name)),
    )


def _size(connection: Connection, table: str) -> dict[str, Any] | None:
    # MySQL 8 answers from numbers that may be a day old, unless told otherwise; MariaDB does not know the variable.
    if connection.query(f"SHOW VARIABLES LIKE '{_STATISTICS_EXPIRY}'"):
        connection.execute(f"SET SESSION {_STATISTICS_EXPIRY} = 0")
    found = connection.query(
        "SELECT COALESCE(table_rows, 0) AS n, COALESCE(data_length + index_length, 0) AS bytes"
        " FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s",
        (table,),
    )
    return found[0] if found else None


def _rows_written(connection: Connection) -> int:
    """MySQL counts rows of its storage apart; MariaDB does not, but keeps temporary tables out of Handler_write."""
    found = {
        row["Variable_name"]: int(row["Value"])
        for row in connection.query(
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_rows_inserted', 'Innodb_rows_updated', 'Handler_write')"
        )
    }
    stored = [found[name] for name in ("Innodb_rows_inserted", "Innodb_rows_updated") if name in found]
    return sum(stored) if stored else found["Handler_write"]
