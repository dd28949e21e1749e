"""What the checks need to know of the database, read over one connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.read_model import checkpoints, dead_letters, function_position, grants, heartbeat, locks, purge, schema
from cqrsctl.read_model.connection import ReadModelMissing, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.change import Checkpoints
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection, Endpoint
    from cqrsctl.read_model.function_position import Gap
    from cqrsctl.read_model.grants import Grants
    from cqrsctl.read_model.schema import ProjectionStatus


@dataclass(frozen=True, slots=True)
class Server:
    """The server as this user sees it. `demands_tls`: it refuses connections without."""

    user: str
    grants: Grants
    demands_tls: bool
    most_connections: int


@dataclass(frozen=True, slots=True)
class ReadModel:
    """What was made of the declared projections, and what stands beside their rows.

    `rebuilding` names those whose next table is there, and tells whether somebody is at it; letters and tombstones are
    counted by projection. `held_by` is the projector that is at work, `by_function`: the Lambda function was the last.
    `function_gaps` are of changes that never reached the function.
    """

    projections: tuple[ProjectionStatus, ...]
    rebuilding: dict[str, bool]
    checkpoints: tuple[dict[str, Any], ...]
    dead_letters: dict[str, int]
    old_tombstones: dict[str, int]
    held_by: str | None
    by_function: bool
    function_gaps: tuple[Gap, ...] = ()


def connection(endpoint: Endpoint) -> Connection:
    """Connect, to the server at least where the database was not made. Raises DatabaseError, ConfigurationError."""
    try:
        return connect(endpoint)
    except ReadModelMissing:
        return connect(endpoint, with_database=False)


def server(connection: Connection) -> Server:
    """Raises DatabaseError."""
    rows = connection.query("SHOW VARIABLES WHERE Variable_name IN ('require_secure_transport', 'max_connections')")
    variables = {row["Variable_name"]: row["Value"] for row in rows}
    return Server(
        user=connection.query("SELECT CURRENT_USER() AS name")[0]["name"],
        grants=grants.read(connection),
        demands_tls=variables.get("require_secure_transport") == "ON",
        most_connections=int(variables["max_connections"]),
    )


def read_model(connection: Connection, database: str, projections: Sequence[Projection]) -> ReadModel | None:
    """None where nothing was made yet. Raises DatabaseError."""
    if connection.query("SELECT DATABASE() AS name")[0]["name"] is None:
        return None
    try:
        made = schema.status(connection, projections)
    except ReadModelMissing:
        return None
    finally:
        connection.rollback()
    names = [each.name for each in made]
    before = purge.now(connection) - purge.USUAL_AGE
    building = connection.query("SELECT name FROM cqrs_projection WHERE building_version IS NOT NULL ORDER BY name")
    found = ReadModel(
        projections=tuple(made),
        rebuilding={
            row["name"]: locks.is_held(connection, locks.of_rebuild(database, row["name"]))
            for row in building
            if row["name"] in names
        },
        checkpoints=tuple(row for row in checkpoints.listing(connection) if row["projection"] in names),
        dead_letters={name: dead_letters.count(connection, name) for name in names},
        old_tombstones={
            each.name: purge.count(connection, each.table, before) if each.tombstones else 0 for each in made
        },
        held_by=_holder(connection, database, names),
        by_function=heartbeat.by_function(connection),
        function_gaps=tuple(function_position.gaps(connection, names)),
    )
    connection.commit()
    return found


def positions(connection: Connection, projections: Sequence[Projection], stream_arn: str) -> dict[str, Checkpoints]:
    """How far each projection that follows a stream has read its shards, by projection. Raises DatabaseError."""
    following = {row["projection"] for row in checkpoints.listing(connection) if row["stream"] == stream_arn}
    return {
        projection.name: checkpoints.read(connection, [projection], stream_arn)[projection.name]
        for projection in projections
        if projection.name in following
    }


def _holder(connection: Connection, database: str, projections: Sequence[str]) -> str | None:
    """Who holds the lock of a projection; None where no projector is at work."""
    for name in projections:
        if locks.is_held(connection, locks.of_projector(database, name)):
            return locks.holder(connection, name)
    return None
