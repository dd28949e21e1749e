"""Loading a snapshot: many rows into a table that is being built, as quickly as the server allows.

A row whose key is there already is passed over: it came from the stream, which wins over any snapshot.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from cqrsctl.projection.fitting import Kind
from cqrsctl.read_model import checkpoints, schema
from cqrsctl.read_model.connection import literal
from cqrsctl.read_model.packets import MOST_CHARACTERS, most_characters
from cqrsctl.read_model.writing import chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqrsctl.projection.rows import Row
    from cqrsctl.projection.tables import PhysicalTable
    from cqrsctl.read_model.connection import Connection

_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\0": "\\0"})
_FIELDS: dict[type, Callable[[Any], str]] = {
    int: str,
    Decimal: lambda number: format(number, "f"),
    str: lambda text: text.translate(_ESCAPED),
    bool: lambda truth: "1" if truth else "0",
    float: repr,
    datetime: str,
    bytes: bytes.hex,
    type(None): lambda _: "\\N",
}


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in the form in which they are sent."""

    rows: int
    lines: bytes = b""
    statements: tuple[str, ...] = ()


class Loader:
    """Loads rows into one table: by file if the server takes files, else by multi-row inserts."""

    def __init__(self, connection: Connection, table: PhysicalTable, *, by_file: bool | None = None) -> None:
        """`by_file` None: as the server allows. The connection is a bulk one."""
        self._connection = connection
        self._table = table
        self.by_file = takes_files(connection) if by_file is None else by_file
        self._most_characters = MOST_CHARACTERS if self.by_file else most_characters(connection)

    def chunk(self, rows: Sequence[Row]) -> Chunk:
        """Rows made ready to be loaded, in key order; may be called in other threads."""
        ordered = sorted(rows)
        if self.by_file:
            return Chunk(len(ordered), lines="".join(map(_line, ordered)).encode())
        return Chunk(len(ordered), statements=tuple(self._inserts(ordered)))

    def load(self, chunk: Chunk) -> None:
        """Load rows within the running transaction. Raises ValueRejected, TransientDatabaseError, DatabaseError."""
        if not chunk.rows:
            return
        if self.by_file:
            with tempfile.NamedTemporaryFile(prefix="cqrsctl-") as file:
                file.write(chunk.lines)
                file.flush()
                self._connection.load_file(self._load_statement(file.name))
        for sql in chunk.statements:
            self._connection.execute(sql)

    @property
    def _as_of(self) -> str:
        """When the snapshot has all changes from before; if that is unknown any change wins over it."""
        return literal(checkpoints.naive(self._table.since or _NEVER))

    def _load_statement(self, path: str) -> str:
        fields, unpacked = [], ""
        for index, column in enumerate((*self._table.projection.keys, *self._table.projection.values)):
            name = schema.quoted(column.name)
            if column.type.kind is Kind.VARBINARY:
                fields.append(f"@{index}")
                unpacked += f", {name} = UNHEX(@{index})"
            else:
                fields.append(name)
        return (
            f"LOAD DATA LOCAL INFILE {literal(path)} IGNORE INTO TABLE {schema.quoted(self._table.name)}"
            f" CHARACTER SET utf8mb4 ({', '.join(fields)})"
            f" SET _version = 0, _deleted = FALSE, _changed_at = {self._as_of}, _applied_at = NOW(6){unpacked}"
        )

    def _inserts(self, rows: Sequence[Row]) -> list[str]:
        projection = self._table.projection
        names = ", ".join(schema.quoted(column.name) for column in (*projection.keys, *projection.values))
        head = (
            f"INSERT INTO {schema.quoted(self._table.name)} ({names}, _version, _deleted, _changed_at, _applied_at)\n"
            "VALUES "
        )
        # Not INSERT IGNORE, which would also bend values that do not fit.
        tail = "\nON DUPLICATE KEY UPDATE _version = _version"
        as_of = self._as_of
        cells = (f"({', '.join(map(literal, (*row.key, *row.values)))}, 0, FALSE, {as_of}, NOW(6))" for row in rows)
        return [head + ",\n".join(some) + tail for some in chunks(cells, self._most_characters)]


def takes_files(connection: Connection) -> bool:
    """Whether the server takes LOAD DATA LOCAL INFILE; MySQL's default is that it does not."""
    return bool(connection.query("SELECT @@local_infile AS allowed")[0]["allowed"])


def _line(row: Row) -> str:
    return "\t".join([_FIELDS[type(value)](value) for value in chain(row.key, row.values)]) + "\n"
