"""The read model as a whole: what the database holds of it, and dropping it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.read_model import checkpoints, dead_letters, function_position, heartbeat, schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import take_lock

if TYPE_CHECKING:
    from cqrsctl.read_model.function_position import Gap
    from cqrsctl.read_model.heartbeat import LastProjected
    from cqrsctl.wiring import Wiring


@dataclass(frozen=True, slots=True)
class ReadModelStatus:
    """What the database holds, ready to be shown. `last_projected` is None if nothing was ever projected."""

    projections: list[dict[str, Any]]
    checkpoints: list[dict[str, Any]]
    last_projected: LastProjected | None
    function_gaps: list[Gap]


def status(wiring: Wiring) -> ReadModelStatus:
    """Raises ReadModelMissing where nothing was made yet, DatabaseError."""
    with connect(wiring.database) as connection:
        found = schema.status(connection, wiring.environment.projections)
        return ReadModelStatus(
            projections=[
                {
                    "projection": projection.name,
                    "view": projection.view,
                    "table": projection.table,
                    "rows": projection.rows,
                    "tombstones": projection.tombstones,
                    "dead_letters": dead_letters.count(connection, projection.name),
                    "differences": "; ".join(projection.differences) or None,
                }
                for projection in found
            ],
            checkpoints=checkpoints.listing(connection),
            last_projected=heartbeat.last(connection),
            function_gaps=function_position.gaps(connection, {projection.name for projection in found}),
        )


def drop(wiring: Wiring) -> list[str]:
    """Drop tables, views and checkpoints; the names of the tables. Raises Busy while a projector runs."""
    endpoint, projections = wiring.database, wiring.environment.projections
    with connect(endpoint) as connection:
        take_lock(connection, endpoint.database, projections)
        return schema.drop(connection, projections)
