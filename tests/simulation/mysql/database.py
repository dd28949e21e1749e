"""One database: SQLite in memory, with one session's uncommitted changes in it at a time.

A session sees what is committed and its own changes: those of the session before are taken out before it runs a
statement, and put in again when that one runs its next. Locks keep two sessions from changing one row.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pymysql.constants import ER

from tests.simulation.mysql import functions
from tests.simulation.mysql.catalog import INFORMATION, Index, Relation, Table, View, altered, table_of
from tests.simulation.mysql.locks import Locks
from tests.simulation.mysql.values import Kind, error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.simulation.mysql.sessions import Row, Session
    from tests.simulation.mysql.values import SqlType

_CACHED_STATEMENTS = 1_000
_IMPLICIT: dict[Kind, Any] = {Kind.INTEGER: 0, Kind.TEXT: "", Kind.BINARY: b"", Kind.FLOAT: 0.0, Kind.DECIMAL: 0}
"""What rows that are there get in a new column that is NOT NULL and has no default."""
_INDEX_ROW = 'INSERT INTO "information_schema.statistics" VALUES (?, ?, ?, ?, ?, ?)'


def _described(kind: SqlType) -> tuple[str, str, int | None, int | None, int | None, int | None]:
    """A column's type as information_schema describes it: digits and places, length, and digits of a second."""
    is_decimal = kind.name == "decimal"
    sized = kind.size if kind.kind in {Kind.TEXT, Kind.BINARY} else None
    return (
        kind.name,
        kind.name,
        kind.size if is_decimal else None,
        kind.scale if is_decimal else None,
        sized,
        6 if kind.name == "datetime" else None,
    )


class Database:
    """Tables, views and rows."""

    def __init__(self, name: str, content: Database | None = None) -> None:
        """`content`: another database whose content it gets; no transaction may be under way there."""
        self.name = name
        self.catalog: dict[str, Relation] = {}
        self.locks = Locks()
        self.numbers: defaultdict[str, int] = defaultdict(int)
        """The last AUTO_INCREMENT of each table."""
        self.mounted: Session | None = None
        self.failure: BaseException | None = None
        """What a function that SQLite called has raised."""
        self._sqlite = sqlite3.connect(
            ":memory:", isolation_level=None, cached_statements=_CACHED_STATEMENTS, check_same_thread=False
        )
        functions.register(self._sqlite)
        self._sqlite.execute("PRAGMA journal_mode = OFF").fetchall()
        if content is None:
            for table in INFORMATION.values():
                for statement in table.ddl():
                    self._sqlite.execute(statement)
        else:
            self._copy(content)
        # One transaction of SQLite for good: transactions are seen to here, and its own cost time.
        self._sqlite.execute("BEGIN")

    def _copy(self, content: Database) -> None:
        if content.mounted is not None and content.mounted.changes:
            raise AssertionError("a transaction is under way")
        content._sqlite.execute("COMMIT")
        content._sqlite.backup(self._sqlite)
        content._sqlite.execute("BEGIN")
        self.catalog.update(content.catalog)
        self.numbers.update(content.numbers)

    def function(self, name: str, arguments: int, call: Callable[..., Any]) -> None:
        """Give SQLite a function whose errors come out as they are."""

        def called(*given: Any) -> Any:
            try:
                return call(*given)
            except BaseException as failure:
                self.failure = failure
                raise

        self._sqlite.create_function(name, arguments, called)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement of SQLite; all its rows."""
        try:
            return self._sqlite.execute(sql, parameters).fetchall()
        except sqlite3.Error as cause:
            failure, self.failure = self.failure, None
            raise failure or NotImplementedError(f"{cause}: {sql}") from cause

    def mount(self, session: Session) -> None:
        """Let the database be as a session sees it."""
        if self.mounted is session:
            return
        if self.mounted is not None:
            self.undo(self.mounted.changes)
        self.mounted = session
        for table, old, new in session.changes:
            self._replace(table, old, new)

    def undo(self, changes: Iterable[tuple[Table, Row | None, Row | None]]) -> None:
        for table, old, new in reversed(list(changes)):
            self._replace(table, new, old)

    def _replace(self, table: Table, old: Row | None, new: Row | None) -> None:
        if old is not None:
            self.execute(table.delete_sql, [old[place] for place in table.key])
        if new is not None:
            self.execute(table.insert_sql, new)

    def end(self, session: Session, *, keep: bool) -> None:
        """End a session's transaction: its changes are kept, or taken back."""
        if keep:
            self.mount(session)
        elif self.mounted is session:
            self.undo(session.changes)
        session.changes.clear()
        session.used.clear()
        self.locks.release(session)

    def create_table(self, sql: str, *, unless_there: bool) -> None:
        table = table_of(sql)
        if table.name in self.catalog:
            if unless_there:
                return
            raise error(ER.TABLE_EXISTS_ERROR, f"Table '{table.name}' already exists")
        for statement in table.ddl():
            self.execute(statement)
        self._put(table.name, table)

    def create_view(self, view: View, *, replace: bool) -> None:
        known = self.catalog.get(view.name)
        if known is not None and (not replace or isinstance(known, Table)):
            raise error(ER.TABLE_EXISTS_ERROR, f"Table '{view.name}' already exists")
        self._put(view.name, view)

    def drop(self, name: str, kind: type[Table | View], *, if_there: bool) -> None:
        found = self.catalog.get(name)
        if not isinstance(found, kind):
            if if_there:
                return
            raise error(ER.BAD_TABLE_ERROR, f"Unknown table '{name}'")
        if isinstance(found, Table):
            self.execute(f"DROP TABLE {found.sqlite}")
        del self.catalog[name]
        self._forget(name)
        self.numbers.pop(name, None)

    def alter_table(self, name: str, sql: str) -> None:
        table = self.catalog.get(name)
        if not isinstance(table, Table):
            raise error(ER.NO_SUCH_TABLE, f"Table '{name}' doesn't exist")
        made, added, dropped = altered(table, sql)
        for index in set(made.indexes) - set(table.indexes):
            self._index(made, index)
        for column in added:
            self.execute(f'ALTER TABLE {table.sqlite} ADD COLUMN "{column.name}" {column.type.sqlite}')
            value = column.default if column.has_default or not column.not_null else _IMPLICIT[column.type.kind]
            if value is not None:
                self.execute(f'UPDATE {table.sqlite} SET "{column.name}" = ?', (column.stored(value),))
        for column_name in dropped:
            self.execute(f'ALTER TABLE {table.sqlite} DROP COLUMN "{column_name}"')
        self._put(name, made)

    def _index(self, table: Table, index: Index) -> None:
        if index.unique:
            names = ", ".join(f'"{name}"' for name in index.columns)
            if self.execute(f"SELECT 1 FROM {table.sqlite} GROUP BY {names} HAVING COUNT(*) > 1 LIMIT 1"):
                raise error(ER.DUP_ENTRY, f"Duplicate entry for key '{index.name}'")
            self.execute(table.index_ddl(index))

    def count_rows(self) -> None:
        """Let information_schema know how many rows there are."""
        for name, relation in self.catalog.items():
            if isinstance(relation, Table):
                self.execute(
                    f'UPDATE "information_schema.tables" SET table_rows = (SELECT COUNT(*) FROM {relation.sqlite})'
                    " WHERE table_name = ?",
                    (name,),
                )

    def _put(self, name: str, relation: Relation) -> None:
        self._forget(name)
        self.catalog[name] = relation
        insert = self._sqlite.executemany
        kind = "BASE TABLE" if isinstance(relation, Table) else "VIEW"
        self.execute(
            'INSERT INTO "information_schema.tables" VALUES (?, ?, ?, NULL, NULL, NULL)', (self.name, name, kind)
        )
        if isinstance(relation, View):
            self.execute('INSERT INTO "information_schema.views" VALUES (?, ?, ?)', (self.name, name, relation.select))
            return
        insert(
            f'INSERT INTO "information_schema.columns" VALUES ({", ".join("?" * 11)})',
            [
                (self.name, name, column.name, place, "NO" if column.not_null else "YES", *_described(column.type))
                for place, column in enumerate(relation.columns, 1)
            ],
        )
        for index in (Index("PRIMARY", relation.primary, unique=True), *relation.indexes):
            insert(
                _INDEX_ROW,
                [
                    (self.name, name, index.name, number, column, int(not index.unique))
                    for number, column in enumerate(index.columns, 1)
                ],
            )

    def _forget(self, name: str) -> None:
        for table in INFORMATION.values():
            self.execute(f"DELETE FROM {table.sqlite} WHERE table_name = ?", (name,))
