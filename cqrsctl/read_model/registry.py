"""Which physical tables there are now: read from the bookkeeping, where a rebuild changes it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from cqrsctl.errors import DatabaseError
from cqrsctl.projection.declaration import projection_of
from cqrsctl.projection.tables import PhysicalTable, Tables
from cqrsctl.read_model.checkpoints import aware
from cqrsctl.read_model.connection import ReadModelMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection


def read(
    connection: Connection, projections: Sequence[Projection], *, others_too: bool = False, locked: bool = False
) -> Tables:
    """The tables of projections, each as it was declared; `locked`: as they stay until the transaction ends.

    `others_too`: also those of every other registered projection. Raises ReadModelMissing if one of `projections` has
    no tables.
    """
    names = sorted(projection.name for projection in projections)
    condition = "" if others_too else f"WHERE projection.name IN ({', '.join(['%s'] * len(names))})"
    rows = connection.query(
        f"""
        SELECT projection.name, active_version, projection.declaration, building_version,
               rebuild.declaration AS building_declaration,
               active.since AS active_since, building.since AS building_since
        FROM cqrs_projection AS projection
        LEFT JOIN cqrs_rebuild AS rebuild
               ON rebuild.projection = projection.name AND rebuild.version = projection.building_version
        LEFT JOIN cqrs_snapshot AS active
               ON active.projection = projection.name AND active.version = projection.active_version
        LEFT JOIN cqrs_snapshot AS building
               ON building.projection = projection.name AND building.version = projection.building_version
        {condition}
        ORDER BY projection.name {"LOCK IN SHARE MODE" if locked else ""}
        """,
        [] if others_too else names,
    )
    if missing := set(names) - {row["name"] for row in rows}:
        raise ReadModelMissing(
            f"Projection {min(missing)} has no tables any more.", hint="Make them with: cqrsctl read-model init"
        )
    return Tables(
        active=tuple(
            PhysicalTable(declared(row["name"], row["declaration"]), row["active_version"], aware(row["active_since"]))
            for row in rows
        ),
        building=tuple(
            PhysicalTable(
                declared(row["name"], row["building_declaration"]),
                row["building_version"],
                aware(row["building_since"]),
            )
            for row in rows
            if row["building_version"] is not None
        ),
    )


def names(connection: Connection) -> list[str]:
    """The projections that have a table, also those whose declaration only a later release understands."""
    rows = connection.query("SELECT name FROM cqrs_projection ORDER BY name")
    connection.commit()
    return [row["name"] for row in rows]


def registered(connection: Connection) -> dict[str, Projection]:
    """The projections that have a table, by name, as the table behind each view was declared."""
    rows = connection.query("SELECT name, declaration FROM cqrs_projection ORDER BY name")
    connection.commit()
    return {row["name"]: declared(row["name"], row["declaration"]) for row in rows}


@lru_cache(maxsize=64)
def declared(name: str, declaration: str) -> Projection:
    """A projection as it was declared when a table was made. Raises DatabaseError if this release cannot read that."""
    try:
        return projection_of(name, declaration)
    except (ValueError, KeyError, TypeError) as error:
        raise DatabaseError(
            f"The declaration of projection {name} in the database cannot be read: {error}.",
            hint="A later release of cqrsctl made its table: use that one.",
            code="declaration_unknown",
        ) from error
