"""Whether a physical table can still hold what it was declared for: its columns as they really are.

MariaDB and MySQL round a decimal that has too many places with only a note, so a column that was narrowed by hand has
to be found before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.errors import DatabaseError
from cqrsctl.projection.fitting import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import Column, ColumnType
    from cqrsctl.projection.tables import PhysicalTable
    from cqrsctl.read_model.connection import Connection

_TEXT_BYTES = 65_535
_DATA_TYPES: dict[Kind, set[str]] = {
    Kind.BIGINT: {"bigint"},
    Kind.DECIMAL: {"decimal"},
    Kind.VARCHAR: {"varchar", "text", "mediumtext", "longtext"},
    Kind.TEXT: {"text", "mediumtext", "longtext"},
    Kind.BOOLEAN: {"tinyint", "smallint", "mediumint", "int", "bigint"},
    Kind.DOUBLE: {"double"},
    Kind.DATETIME: {"datetime"},
    Kind.JSON: {"json", "longtext"},  # MariaDB's json is a longtext with a check
    Kind.VARBINARY: {"varbinary", "blob", "mediumblob", "longblob"},
}


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A column that cannot hold all that is declared: how it differs, and what in ALTER TABLE puts it back."""

    table: str
    difference: str
    change: str

    def __str__(self) -> str:
        return f"{self.table}.{self.difference}"


def narrowed(connection: Connection, table: PhysicalTable) -> list[Narrowed]:
    """The columns of a table that cannot hold all that it was declared for; also those that are gone.

    None of a table that is gone itself.
    """
    rows = connection.query(
        "SELECT column_name AS name, data_type AS kind, column_type AS shown, numeric_precision AS digits,"
        " numeric_scale AS places, character_maximum_length AS length, datetime_precision AS fraction,"
        " is_nullable AS nullable"
        " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s",
        (table.name,),
    )
    if not rows:
        return []
    real = {row["name"].lower(): row for row in rows}
    differing = []
    for column in table.projection.columns:
        row = real.get(column.name.lower())
        definition = f"`{column.name}` {sql_type(column)}{' NOT NULL' if column.key else ''}"
        if row is None:
            differing.append(Narrowed(table.name, f"{column.name} is gone", f"ADD COLUMN {definition}"))
        elif difference := _difference(column, row):
            differing.append(Narrowed(table.name, f"{column.name} is {difference}", f"MODIFY {definition}"))
    return differing


def narrowed_of(connection: Connection, tables: Sequence[PhysicalTable]) -> list[Narrowed]:
    """The narrowed columns of some tables: of all that are written, those that a rebuild fills among them."""
    return [column for table in tables for column in narrowed(connection, table)]


def restoring(columns: Sequence[Narrowed]) -> tuple[str, ...]:
    """The statements that put columns back to what is declared, one a table."""
    changes: dict[str, list[str]] = {}
    for column in columns:
        changes.setdefault(column.table, []).append(column.change)
    return tuple(f"ALTER TABLE `{table}` {', '.join(some)};" for table, some in changes.items())


def how_to_restore(statements: Sequence[str]) -> str:
    """What to do about narrowed columns. A rebuild is no way out: it still writes the table that serves."""
    return (
        f"Put them back: {' '.join(statements)} Then run `cqrsctl verify --repair`, for what was rounded or is missing."
    )


def require_wide_enough(connection: Connection, tables: Sequence[PhysicalTable]) -> None:
    """Raises DatabaseError (`column_narrowed`) if a table that is written cannot hold all that it is declared for."""
    for table in tables:
        if columns := narrowed(connection, table):
            raise DatabaseError(
                f"Table {table.name} is not as declared: {'; '.join(column.difference for column in columns)}. "
                "Values would be rounded or refused.",
                hint=how_to_restore(restoring(columns)),
                code="column_narrowed",
            )


def sql_type(column: Column) -> str:
    """The column's type in SQL. A text key compares by code point: 'a' and 'A' are two keys."""
    if column.type.kind is Kind.DATETIME:
        return "DATETIME(6)"
    if column.type.kind is Kind.VARCHAR and column.key:
        return f"{str(column.type).upper()} COLLATE utf8mb4_bin"
    return str(column.type).upper()


def _difference(column: Column, row: dict[str, Any]) -> str | None:
    """What a column really is and what is declared; None if it holds all that is declared."""
    if not _holds(row, column.type):
        return f"{row['shown']}, declared {column.type}"
    if not column.key and row["nullable"] == "NO":  # a tombstone keeps no values
        return f"{row['shown']} not null, declared {column.type}"
    return None


def _holds(real: dict[str, Any], declared: ColumnType) -> bool:
    unsigned = declared.kind is not Kind.BOOLEAN and "unsigned" in real["shown"].lower()
    return real["kind"].lower() in _DATA_TYPES[declared.kind] and not unsigned and _is_large_enough(real, declared)


def _is_large_enough(real: dict[str, Any], declared: ColumnType) -> bool:
    match declared.kind:
        case Kind.DECIMAL:
            digits, places = declared.sizes
            return bool(real["places"] >= places and real["digits"] - real["places"] >= digits - places)
        case Kind.VARCHAR | Kind.VARBINARY:
            return bool(real["length"] >= declared.sizes[0])
        case Kind.TEXT:
            return bool(real["length"] >= _TEXT_BYTES)
        case Kind.DATETIME:
            return bool(real["fraction"] == 6)
        case Kind.DOUBLE:
            return real["places"] is None  # double(10,2) rounds
        case _:
            return True
