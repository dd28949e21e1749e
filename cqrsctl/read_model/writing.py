"""Writing rows: a batch into every table that is active or being built, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from cqrsctl.errors import TablesChanged, TransactionConflict, ValueRejected
from cqrsctl.projection.batch import Applied
from cqrsctl.read_model import checkpoints, dead_letters, schema
from cqrsctl.read_model import registry as tables
from cqrsctl.read_model.connection import literal
from cqrsctl.read_model.packets import MOST_CHARACTERS, most_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from cqrsctl.projection.batch import Batch
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.rows import Row
    from cqrsctl.projection.tables import PhysicalTable, Tables
    from cqrsctl.read_model.connection import Connection

ROWS_A_STATEMENT = 1_000


@dataclass(slots=True)
class TableWriter:
    """Writes to some projections' tables through one connection; with `others_too`, to those of all registered ones."""

    connection: Connection
    projections: Sequence[Projection]
    others_too: bool = False
    _tables: Tables | None = field(default=None, init=False)
    _most_characters: int | None = field(default=None, init=False)

    def tables(self) -> Tables:
        """The tables as they were last seen; batches are to be made for these. Raises ReadModelMissing."""
        if self._tables is None:
            self._tables = self._read()
        return self._tables

    def apply(self, batch: Batch, with_it: Callable[[], None] = lambda: None) -> Applied:
        """Apply a batch's rows and dead letters in a transaction of their own, and what else belongs in it.

        Raises ValueRejected, TransactionConflict and TablesChanged, with the transaction rolled back.
        """
        try:
            applied = self.apply_rows(batch)
            dead_letters.write(self.connection, batch.letters)
            with_it()
            self.connection.commit()
        except (ValueRejected, TransactionConflict, TablesChanged):
            self.connection.rollback()
            raise
        return applied

    def apply_rows(self, batch: Batch, *, again: bool = False) -> Applied:
        """Upsert a batch's rows into every table that is active or being built, within the running transaction.

        `again`: a table may have left out the item when it could not take this very change.
        """
        seen = self.tables()
        # The shared lock keeps a rebuild from changing the set of tables until this transaction has ended.
        self._tables = self._read(locked=True)
        if self._tables != seen:
            raise TablesChanged("The tables of the read model changed.")
        for table in seen.building:
            try:
                self._upsert(table, batch.building.get(table.projection.name, ()), again=again)
            except ValueRejected as rejection:
                rejection.building = True
                raise
        written = stale = 0
        for table in seen.active:
            done, refused = self._upsert(table, batch.rows.get(table.projection.name, ()), again=again)
            written += done
            stale += refused
        return Applied(written, stale)

    def _read(self, *, locked: bool = False) -> Tables:
        return tables.read(self.connection, self.projections, others_too=self.others_too, locked=locked)

    def _upsert(self, table: PhysicalTable, rows: Sequence[Row], *, again: bool) -> tuple[int, int]:
        new = rows if table.since is None else [row for row in rows if row.changed_at >= table.since]
        written, stale = 0, len(rows) - len(new)
        for row in [row for row in new if again and not row.deleted]:
            self._forget_left_out(table, row)
        if new and self._most_characters is None:
            self._most_characters = most_characters(self.connection)
        for sql, count in upserts(table, new, self._most_characters or MOST_CHARACTERS):
            try:
                done, refused = self.connection.upsert(sql, count)
            except ValueRejected as rejection:
                rejection.projection = table.projection.name
                raise
            written += done
            stale += refused
        return written, stale

    def _forget_left_out(self, table: PhysicalTable, row: Row) -> None:
        """Remove the tombstone that stands for a change that the table could not take."""
        keys = " AND ".join(f"{schema.quoted(column.name)} = %s" for column in table.projection.keys)
        self.connection.execute(
            f"DELETE FROM {schema.quoted(table.name)} WHERE {keys} AND _version = %s AND _deleted = TRUE",
            (*row.key, row.version),
        )


_NEWER = "VALUES(_version) > _version AND (_version > 0 OR VALUES(_changed_at) >= _changed_at)"


def upserts(
    table: PhysicalTable, rows: Sequence[Row], most_characters: int = MOST_CHARACTERS
) -> Iterator[tuple[str, int]]:
    """The guarded upserts of rows, each with its number of rows: an older or equal version changes nothing.

    A row of version 0 was made from the item itself, as it was at `_changed_at`: changes from before that are in it.

    A statement has not too many rows, and their text has no more than `most_characters`, unless one row has more.
    """
    keys = [schema.quoted(column.name) for column in table.projection.keys]
    values = [schema.quoted(column.name) for column in table.projection.values]
    guarded = [*values, "_deleted", "_changed_at", "_applied_at", "_version"]
    # Assignments run from left to right and see the values already assigned, so _version comes last.
    assignments = ",\n    ".join(f"{name} = IF({_NEWER}, VALUES({name}), {name})" for name in guarded)
    head = (
        f"INSERT INTO {schema.quoted(table.name)}\n"
        f"    ({', '.join([*keys, *values])}, _version, _deleted, _changed_at, _applied_at)\n"
        "VALUES "
    )
    tail = f"\nON DUPLICATE KEY UPDATE\n    {assignments}"
    for chunk in chunks(map(_cells, rows), most_characters):
        yield head + ",\n".join(chunk) + tail, len(chunk)


def _cells(row: Row) -> str:
    cells = ", ".join(map(literal, (*row.key, *row.values)))
    return f"({cells}, {row.version}, {row.deleted:d}, {_time_literal(row.changed_at)}, NOW(6))"


@lru_cache(maxsize=1_024)
def _time_literal(moment: datetime) -> str:
    """Many changes have the same time: DynamoDB rounds it to the second."""
    return literal(checkpoints.naive(moment))


def chunks(texts: Iterable[str], most_characters: int) -> Iterator[list[str]]:
    """Rows of a statement: not too many, and not too long."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        if chunk and (len(chunk) == ROWS_A_STATEMENT or size + len(text) > most_characters):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk
