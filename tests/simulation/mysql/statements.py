"""MySQL's statements, translated: queries as a whole, writes into what is done row by row."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pymysql.constants import ER

from tests.simulation.mysql.catalog import INFORMATION, Table, View
from tests.simulation.mysql.expressions import (
    FIRST_MARK,
    Argument,
    Constant,
    Expressions,
    Fragment,
    Scope,
    Source,
    coerced,
)
from tests.simulation.mysql.values import Column, Now, SqlType, error, loader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.simulation.mysql.catalog import Relation

_MARK = re.compile(r"\?(\d+)")
Loaders: TypeAlias = "tuple[tuple[int, Callable[[Any], Any]], ...]"
_ENDS_OF_ITEMS = ("FROM", "FOR", "LOCK", "LIMIT", "ORDER")
_ENDS_OF_A_TABLE = {"WHERE", "LEFT", "INNER", "JOIN", "ON", "GROUP", "HAVING", "ORDER", "LIMIT", "LOCK", "FOR", "SET"}


@dataclass(frozen=True, slots=True)
class Sql:
    """A statement of SQLite and how many parameters it takes."""

    text: str
    arity: int

    @classmethod
    def of(cls, text: str) -> Sql:
        return cls(text, max(map(int, _MARK.findall(text)), default=0))


@dataclass(frozen=True, slots=True)
class Locked:
    """Rows of a table that a query locks: the places of their primary keys in its rows."""

    table: Table
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """The rows that are looked at for a WHERE: those whose primary key begins with these values."""

    table: Table
    prefix: tuple[Argument | Constant | Now, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A query. `locked` are the rows that it locks, their keys after the columns that are asked for."""

    sql: Sql
    names: tuple[str, ...]
    types: tuple[SqlType, ...]
    loaders: Loaders
    locked: tuple[Locked, ...] = ()
    exclusive: bool = False
    no_wait: bool = False
    search: Search | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A value of a row that is inserted; `fragment` is SQLite's where it has to be computed."""

    column: Column
    place: int
    source: Argument | Constant | Now | None
    fragment: Fragment
    computed: Sql


@dataclass(frozen=True, slots=True)
class Slot:
    """A value that a column is set to: made fit for the column before SQLite gets it."""

    column: Column
    source: Argument | Constant | Now


@dataclass(frozen=True, slots=True)
class Assignments:
    """The UPDATE of one row, found by its primary key. Its parameters are the time, those of the statement, the row
    that was to be inserted, the slots, and the key. `checked` columns get values of other types, which are looked at
    afterwards; `required` ones may not be NULL then."""

    sql: Sql
    slots: tuple[Slot, ...]
    checked: tuple[tuple[int, Column], ...]
    required: tuple[tuple[int, Column], ...]


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT or REPLACE. `row_marks`: the number of parameters of a row."""

    table: Table
    rows: tuple[tuple[Cell, ...], ...]
    select: Query | None
    places: tuple[int, ...]
    row_marks: int
    marks: int
    ignore: bool
    replace: bool
    update: Assignments | None


@dataclass(frozen=True, slots=True)
class Update:
    """An UPDATE: the query of the rows, and what each becomes."""

    table: Table
    find: Sql
    search: Search | None
    assignments: Assignments


@dataclass(frozen=True, slots=True)
class Delete:
    """A DELETE: the query of the rows."""

    table: Table
    find: Sql
    search: Search | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A translated statement. It holds while the names in `dependencies` mean what they meant."""

    work: Query | Insert | Update | Delete
    dependencies: tuple[tuple[str, Relation], ...]
    relations: frozenset[str]
    informed: bool
    """Whether it asks information_schema how many rows there are."""
    marks: int
    row_marks: int
    """How many parameters it has, and how many of them are in each row of an INSERT."""


class Statements(Expressions):
    """Translates a statement."""

    def plan(self) -> Plan:
        work = self._work()
        self.finish()
        return Plan(
            work,
            tuple(self.dependencies.items()),
            frozenset(self.dependencies),
            "table_rows" in self.sql,
            self.marks,
            work.row_marks if isinstance(work, Insert) else 0,
        )

    def _work(self) -> Query | Insert | Update | Delete:
        if self.at("SELECT"):
            return self.query()
        if self.at("INSERT") or self.at("REPLACE"):
            return self._insert()
        if self.accept("UPDATE"):
            return self._update()
        if self.accept("DELETE", "FROM"):
            table = self._table(self.name())
            self.scopes.append(Scope([_source(table)]))
            return Delete(table, *self._find(table))
        raise self.unknown("a statement")

    def subquery(self) -> Fragment:
        query = self.query()
        self.expect(")")
        return Fragment(f"({query.sql.text})", query.types[0])

    def query(self) -> Query:
        """A SELECT, or several in a UNION."""
        first = self._select()
        while self.accept("UNION"):
            word = "UNION ALL" if self.accept("ALL") else "UNION"
            second = self._select()
            if first.locked or second.locked or [one.kind for one in first.types] != [one.kind for one in second.types]:
                raise self.unknown("a UNION of other types, or with locks,")
            first = replace(first, sql=Sql.of(f"{first.sql.text} {word} {second.sql.text}"))
        return first

    def _select(self) -> Query:
        self.expect("SELECT")
        distinct = self.accept("DISTINCT")
        begin = self.position
        scope = Scope()
        self.scopes.append(scope)
        self._go_to_from()
        has_from = self.accept("FROM")
        text = f" FROM {self._from(scope)}" if has_from else ""
        after_from, self.position = self.position, begin
        items = self._items(scope)
        scope.aliases = {name.lower(): Fragment(f'"{name}"', item.type) for name, item in items}
        if has_from:
            self.position = after_from
        where = self.expression() if self.accept("WHERE") else None
        text += (f" WHERE {where.sql}" if where is not None else "") + self._tail()
        lock = self._lock()
        self.scopes.pop()
        selected = [f'{item.sql} AS "{name}"' for name, item in items]
        locked: list[Locked] = []
        if lock is not None:
            for source in scope.sources:
                if source.table is None or distinct or "GROUP BY" in text:
                    raise self.unknown("locking what is no table")
                keys = [f'"{source.alias}"."{name}"' for name in source.table.primary]
                locked.append(Locked(source.table, tuple(range(len(selected), len(selected) + len(keys)))))
                selected += keys
        types = tuple(item.type for _, item in items)
        return Query(
            Sql.of(f"SELECT {'DISTINCT ' if distinct else ''}{', '.join(selected)}{text}"),
            tuple(name for name, _ in items),
            types,
            loaders(types),
            tuple(locked),
            exclusive=lock == "UPDATE",
            no_wait=lock is not None and self.accept("NOWAIT"),
            search=_search(locked[0].table, scope.sources[0].alias, where) if len(locked) == 1 else None,
        )

    def _go_to_from(self) -> None:
        depth = 0
        while self.next.kind != "end":
            if depth == 0 and any(self.at(word) for word in (*_ENDS_OF_ITEMS, ")")):
                return
            depth += {"(": 1, ")": -1}.get(self.next.text, 0)
            self.position += 1

    def _items(self, scope: Scope) -> list[tuple[str, Fragment]]:
        items: list[tuple[str, Fragment]] = []
        while True:
            if (starred := self._starred(scope)) is not None:
                items += starred
            else:
                begin = self.position
                item = self.expression()
                name = self.text_between(begin, self.position)
                if self.position - begin in {1, 3} and self.tokens[self.position - 1].kind in {"word", "name"}:
                    name = self.tokens[self.position - 1].text
                if self.accept("AS"):
                    name = self.name()
                items.append((name, item))
            if not self.accept(","):
                return items

    def _starred(self, scope: Scope) -> list[tuple[str, Fragment]] | None:
        """The columns of a `*` or `alias.*`; None where none comes next."""
        sources = scope.sources
        if self.tokens[self.position + 1].text == "." and self.tokens[self.position + 2].text == "*":
            alias = self.name()
            sources = [source for source in sources if source.alias == alias]
            self.expect(".")
        if not self.accept("*"):
            return None
        return [
            (name, Fragment(f'"{source.alias}"."{name}"', kind))
            for source in sources
            for name, kind in source.columns.values()
        ]

    def _from(self, scope: Scope) -> str:
        text = self._relation(scope)
        while True:
            if self.accept("LEFT", "JOIN"):
                text += f" LEFT JOIN {self._relation(scope)}"
            elif self.accept("INNER", "JOIN") or self.accept("JOIN"):
                text += f" JOIN {self._relation(scope)}"
            else:
                return text
            self.expect("ON")
            text += f" ON {self.expression().sql}"

    def _relation(self, scope: Scope) -> str:
        if self.accept("("):
            query = self.query()
            self.expect(")")
            self.accept("AS")
            alias = self.name()
            scope.sources.append(_source_of(alias, query))
            return f'({query.sql.text}) AS "{alias}"'
        name = self.name()
        found: Relation = self._information() if self.accept(".") else self._relation_named(name)
        alias = name
        if self.accept("AS") or (self.next.kind in {"word", "name"} and self.next.text.upper() not in _ENDS_OF_A_TABLE):
            alias = self.name()
        if isinstance(found, View):
            inner = self._view(found)
            scope.sources.append(_source_of(alias, inner))
            return f'({inner.sql.text}) AS "{alias}"'
        scope.sources.append(_source(found, alias))
        return f'{found.sqlite} AS "{alias}"'

    def _information(self) -> Table:
        name = self.name()
        if (table := INFORMATION.get(name.lower())) is None:
            raise self.unknown(f"information_schema.{name}")
        return table

    def _relation_named(self, name: str) -> Relation:
        if (found := self.catalog.get(name)) is None:
            raise error(ER.NO_SUCH_TABLE, f"Table '{name}' doesn't exist")
        self.dependencies[name] = found
        return found

    def _table(self, name: str) -> Table:
        found = self._relation_named(name)
        if isinstance(found, View):
            raise self.unknown("writing to a view")
        return found

    def _view(self, view: View) -> Query:
        inner = Statements(view.select, self.catalog)
        try:
            query = inner.query()
        except ValueError:
            raise
        except Exception as cause:
            if isinstance(cause, NotImplementedError):
                raise
            raise error(1356, f"View '{view.name}' references invalid table(s) or column(s)") from cause
        inner.finish()
        self.dependencies |= inner.dependencies
        return query

    def _tail(self) -> str:
        text = ""
        if self.accept("GROUP", "BY"):
            text += f" GROUP BY {', '.join(self._listed())}"
        if self.accept("HAVING"):
            text += f" HAVING {self.expression().sql}"
        return text + self._order_and_limit()

    def _order_and_limit(self) -> str:
        text = ""
        if self.accept("ORDER", "BY"):
            text += f" ORDER BY {', '.join(self._listed(directed=True))}"
        if self.accept("LIMIT"):
            text += f" LIMIT {self.expression().sql}"
            if self.accept("OFFSET"):
                text += f" OFFSET {self.expression().sql}"
        return text

    def _listed(self, *, directed: bool = False) -> list[str]:
        found = []
        while True:
            text = self.expression().sql
            if directed and self.accept("DESC"):
                text += " DESC"
            elif directed:
                self.accept("ASC")
            found.append(text)
            if not self.accept(","):
                return found

    def _lock(self) -> str | None:
        if self.accept("LOCK", "IN", "SHARE", "MODE") or self.accept("FOR", "SHARE"):
            return "SHARE"
        return "UPDATE" if self.accept("FOR", "UPDATE") else None

    def _insert(self) -> Insert:
        replacing = self.accept("REPLACE")
        ignore = not replacing and self.accept("INSERT") and self.accept("IGNORE")
        self.expect("INTO")
        table = self._table(self.name())
        names = self.names() if self.at("(") else tuple(column.name for column in table.columns)
        places = table.places(names)
        scope = Scope()
        self.scopes.append(scope)
        rows: list[tuple[Cell, ...]] = []
        select = None
        if self.accept("VALUES"):
            rows = self._rows(table, places)
        else:
            select = self.query()
        row_marks = sum(token.kind == "mark" for token in self.tokens[: self.position])
        update = None
        if self.accept("ON", "DUPLICATE", "KEY", "UPDATE"):
            first = FIRST_MARK + self.marks
            scope.sources.append(_source(table))
            scope.inserted = lambda name: Fragment(
                f"?{first + table.place(name)}", table.columns[table.place(name)].type
            )
            update = self._assignments(table, first + len(table.columns))
        return Insert(table, tuple(rows), select, places, row_marks, self.marks, ignore, replacing, update)

    def _rows(self, table: Table, places: tuple[int, ...]) -> list[tuple[Cell, ...]]:
        rows = []
        while True:
            self.expect("(")
            fragments = self.list()
            if len(fragments) != len(places):
                raise error(1136, "Column count doesn't match value count at row 1")
            rows.append(
                tuple(
                    Cell(table.columns[place], place, fragment.source, fragment, Sql.of(f"SELECT {fragment.sql}"))
                    for place, fragment in zip(places, fragments, strict=True)
                )
            )
            if not self.accept(","):
                return rows

    def _update(self) -> Update:
        table = self._table(self.name())
        self.scopes.append(Scope([_source(table)]))
        self.expect("SET")
        assignments = self._assignments(table, FIRST_MARK + self.marks)
        self.scopes[-1].assigned = {}
        return Update(table, *self._find(table), assignments)

    def _find(self, table: Table) -> tuple[Sql, Search | None]:
        where = self.expression() if self.accept("WHERE") else None
        text = f" WHERE {where.sql}" if where is not None else ""
        sql = Sql.of(f'SELECT * FROM {table.sqlite} AS "{table.name}"{text}{self._order_and_limit()}')
        return sql, _search(table, table.name, where)

    def _assignments(self, table: Table, first_mark: int) -> Assignments:
        """Assignments run from left to right, and each sees those before it: as text, put in their place."""
        assigned = self.scopes[-1].assigned
        slots: list[Slot] = []
        checked: list[tuple[int, Column]] = []
        required: list[tuple[int, Column]] = []
        while True:
            place = table.place(self.name())
            column = table.columns[place]
            if any(place in places for _, places in table.unique):
                raise self.unknown(f"changing {column.name}, which is part of a key,")
            self.expect("=")
            fragment = self.expression()
            if fragment.source is not None:
                slots.append(Slot(column, fragment.source))
                fragment = Fragment(f"?{first_mark + len(slots) - 1}", column.type)
            else:
                if fragment.type != column.type:
                    fragment = Fragment(_assignable(fragment, column), column.type)
                    checked.append((place, column))
                if column.not_null:
                    required.append((place, column))
            assigned[column.name.lower()] = fragment
            if not self.accept(","):
                break
        sets = ", ".join(f'"{name}" = {fragment.sql}' for name, fragment in assigned.items())
        where = table.where(table.key, first_mark + len(slots))
        return Assignments(
            Sql.of(f'UPDATE {table.sqlite} AS "{table.name}" SET {sets} WHERE {where} RETURNING *'),
            tuple(slots),
            tuple(checked),
            tuple(required),
        )


def _search(table: Table, alias: str, where: Fragment | None) -> Search | None:
    """What InnoDB looks at to find rows; None where that is no more than the rows that are found."""
    columns = [f'"{alias}"."{name}"' for name in table.primary]
    wanted = dict(where.equal) if where is not None else {}
    prefix = tuple(wanted[column] for column in itertools.takewhile(wanted.__contains__, columns))
    if not prefix and where is not None and any(column in where.sql for column in columns):
        return None
    return Search(table, prefix)


def _assignable(fragment: Fragment, column: Column) -> str:
    made = coerced(fragment, column.type)
    if made.type.kind is not column.type.kind:
        raise NotImplementedError(f"{column.name} ({column.type.kind}) set to {fragment.type.kind}")
    return made.sql


def _source(table: Table, alias: str | None = None) -> Source:
    return Source(
        alias or table.name, {column.name.lower(): (column.name, column.type) for column in table.columns}, table
    )


def _source_of(alias: str, query: Query) -> Source:
    return Source(alias, {name.lower(): (name, kind) for name, kind in zip(query.names, query.types, strict=True)})


def loaders(types: tuple[SqlType, ...]) -> Loaders:
    """What makes PyMySQL's values of a stored row, by place."""
    found = ((place, loader(kind)) for place, kind in enumerate(types))
    return tuple((place, load) for place, load in found if load is not None)


_plans: dict[str, list[Plan]] = {}


def planned(shape: str, catalog: Mapping[str, Relation]) -> Plan:
    """The plan of a statement's shape; made once for each set of definitions that its names have."""
    known = _plans.setdefault(shape, [])
    for plan in known:
        if all(catalog.get(name) is relation for name, relation in plan.dependencies):
            return plan
    plan = Statements(shape, catalog).plan()
    known.append(plan)
    return plan
