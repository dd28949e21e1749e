"""Whether a physical table can still hold what it was declared for: its columns as they really are.

MariaDB and MySQL round a decimal that has too many places with only a note, so a column that was narrowed by hand has
to be found before anything is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl.errors import DatabaseError
from cqrsctl.projection.definition import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.projection.definition import ColumnType
    from cqrsctl.projection.tables import Table
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


def narrowed(connection: Connection, table: Table) -> list[str]:
    """Columns that cannot hold all that is declared, each in words; also those that are gone."""
    rows = connection.query(
        "SELECT column_name AS name, data_type AS kind, column_type AS shown, numeric_precision AS digits,"
        " numeric_scale AS places, character_maximum_length AS length, datetime_precision AS fraction"
        " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s",
        (table.name,),
    )
    real = {row["name"].lower(): row for row in rows}
    found = []
    for column in table.projection.columns:
        row = real.get(column.name.lower())
        if row is None:
            found.append(f"{column.name} is gone")
        elif not _holds(row, column.type):
            found.append(f"{column.name} is {row['shown']}, declared {column.type}")
    return found


def require_wide_enough(connection: Connection, tables: Sequence[Table]) -> None:
    """Raises DatabaseError (`column_narrowed`) where a table cannot hold all that it is declared for."""
    for table in tables:
        if found := narrowed(connection, table):
            raise DatabaseError(
                f"Table {table.name} is not as declared: {'; '.join(found)}. Values would be rounded or refused.",
                hint="Change the columns back to what is declared, or declare them as they are and `cqrsctl rebuild`.",
                code="column_narrowed",
            )


def _holds(real: dict[str, Any], declared: ColumnType) -> bool:
    if real["kind"].lower() not in _DATA_TYPES[declared.kind] or "unsigned" in real["shown"].lower():
        return False
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
        case _:
            return True
