"""The read model's tables and views: made, compared with the declaration, described, dropped.

For a projection `product` there are physical tables `product_v1`, `product_v2`, … and a view, by its own name,
over the active one. Applications read the view. The SQL runs on Aurora MySQL 3 (MySQL 8.0) and MariaDB 10.11.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cqrsctl.errors import DatabaseError
from cqrsctl.projection.declaration import declaration_of
from cqrsctl.projection.tables import PhysicalTable
from cqrsctl.read_model import bookkeeping, real_columns, registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.tables import Tables
    from cqrsctl.read_model.connection import Connection

COLLATION = "utf8mb4_unicode_520_ci"
"""Knows characters beyond the first plane, and both MySQL 8.0 and MariaDB have it."""


def quoted(identifier: str) -> str:
    """An identifier for SQL."""
    return "`" + identifier.replace("`", "``") + "`"


def statements(projections: Sequence[Projection]) -> list[str]:
    """Everything that `create` would run on an empty database, for --dry-run."""
    made = bookkeeping.statements()
    for projection in projections:
        made += [table_ddl(PhysicalTable(projection, 1)), view_ddl(PhysicalTable(projection, 1))]
    return made


def create_database(connection: Connection, name: str) -> None:
    connection.execute(f"CREATE DATABASE IF NOT EXISTS {quoted(name)}")


def create(connection: Connection, projections: Sequence[Projection], *, as_registered: bool = False) -> list[str]:
    """Make what is missing; the names of the views that were made.

    Raises DatabaseError (`schema_differs`) if a projection is declared as neither the table behind its view was
    nor one that a rebuild fills, unless tables are filled `as_registered`. DDL commits by itself in MySQL; so a
    projection is registered last, and what a killed run left is made again.
    """
    bookkeeping.make(connection)
    known = registry.names(connection)
    made = []
    for projection in projections:
        if projection.name in known:
            if not as_registered:
                _check_same(projection, registry.read(connection, [projection]))
            _check_whole(connection, projection)
            _check_indexes(connection, projection)
            continue
        _make(connection, PhysicalTable(projection, 1))
        made.append(projection.view)
    if projections:
        written = registry.read(connection, projections)
        real_columns.require_wide_enough(connection, (*written.active, *written.building))
        connection.commit()
    return made


def create_missing(connection: Connection, projection: Projection) -> None:
    """Make a projection's table and view if it has none, of whatever declaration."""
    if not connection.query("SELECT name FROM cqrs_projection WHERE name = %s", (projection.name,)):
        _make(connection, PhysicalTable(projection, 1))


def _make(connection: Connection, table: PhysicalTable) -> None:
    connection.execute(table_ddl(table))
    connection.execute(view_ddl(table))
    # Another projector may register it at the same moment; the first one counts.
    connection.execute(
        "INSERT IGNORE INTO cqrs_projection (name, view_name, active_version, declaration, created_at)"
        " VALUES (%s, %s, %s, %s, NOW(6))",
        (table.projection.name, table.projection.view, table.version, declaration_of(table.projection)),
    )
    connection.commit()


def table_ddl(table: PhysicalTable, *, indexed: bool = True) -> str:
    """The statement that makes a physical table. Only keys are NOT NULL: a tombstone keeps nothing else.

    A table that is to be filled is made without its indexes (`indexes_ddl` adds them): that is quicker.
    """
    projection = table.projection
    lines = [
        f"{quoted(column.name)} {real_columns.sql_type(column)}{' NOT NULL' if column.key else ''}"
        for column in projection.columns
    ]
    lines += [
        "_version DECIMAL(65, 0) NOT NULL",
        "_deleted BOOLEAN NOT NULL",
        "_changed_at DATETIME(6) NOT NULL",
        "_applied_at DATETIME(6) NOT NULL",
        f"PRIMARY KEY ({', '.join(quoted(column.name) for column in projection.keys)})",
    ]
    if indexed:
        lines += [f"KEY ({quoted(column.name)})" for column in projection.columns if column.index]
    body = ",\n    ".join(lines)
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(table.name)} (\n    {body}\n)"
        f" ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE {COLLATION}"
    )


def indexes_ddl(connection: Connection, table: PhysicalTable) -> str | None:
    """The statement that adds the declared indexes that a physical table lacks; None if it has them all."""
    found = connection.query(
        "SELECT column_name AS name FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name = %s AND seq_in_index = 1",
        (table.name,),
    )
    there = {row["name"] for row in found}
    lacking = [column for column in table.projection.columns if column.index and column.name not in there]
    if not lacking:
        return None
    return f"ALTER TABLE {quoted(table.name)} " + ", ".join(f"ADD KEY ({quoted(column.name)})" for column in lacking)


def view_ddl(table: PhysicalTable) -> str:
    """The statement that puts the view over a physical table: live rows and business columns only.

    It reads the table by the rights of who makes it, so rights on the view alone are enough, also after a rebuild.
    """
    columns = ", ".join(quoted(column.name) for column in table.projection.columns)
    return (
        f"CREATE OR REPLACE SQL SECURITY DEFINER VIEW {quoted(table.projection.view)} AS\n"
        f"SELECT {columns}\nFROM {quoted(table.name)}\nWHERE _deleted = FALSE"
    )


def drop(connection: Connection, projections: Sequence[Projection]) -> list[str]:
    """Drop the projections' views, tables and checkpoints; the bookkeeping too, once no projection is left.

    Dead letters stay: one may be the only record of its change.
    """
    bookkeeping.make(connection)  # an earlier release made fewer tables
    dropped = []
    for projection in projections:
        for table in physical_tables(connection, projection.name):
            connection.execute(f"DROP TABLE {quoted(table)}")
            dropped.append(table)
        connection.execute(f"DROP VIEW IF EXISTS {quoted(projection.view)}")
        bookkeeping.forget(connection, projection.name)
    if not connection.query("SELECT name FROM cqrs_projection"):
        bookkeeping.drop(connection)
    return dropped


def physical_tables(connection: Connection, projection: str) -> list[str]:
    """The names of a projection's physical tables, of every version."""
    found = connection.query(
        "SELECT table_name AS name FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name REGEXP %s AND table_type = 'BASE TABLE'",
        (f"^{projection}_v[0-9]+$",),
    )
    return [row["name"] for row in found]


def _check_whole(connection: Connection, projection: Projection) -> None:
    if not physical_tables(connection, projection.name):
        raise DatabaseError(
            f"Projection {projection.name} is registered, but its table is gone: a drop ended half-way.",
            hint="Drop the rest, then create it again: `cqrsctl read-model drop`, then `cqrsctl project`.",
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


def _check_same(projection: Projection, written: Tables) -> None:
    found = [differences(projection, table.projection) for table in (*written.active, *written.building)]
    if all(found):
        raise DatabaseError(
            f"The tables of projection {projection.name} were made from another declaration: {'; '.join(found[0])}.",
            hint="Rebuild it as it is declared now, while the old one serves: `cqrsctl rebuild`; "
            "or declare it as it was.",
            code="schema_differs",
        )


def differences(projection: Projection, declared: Projection) -> list[str]:
    """Where a table's declaration is not that of the projection, column by column."""
    there, asked = (json.loads(declaration_of(each)) for each in (declared, projection))
    found = [] if there["view"] == asked["view"] else [f"the view was {there['view']}, is {asked['view']}"]
    # As text: in Python true equals 1.
    was, now = (json.dumps(content.get("where", {}), ensure_ascii=False, sort_keys=True) for content in (there, asked))
    if was != now:
        found.append(f"where: was {was}, is {now}")
    columns_there = {column["name"]: column for column in there["columns"]}
    columns_asked = {column["name"]: column for column in asked["columns"]}
    for name in sorted({*columns_there, *columns_asked}):
        old, new = columns_there.get(name), columns_asked.get(name)
        if old is None or new is None:
            found.append(f"column {name} is {'new' if old is None else 'gone'}")
        else:
            found += [f"{name}.{key}: was {old[key]}, is {new[key]}" for key in old if old[key] != new.get(key)]
    return found
