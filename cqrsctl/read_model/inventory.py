"""What the database holds of the projections, and who projects them, read over one connection.

Only what is quick to ask: rows are the server's own estimate; `counted` counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.change import ShardState
from cqrsctl.errors import DatabaseError, StreamGap
from cqrsctl.read_model import (
    checkpoints,
    dead_letters,
    function_position,
    heartbeat,
    loaded_segments,
    locks,
    purge,
    real_columns,
    rebuilds,
    registry,
    schema,
    takeover,
)
from cqrsctl.read_model.connection import ReadModelMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.function_position import Gap
    from cqrsctl.read_model.heartbeat import LastProjected
    from cqrsctl.read_model.real_columns import Narrowed

_STATISTICS_EXPIRY = "information_schema_stats_expiry"


@dataclass(frozen=True, slots=True)
class Building:
    """A table that a rebuild fills: `items` are loaded so far, `held` says whether somebody is at it."""

    table: str
    state: str
    items: int
    held: bool


@dataclass(frozen=True, slots=True)
class StoredProjection:
    """What there is of a projection. `rows` is an estimate; None, as `bytes`, if its table is gone.

    `differences` are those of its declaration, `narrowed` the columns that cannot hold what is declared.
    """

    name: str
    view: str
    table: str
    rows: int | None
    bytes: int | None
    building: Building | None = None
    dead_letters: int = 0
    differences: tuple[str, ...] = ()
    narrowed: tuple[Narrowed, ...] = ()

    @property
    def all_differences(self) -> tuple[str, ...]:
        """How its table is not as it is declared now."""
        if self.rows is None:
            return (f"table {self.table} is gone",)
        return (*self.differences, *map(str, self.narrowed))


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was made of the declared projections, and the traces of those who project them.

    `checkpoints` are all that there are, of other projections and streams too. `function_gaps` are of changes that
    never reached the function, `unfilled` names projections whose rebuild has to load what was lost. `holder` is the
    projector that is at work, `last` whoever projected last. `progressed_at` is when checkpoints of the declared
    projections last moved, by the server's clock, and `progress_seconds` how long that is ago; None if there are
    none. `rows_written` counts what the server was written since it began, whoever did it.
    """

    projections: tuple[StoredProjection, ...]
    checkpoints: tuple[dict[str, Any], ...] = ()
    function_gaps: tuple[Gap, ...] = ()
    unfilled: tuple[str, ...] = ()
    holder: str | None = None
    last: LastProjected | None = None
    progressed_at: datetime | None = None
    progress_seconds: float | None = None
    rows_written: int = 0

    @property
    def by_function(self) -> bool:
        """Whether the projector function was the last to project."""
        return self.last is not None and self.last.by_function

    def of(self, projection: str) -> StoredProjection | None:
        """What there is of a projection; None if it was never made."""
        return next((each for each in self.projections if each.name == projection), None)

    def lost_shards(self, projections: Collection[str], stream_arn: str | None) -> Iterator[tuple[str, str]]:
        """The projections and shards that a projector found trimmed: those of the stream.

        Of a projection that never followed it those of any stream; what it lost of an earlier one does not matter else.
        """
        followed = {row["projection"] for row in self.checkpoints if row["stream"] == stream_arn}
        for row in self.checkpoints:
            here = row["stream"] == stream_arn or row["projection"] not in followed
            if row["state"] == ShardState.GAP and here and row["projection"] in projections:
                yield row["projection"], row["shard"]

    def gaps(self, projections: Collection[str], stream_arn: str | None) -> list[StreamGap]:
        """Everything that is marked as lost: what never reached the function, and what a projector found trimmed."""
        found = [function_position.error([gap]) for gap in self.function_gaps if gap.projection in projections]
        for projection, shard in self.lost_shards(projections, stream_arn):
            loss = f"Projection {projection} lost changes of shard {shard}."
            found.append(StreamGap(loss, followers=frozenset({projection})))
        return found


@dataclass(frozen=True, slots=True)
class Counted:
    """The rows of a projection's table. `old_tombstones` are those that a purge removes."""

    rows: int
    tombstones: int
    old_tombstones: int


def read(connection: Connection, database: str, projections: Sequence[Projection]) -> Inventory:
    """Raises ReadModelMissing if nothing was made yet, DatabaseError."""
    known = registry.names(connection)
    try:
        found = _read(connection, database, [projection for projection in projections if projection.name in known])
    except ReadModelMissing as missing:
        raise DatabaseError(
            f"The read model was made by an earlier release, and lacks a table. {missing.message}",
            hint="Complete it with: cqrsctl read-model init",
            code="read_model_incomplete",
        ) from missing
    connection.commit()
    return found


def _read(connection: Connection, database: str, declared: Sequence[Projection]) -> Inventory:
    names = [projection.name for projection in declared]
    rows = checkpoints.listing(connection)
    moved = max((row["updated_at"] for row in rows if row["projection"] in names), default=None)
    held = [name for name in names if locks.is_held(connection, locks.of_projector(database, name))]
    return Inventory(
        projections=tuple(_stored(connection, database, projection) for projection in declared),
        checkpoints=tuple(rows),
        function_gaps=tuple(function_position.gaps(connection)),
        unfilled=tuple(takeover.unfilled(connection, names)),
        holder=locks.holder(connection, held[0]) if held else None,
        last=heartbeat.last(connection),
        progressed_at=moved,
        progress_seconds=max(0.0, (purge.now(connection) - moved).total_seconds()) if moved else None,
        rows_written=_rows_written(connection),
    )


def counted(connection: Connection, stored: Sequence[StoredProjection]) -> dict[str, Counted]:
    """The rows of each projection's table, by its name: every row is read. Raises DatabaseError."""
    before = purge.now(connection) - purge.USUAL_AGE
    found = {each.name: _counted(connection, each, before) for each in stored}
    connection.commit()
    return found


def _counted(connection: Connection, stored: StoredProjection, before: datetime) -> Counted:
    if stored.rows is None:
        return Counted(0, 0, 0)
    rows = connection.query(
        "SELECT _deleted, COUNT(*) AS n, COALESCE(SUM(_changed_at < %s), 0) AS old"
        f" FROM {schema.quoted(stored.table)} GROUP BY _deleted",
        (checkpoints.naive(before),),
    )
    found = {bool(row["_deleted"]): row for row in rows}
    live, deleted = ({"n": 0, "old": 0, **found.get(kind, {})} for kind in (False, True))
    return Counted(int(live["n"]), int(deleted["n"]), int(deleted["old"]))


def _stored(connection: Connection, database: str, projection: Projection) -> StoredProjection:
    tables = registry.read(connection, [projection])
    (active,) = tables.active
    size = _size(connection, active.name)
    return StoredProjection(
        name=projection.name,
        view=projection.view,
        table=active.name,
        rows=int(size["n"]) if size else None,
        bytes=int(size["bytes"]) if size else None,
        building=_building(connection, database, projection.name),
        dead_letters=dead_letters.count(connection, projection.name),
        differences=tuple(schema.differences(projection, active.projection)),
        narrowed=tuple(real_columns.narrowed_of(connection, (*tables.active, *tables.building))),
    )


def _building(connection: Connection, database: str, name: str) -> Building | None:
    rebuild = rebuilds.under_way(connection, name)
    if rebuild is None:
        return None
    return Building(
        table=rebuild.table.name,
        state=rebuild.state.value,
        items=loaded_segments.items(connection, name),
        held=locks.is_held(connection, locks.of_rebuild(database, name)),
    )


def _size(connection: Connection, table: str) -> dict[str, Any] | None:
    # By default MySQL 8 answers from numbers that may be a day old; MariaDB does not have the variable.
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
