"""What a database has: tables with their columns and keys, and views; made from the statements that define them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from pymysql.constants import ER

from tests.simulation.mysql.syntax import Reader
from tests.simulation.mysql.values import INTEGER, TEXT, Column, SqlType, error, literal_value, type_named

_ENDS_OF_A_COLUMN = ("NOT", "NULL", "PRIMARY", "UNIQUE", "AUTO_INCREMENT", "DEFAULT", "COLLATE", "CHARACTER")


@dataclass(frozen=True, slots=True)
class Index:
    """A key beside the primary one."""

    name: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, eq=False)
class Table:
    """A table. One definition is one object: what was compiled for it holds for as long as it is the same."""

    name: str
    columns: tuple[Column, ...]
    primary: tuple[str, ...]
    indexes: tuple[Index, ...] = ()

    @cached_property
    def positions(self) -> dict[str, int]:
        """Each column's place, by its name in small letters."""
        return {column.name.lower(): place for place, column in enumerate(self.columns)}

    @cached_property
    def unique(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The name and columns of each unique key, the primary one first."""
        keys = [("PRIMARY", self.primary), *((index.name, index.columns) for index in self.indexes if index.unique)]
        return tuple((name, self.places(columns)) for name, columns in keys)

    @cached_property
    def key(self) -> tuple[int, ...]:
        """The places of the primary key's columns."""
        return self.unique[0][1]

    @cached_property
    def text_places(self) -> frozenset[int]:
        """The columns that compare equal with spaces at their end or without."""
        return frozenset(place for place, column in enumerate(self.columns) if column.type.sqlite.startswith("TEXT C"))

    @cached_property
    def auto_increment(self) -> int | None:
        return next((place for place, column in enumerate(self.columns) if column.auto_increment), None)

    @cached_property
    def sqlite(self) -> str:
        """Its name in a statement of SQLite."""
        return f'"{self.name}"'

    @cached_property
    def insert_sql(self) -> str:
        return f"INSERT INTO {self.sqlite} VALUES ({', '.join('?' * len(self.columns))})"

    @cached_property
    def delete_sql(self) -> str:
        return f"DELETE FROM {self.sqlite} WHERE {self.where(self.key)}"

    @cached_property
    def find_sql(self) -> tuple[str, ...]:
        """For each unique key the statement that finds its row."""
        return tuple(f"SELECT * FROM {self.sqlite} WHERE {self.where(places)}" for _, places in self.unique)

    def where(self, places: tuple[int, ...], first_mark: int = 1) -> str:
        return " AND ".join(
            f'"{self.columns[place].name}" = ?{first_mark + number}' for number, place in enumerate(places)
        )

    def places(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self.place(name) for name in names)

    def place(self, name: str) -> int:
        if (place := self.positions.get(name.lower())) is None:
            raise error(ER.BAD_FIELD_ERROR, f"Unknown column '{name}' in 'field list'")
        return place

    def ddl(self) -> list[str]:
        """SQLite's statements that make it. NOT NULL and uniqueness are seen to where rows are written."""
        lines = [f'"{column.name}" {column.type.sqlite}' for column in self.columns]
        lines.append("PRIMARY KEY (" + ", ".join(f'"{name}"' for name in self.primary) + ")")
        made = [f"CREATE TABLE {self.sqlite} ({', '.join(lines)}) WITHOUT ROWID"]
        return [*made, *(self.index_ddl(index) for index in self.indexes if index.unique)]

    def index_ddl(self, index: Index) -> str:
        names = ", ".join(f'"{name}"' for name in index.columns)
        return f'CREATE INDEX "{self.name}/{index.name}" ON "{self.name}" ({names})'


@dataclass(frozen=True, eq=False)
class View:
    """A view: the text of its query, which is compiled where it is used. One definition is one object here, too."""

    name: str
    select: str


@lru_cache(maxsize=4_096)
def view_of(name: str, select: str) -> View:
    """The view that a CREATE VIEW makes."""
    return View(name, select)


Relation: TypeAlias = "Table | View"


@lru_cache(maxsize=4_096)
def table_of(sql: str) -> Table:
    """The table that a CREATE TABLE makes."""
    reader = Reader(sql)
    reader.expect("CREATE", "TABLE")
    reader.accept("IF", "NOT", "EXISTS")
    name = reader.name()
    reader.expect("(")
    columns: list[Column] = []
    primary: tuple[str, ...] = ()
    indexes: list[Index] = []
    while True:
        if reader.accept("PRIMARY", "KEY"):
            primary = reader.names()
        elif (index := _index(reader, indexes)) is not None:
            indexes.append(index)
        else:
            column, is_primary = _column(reader)
            columns.append(column)
            primary = (column.name,) if is_primary else primary
        if not reader.accept(","):
            break
    reader.expect(")")
    _table_options(reader)
    if not primary:
        raise NotImplementedError(f"a table without a primary key: {sql}")
    for position, column in enumerate(columns):
        if column.name in primary and not column.not_null:
            columns[position] = replace(column, not_null=True)
    return Table(name, tuple(columns), primary, tuple(indexes))


def _table_options(reader: Reader) -> None:
    while reader.next.kind != "end":
        reader.accept("DEFAULT")
        if not any(reader.accept(*words) for words in (["ENGINE"], ["ROW_FORMAT"], ["CHARACTER", "SET"], ["COLLATE"])):
            raise reader.unknown("a table's option")
        reader.accept("=")
        reader.name()


def _index(reader: Reader, known: list[Index]) -> Index | None:
    unique = reader.at("UNIQUE")
    if not (reader.accept("UNIQUE", "KEY") or reader.accept("UNIQUE", "INDEX")) and not (
        reader.accept("KEY") or reader.accept("INDEX")
    ):
        return None
    name = "" if reader.at("(") else reader.name()
    columns = reader.names()
    if not name:
        taken = sum(index.columns[0] == columns[0] for index in known)
        name = columns[0] + (f"_{taken + 1}" if taken else "")
    return Index(name, columns, unique)


def _column(reader: Reader) -> tuple[Column, bool]:
    name, type_name = reader.name(), reader.name()
    sizes: list[int] = []
    members: list[str] = []
    if reader.accept("("):
        while not reader.accept(")"):
            token = reader.take()
            if token.kind == "text":
                members.append(literal_value(token.text))
            elif token.kind == "number":
                sizes.append(int(token.text))
            reader.accept(",")
    unsigned = reader.accept("UNSIGNED")
    facts, collation = _facts(reader)
    # The tables' own collation: those of the bookkeeping compare by code point, those of projections do not.
    binary = collation.endswith("_bin") if collation else "COLLATE utf8mb4_bin" in reader.sql.rpartition(")")[2]
    kind = type_named(type_name, tuple(sizes), tuple(members), unsigned=unsigned, binary=binary)
    is_primary = facts.pop("primary", False)
    return Column(name, kind, **facts), is_primary


def _facts(reader: Reader) -> tuple[dict[str, Any], str]:
    facts: dict[str, Any] = {}
    collation = ""
    while reader.next.text.upper() in _ENDS_OF_A_COLUMN:
        if reader.accept("NOT", "NULL"):
            facts["not_null"] = True
        elif reader.accept("AUTO_INCREMENT"):
            facts["auto_increment"] = True
        elif reader.accept("PRIMARY", "KEY"):
            facts |= {"primary": True, "not_null": True}
        elif reader.accept("COLLATE"):
            collation = reader.name()
        elif reader.accept("DEFAULT"):
            facts |= {"has_default": True, "default": literal_value(reader.take().text.upper())}
        elif not reader.accept("NULL"):
            raise reader.unknown("a column's property")
    return facts, collation


@lru_cache(maxsize=4_096)
def altered(table: Table, sql: str) -> tuple[Table, tuple[Column, ...], tuple[str, ...]]:
    """The table that an ALTER TABLE makes of one; the columns that it adds, and the names of those that it drops."""
    reader = Reader(sql)
    reader.expect("ALTER", "TABLE")
    reader.name()
    columns, indexes = list(table.columns), list(table.indexes)
    added: list[Column] = []
    dropped: list[str] = []
    while True:
        if reader.accept("DROP", "COLUMN"):
            dropped.append(reader.name())
            columns.pop(table.place(dropped[-1]))
        else:
            reader.expect("ADD")
            if (index := _index(reader, indexes)) is not None:
                indexes.append(index)
            else:
                reader.accept("COLUMN")
                if reader.at("CONSTRAINT"):
                    raise reader.unknown("constraints are left out")
                added.append(_column(reader)[0])
                columns.append(added[-1])
        if not reader.accept(","):
            break
    reader.finish()
    made = Table(table.name, tuple(columns), table.primary, tuple(indexes))
    return made, tuple(added), tuple(dropped)


def _information(name: str, columns: str, primary: tuple[str, ...]) -> Table:
    numbers = {
        "seq_in_index",
        "non_unique",
        "table_rows",
        "data_length",
        "index_length",
        "ordinal_position",
        "numeric_precision",
        "numeric_scale",
        "character_maximum_length",
        "datetime_precision",
    }
    text = replace(TEXT, binary=False)
    kinds: dict[str, SqlType] = {column: INTEGER if column in numbers else text for column in columns.split()}
    made = tuple(Column(column, kind) for column, kind in kinds.items())
    return Table(f"information_schema.{name}", made, primary)


INFORMATION: dict[str, Table] = {
    "tables": _information(
        "tables",
        "table_schema table_name table_type table_rows data_length index_length",
        ("table_schema", "table_name"),
    ),
    "columns": _information(
        "columns",
        "table_schema table_name column_name ordinal_position is_nullable data_type column_type numeric_precision"
        " numeric_scale character_maximum_length datetime_precision",
        ("table_schema", "table_name", "column_name"),
    ),
    "statistics": _information(
        "statistics",
        "table_schema table_name index_name seq_in_index column_name non_unique",
        ("table_schema", "table_name", "index_name", "seq_in_index"),
    ),
    "views": _information("views", "table_schema table_name view_definition", ("table_schema", "table_name")),
}
