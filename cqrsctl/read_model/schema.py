"""The read model's tables and views: made, compared with the declaration, described, dropped.

For a projection `product` there are physical tables `product_v1`, `product_v2`, … and a view, by its own name,
over the active one. Applications read the view. The SQL runs on Aurora MySQL 3 (MySQL 8.0) and MariaDB 10.11.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import DatabaseError
from cqrsctl.projection.definition import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import Column, Projection
    from cqrsctl.read_model.connection import Connection

COLLATION = "utf8mb4_unicode_520_ci"
"""Knows characters beyond the first plane, and both MySQL 8.0 and MariaDB have it."""

_BOOKKEEPING = {
    # Which physical table of a projection is active, which one a rebuild is filling, and what it was made from.
    "cqrs_projection": """
    CREATE TABLE IF NOT EXISTS cqrs_projection (
        name             VARCHAR(40)  NOT NULL PRIMARY KEY,
        view_name        VARCHAR(64)  NOT NULL,
        active_version   INT UNSIGNED NOT NULL,
        building_version INT UNSIGNED NULL,
        declaration      MEDIUMTEXT   NOT NULL,
        created_at       DATETIME(6)  NOT NULL
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # How far each projection has read each shard: written in the same transaction as the rows.
    "cqrs_checkpoint": """
    CREATE TABLE IF NOT EXISTS cqrs_checkpoint (
        projection      VARCHAR(40)    NOT NULL,
        stream          VARCHAR(255)   NOT NULL,
        shard           VARCHAR(65)    NOT NULL,
        parent          VARCHAR(65)    NULL,
        sequence_number VARCHAR(40)    NULL,
        state           ENUM('open', 'finished', 'gap') NOT NULL,
        record_time     DATETIME(6)    NULL,
        read_since      DATETIME(6)    NULL,
        updated_at      DATETIME(6)    NOT NULL,
        PRIMARY KEY (projection, stream, shard)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # One row: when the projector last wrote, and who it is. Read on a reader, it tells that reader's staleness.
    "cqrs_heartbeat": """
    CREATE TABLE IF NOT EXISTS cqrs_heartbeat (
        id      TINYINT      NOT NULL PRIMARY KEY,
        beat_at DATETIME(6)  NOT NULL,
        holder  VARCHAR(255) NOT NULL
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
    # Changes that did not fit, whole, until someone retries or discards them; written in the same transaction too.
    "cqrs_dead_letter": """
    CREATE TABLE IF NOT EXISTS cqrs_dead_letter (
        id              BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        projection      VARCHAR(40)     NOT NULL,
        stream          VARCHAR(255)    NOT NULL,
        shard           VARCHAR(65)     NOT NULL,
        sequence_number VARCHAR(40)     NOT NULL,
        record          LONGTEXT        NOT NULL,
        error           TEXT            NOT NULL,
        first_seen      DATETIME(6)     NOT NULL,
        attempts        INT UNSIGNED    NOT NULL,
        UNIQUE KEY (projection, stream, shard, sequence_number)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
    """,
}


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """What the database holds of a projection. `tombstones` are rows of deleted items."""

    name: str
    view: str
    table: str
    rows: int
    tombstones: int
    differences: tuple[str, ...]


def quoted(identifier: str) -> str:
    """An identifier for SQL."""
    return "`" + identifier.replace("`", "``") + "`"


def physical_table(projection: str, version: int) -> str:
    return f"{projection}_v{version}"


def statements(projections: Sequence[Projection]) -> list[str]:
    """Everything that `create` would run on an empty database, for --dry-run."""
    made = [_dedented(text) for text in _BOOKKEEPING.values()]
    for projection in projections:
        made += [table_ddl(projection, 1), view_ddl(projection, 1)]
    return made


def create_database(connection: Connection, name: str) -> None:
    connection.execute(f"CREATE DATABASE IF NOT EXISTS {quoted(name)}")


def create(connection: Connection, projections: Sequence[Projection]) -> list[str]:
    """Make what is missing; the names of the views that were made.

    Raises DatabaseError (`schema_differs`) where a table was made from another declaration. DDL commits by
    itself in MySQL; so a projection is registered last, and what a killed run left is made again.
    """
    known = _declarations(connection)
    made = []
    for projection in projections:
        if projection.name in known:
            _check_same(projection, known[projection.name])
            _check_whole(connection, projection)
            _check_indexes(connection, projection)
            continue
        connection.execute(table_ddl(projection, 1))
        connection.execute(view_ddl(projection, 1))
        # Another projector may register it at the same moment; the first one counts.
        connection.execute(
            "INSERT IGNORE INTO cqrs_projection (name, view_name, active_version, declaration, created_at)"
            " VALUES (%s, %s, 1, %s, NOW(6))",
            (projection.name, projection.view, projection.declaration()),
        )
        connection.commit()
        made.append(projection.view)
    return made


def _declarations(connection: Connection) -> dict[str, str]:
    """What each projection's tables were made from. The bookkeeping tables are made where they are missing."""
    found = connection.query(
        "SELECT table_name AS name FROM information_schema.tables"
        f" WHERE table_schema = DATABASE() AND table_name IN ({', '.join(['%s'] * len(_BOOKKEEPING))})",
        tuple(_BOOKKEEPING),
    )
    there = {row["name"] for row in found}
    for name, text in _BOOKKEEPING.items():
        if name not in there:
            connection.execute(text)
    rows = connection.query("SELECT name, declaration FROM cqrs_projection")
    return {row["name"]: row["declaration"] for row in rows}


def table_ddl(projection: Projection, version: int) -> str:
    """The statement that makes a physical table. Only keys are NOT NULL: a tombstone keeps nothing else."""
    lines = [
        f"{quoted(column.name)} {sql_type(column)}{' NOT NULL' if column.key else ''}" for column in projection.columns
    ]
    lines += [
        "_version DECIMAL(65, 0) NOT NULL",
        "_deleted BOOLEAN NOT NULL",
        "_changed_at DATETIME(6) NOT NULL",
        "_applied_at DATETIME(6) NOT NULL",
        f"PRIMARY KEY ({', '.join(quoted(column.name) for column in projection.keys)})",
    ]
    lines += [f"KEY ({quoted(column.name)})" for column in projection.columns if column.index]
    body = ",\n    ".join(lines)
    table = quoted(physical_table(projection.name, version))
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (\n    {body}\n)"
        f" ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE {COLLATION}"
    )


def view_ddl(projection: Projection, version: int) -> str:
    """The statement that puts the view over a physical table: live rows and business columns only."""
    columns = ", ".join(quoted(column.name) for column in projection.columns)
    table = quoted(physical_table(projection.name, version))
    return (
        f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW {quoted(projection.view)} AS\n"
        f"SELECT {columns}\nFROM {table}\nWHERE _deleted = FALSE"
    )


def sql_type(column: Column) -> str:
    """The column's type in SQL. A text key compares by code point: 'a' and 'A' are two keys."""
    if column.type.kind is Kind.DATETIME:
        return "DATETIME(6)"
    if column.type.kind is Kind.VARCHAR and column.key:
        return f"{str(column.type).upper()} COLLATE utf8mb4_bin"
    return str(column.type).upper()


def status(connection: Connection, projections: Sequence[Projection]) -> list[ProjectionStatus]:
    """What the database holds of each projection. Raises ReadModelMissing where nothing was made yet."""
    found = {row["name"]: row for row in connection.query("SELECT * FROM cqrs_projection")}
    return [
        _status(connection, projection, found[projection.name]["active_version"], found[projection.name]["declaration"])
        for projection in projections
        if projection.name in found
    ]


def drop(connection: Connection, projections: Sequence[Projection]) -> list[str]:
    """Drop the projections' views, tables and checkpoints; the bookkeeping too, once no projection is left.

    Dead letters stay: one may be the only record of its change.
    """
    dropped = []
    for projection in projections:
        for table in _physical_tables(connection, projection.name):
            connection.execute(f"DROP TABLE {quoted(table)}")
            dropped.append(table)
        connection.execute(f"DROP VIEW IF EXISTS {quoted(projection.view)}")
        connection.execute("DELETE FROM cqrs_checkpoint WHERE projection = %s", (projection.name,))
        connection.execute("DELETE FROM cqrs_projection WHERE name = %s", (projection.name,))
        connection.commit()
    if not connection.query("SELECT name FROM cqrs_projection"):
        letters = connection.query("SELECT id FROM cqrs_dead_letter LIMIT 1")
        for table in _BOOKKEEPING:
            if table != "cqrs_dead_letter" or not letters:
                connection.execute(f"DROP TABLE IF EXISTS {table}")
    return dropped


def _status(connection: Connection, projection: Projection, version: int, declaration: str) -> ProjectionStatus:
    table = physical_table(projection.name, version)
    if table not in _physical_tables(connection, projection.name):
        return ProjectionStatus(projection.name, projection.view, table, 0, 0, (f"table {table} is gone",))
    counted = {
        row["_deleted"]: row["n"]
        for row in connection.query(f"SELECT _deleted, COUNT(*) AS n FROM {quoted(table)} GROUP BY _deleted")
    }
    return ProjectionStatus(
        name=projection.name,
        view=projection.view,
        table=table,
        rows=counted.get(0, 0),
        tombstones=counted.get(1, 0),
        differences=tuple(_differences(projection, declaration)),
    )


def _physical_tables(connection: Connection, projection: str) -> list[str]:
    found = connection.query(
        "SELECT table_name AS name FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name REGEXP %s",
        (f"^{projection}_v[0-9]+$",),
    )
    return [row["name"] for row in found]


def _check_whole(connection: Connection, projection: Projection) -> None:
    if not _physical_tables(connection, projection.name):
        raise DatabaseError(
            f"Projection {projection.name} is registered, but its table is gone: a drop ended half-way.",
            hint="Drop the rest, then make it anew: `cqrsctl read-model drop`, then `cqrsctl project`.",
            code="read_model_damaged",
        )


def _check_indexes(connection: Connection, projection: Projection) -> None:
    """A unique index would make ON DUPLICATE KEY UPDATE change another item's row."""
    found = connection.query(
        "SELECT DISTINCT table_name AS name, index_name AS key_name FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name REGEXP %s AND non_unique = 0 AND index_name <> 'PRIMARY'",
        (f"^{projection.name}_v[0-9]+$",),
    )
    if found:
        names = ", ".join(f"{row['name']}.{row['key_name']}" for row in found)
        raise DatabaseError(
            f"There are unique indexes that cqrsctl did not make: {names}. Two items with one value would share a row.",
            hint="Drop them, or make them indexes that are not unique.",
            code="unique_index",
        )


def _check_same(projection: Projection, declaration: str) -> None:
    found = _differences(projection, declaration)
    if found:
        raise DatabaseError(
            f"The tables of projection {projection.name} were made from another declaration: {'; '.join(found)}.",
            hint="Declare it as it was, or make it anew: `cqrsctl read-model drop`, then `cqrsctl project`.",
            code="schema_differs",
        )


def _differences(projection: Projection, declaration: str) -> list[str]:
    """Where a declaration is not that of the projection, column by column."""
    there, asked = json.loads(declaration), json.loads(projection.declaration())
    found = [] if there["view"] == asked["view"] else [f"the view was {there['view']}, is {asked['view']}"]
    columns_there = {column["name"]: column for column in there["columns"]}
    columns_asked = {column["name"]: column for column in asked["columns"]}
    for name in sorted({*columns_there, *columns_asked}):
        old, new = columns_there.get(name), columns_asked.get(name)
        if old is None or new is None:
            found.append(f"column {name} is {'new' if old is None else 'gone'}")
        else:
            found += [f"{name}.{key}: was {old[key]}, is {new[key]}" for key in old if old[key] != new.get(key)]
    return found


def _dedented(text: str) -> str:
    lines = text.strip("\n").rstrip().splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines)
