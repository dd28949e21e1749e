"""Running translated statements for a session: with the locks that MySQL takes, and counted as MySQL counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymysql import err
from pymysql.constants import ER

from tests.simulation.mysql.expressions import Argument, Constant
from tests.simulation.mysql.functions import folded
from tests.simulation.mysql.statements import Delete, Insert, Plan, Query, Update
from tests.simulation.mysql.values import Now, bound, encode_datetime, error, loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.simulation.mysql.catalog import Table
    from tests.simulation.mysql.database import Database
    from tests.simulation.mysql.locks import Key
    from tests.simulation.mysql.sessions import Row, Session
    from tests.simulation.mysql.statements import Assignments, Cell, Locked, Search, Sql


@dataclass(slots=True)
class Outcome:
    """What a statement answers: rows, or how many it touched and an info text."""

    names: tuple[str, ...] = ()
    rows: Sequence[Row] = ()
    touched: int = 0
    message: str = ""


class Execution:
    """Runs one statement. `wait` waits until a function names nobody who is in the way, and tells whether it had to;
    not at all if its last argument is true."""

    def __init__(
        self,
        session: Session,
        database: Database,
        now: str,
        wait: Callable[[Callable[[], set[Session]], bool], bool],
    ) -> None:
        self._session = session
        self._database = database
        self._now = now
        self._wait = wait

    def run(self, plan: Plan, values: Sequence[Any], repeat: int) -> Outcome:
        """Run a plan with a statement's values. A statement that fails has changed nothing."""
        session = self._session
        session.used |= plan.relations
        before = len(session.changes)
        try:
            match plan.work:
                case Query():
                    return self._query(plan.work, values)
                case Insert():
                    return self._insert(plan.work, values, repeat)
                case Update():
                    return self._update(plan.work, values)
                case Delete():
                    return self._delete(plan.work, values)
        except BaseException:
            if len(session.changes) > before:
                self._database.mount(session)
                self._database.undo(session.changes[before:])
                del session.changes[before:]
            raise

    def _take_lock(self, key: Key, *, exclusive: bool, no_wait: bool = False) -> bool:
        """Take a lock; whether that took time."""
        locks = self._database.locks
        if not locks.take(self._session, key, exclusive=exclusive):
            return False
        return self._wait(lambda: locks.take(self._session, key, exclusive=exclusive), no_wait)

    def _look(self, search: Search | None, values: Sequence[Any], *, exclusive: bool, no_wait: bool = False) -> None:
        """Wait until nobody has locked a row that is looked at, whether or not it is one of those that are wanted."""
        if search is None:
            return
        table, locks = search.table, self._database.locks
        try:
            parts = tuple(
                table.columns[place].stored(self._value(source, values))
                for place, source in zip(table.key, search.prefix, strict=False)
            )
        except err.MySQLError:
            return  # no row has such a key
        prefix = row_key(table, 0, parts)[2]
        self._wait(lambda: locks.in_the_way(self._session, table.name, prefix, exclusive=exclusive), no_wait)

    def _query(self, query: Query, values: Sequence[Any]) -> Outcome:
        if query.locked:
            self._look(query.search, values, exclusive=query.exclusive, no_wait=query.no_wait)
        rows = self._select(query.sql, values)
        if query.locked:
            while self._locked(rows, query.locked, exclusive=query.exclusive, no_wait=query.no_wait):
                rows = self._select(query.sql, values)
        width = len(query.names)
        if query.locked:
            rows = [row[:width] for row in rows]
        return Outcome(query.names, [loaded(row, query.loaders) for row in rows] if query.loaders else rows, len(rows))

    def _select(self, sql: Sql, values: Sequence[Any]) -> list[Row]:
        return self._database.execute(sql.text, (self._now, *map(bound, values))[: sql.arity])

    def _locked(self, rows: Sequence[Row], locked: Sequence[Locked], *, exclusive: bool, no_wait: bool) -> bool:
        """Lock rows; whether that took time, after which they may be others."""
        waited = False
        for row in rows:
            for each in locked:
                parts = tuple(row[place] for place in each.places)
                if None not in parts:
                    key = row_key(each.table, 0, parts)
                    waited |= self._take_lock(key, exclusive=exclusive, no_wait=no_wait)
        return waited

    def _found(self, table: Table, sql: Sql, values: Sequence[Any]) -> list[Row]:
        """The rows that a WHERE finds, locked."""
        while True:
            rows = self._select(sql, values)
            waited = False
            for row in rows:
                waited |= self._lock_row(table, row)
            if not waited:
                return rows

    def _lock_row(self, table: Table, row: Row) -> bool:
        return self._take_lock(row_key(table, 0, tuple(row[place] for place in table.key)), exclusive=True)

    def _update(self, update: Update, values: Sequence[Any]) -> Outcome:
        # A full scan of an UPDATE passes locked rows over that do not match as they are committed (InnoDB's
        # semi-consistent read); one by the key does not.
        if update.search is not None and update.search.prefix:
            self._look(update.search, values, exclusive=True)
        rows = self._found(update.table, update.find, values)
        arguments = tuple(map(bound, values))
        changed = sum(
            self._assign(update.table, update.assignments, row, arguments, self._slots(update.assignments, values))
            for row in rows
        )
        return Outcome(touched=changed, message=f"Rows matched: {len(rows)}  Changed: {changed}  Warnings: 0")

    def _delete(self, delete: Delete, values: Sequence[Any]) -> Outcome:
        self._look(delete.search, values, exclusive=True)
        rows = self._found(delete.table, delete.find, values)
        for row in rows:
            self._remove(delete.table, row)
        return Outcome(touched=len(rows))

    def _remove(self, table: Table, row: Row) -> None:
        self._database.execute(table.delete_sql, [row[place] for place in table.key])
        self._session.changes.append((table, row, None))

    def _slots(self, assignments: Assignments, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(slot.column.stored(self._value(slot.source, values)) for slot in assignments.slots)

    def _value(self, source: Argument | Constant | Now, values: Sequence[Any]) -> Any:
        match source:
            case Argument(number):
                return values[number]
            case Constant(value):
                return value
            case Now.NOW:
                return self._now

    def _assign(
        self, table: Table, assignments: Assignments, old: Row, arguments: Sequence[Any], slots: Sequence[Any]
    ) -> bool:
        """Change a row as assignments say; whether it is another now."""
        key = [old[place] for place in table.key]
        (new,) = self._database.execute(assignments.sql.text, (self._now, *arguments, *slots, *key))
        if new == old:
            return False
        self._session.changes.append((table, old, new))
        for place, column in assignments.required:
            if new[place] is None:
                raise error(ER.BAD_NULL_ERROR, f"Column '{column.name}' cannot be null")
        for place, column in assignments.checked:
            load = loader(column.type)
            column.stored(load(new[place]) if load is not None and new[place] is not None else new[place])
        return True

    def _insert(self, insert: Insert, values: Sequence[Any], repeat: int) -> Outcome:
        touched = changed = records = 0
        tail = [None] * insert.row_marks + list(map(bound, values[insert.row_marks * repeat :]))
        for row in self._rows(insert, values, repeat):
            records += 1
            done = self._put(insert, row, tail, values)
            touched += done
            changed += done == 2
        several = records > 1 or insert.select is not None
        duplicates = records - touched if insert.ignore else changed
        message = f"Records: {records}  Duplicates: {duplicates}  Warnings: 0" if several else ""
        return Outcome(touched=touched, message=message)

    def _rows(self, insert: Insert, values: Sequence[Any], repeat: int) -> Iterator[Row]:
        """The rows to be inserted, as they are stored."""
        columns = insert.table.columns
        given = set(insert.places)
        template = [
            None if place in given or column.auto_increment else column.omitted()
            for place, column in enumerate(columns)
        ]
        if insert.select is not None:
            for found in self._query(insert.select, values).rows:
                row = list(template)
                for place, value in zip(insert.places, found, strict=True):
                    row[place] = columns[place].stored(value)
                yield self._numbered(insert.table, row)
            return
        for begin in range(repeat):
            some = values if repeat == 1 else values[begin * insert.row_marks : (begin + 1) * insert.row_marks]
            for cells in insert.rows:
                row = list(template)
                for cell in cells:
                    row[cell.place] = self._cell(cell, some)
                yield self._numbered(insert.table, row)

    def _cell(self, cell: Cell, values: Sequence[Any]) -> Any:
        source = cell.source
        if type(source) is Argument:
            value = values[source.number]
        elif source is not None:
            value = self._value(source, values)
        else:
            value = self._computed(cell, values)
        if value is None and cell.column.auto_increment:
            return None
        return cell.column.stored(value)

    def _computed(self, cell: Cell, values: Sequence[Any]) -> Any:
        sql = cell.computed
        ((value,),) = self._database.execute(sql.text, (self._now, *map(bound, values))[: sql.arity])
        load = loader(cell.fragment.type)
        return value if load is None or value is None else load(value)

    def _numbered(self, table: Table, row: list[Any]) -> Row:
        place = table.auto_increment
        if place is not None:
            if row[place] is None:
                row[place] = self._database.numbers[table.name] + 1
            self._database.numbers[table.name] = max(row[place], self._database.numbers[table.name])
        return tuple(row)

    def _put(self, insert: Insert, row: Row, tail: Sequence[Any], values: Sequence[Any]) -> int:
        """Insert a row, or do what is asked for where its key is there; what that counts."""
        table, database = insert.table, self._database
        count = 1
        for number, (name, places) in enumerate(table.unique):
            key = [row[place] for place in places]
            if None in key:
                continue
            self._take_lock(row_key(table, number, tuple(key)), exclusive=True)
            found = database.execute(table.find_sql[number], key)
            while found and number > 0 and self._lock_row(table, found[0]):
                found = database.execute(table.find_sql[number], key)
            if not found:
                continue
            if insert.update is not None:
                slots = self._slots(insert.update, values)
                return 2 * self._assign(table, insert.update, found[0], (*tail, *row), slots)
            if insert.ignore:
                return 0
            if not insert.replace:
                raise error(ER.DUP_ENTRY, f"Duplicate entry '{'-'.join(map(str, key))}' for key '{name}'")
            self._remove(table, found[0])
            count += 1
        database.execute(table.insert_sql, row)
        self._session.changes.append((table, None, row))
        return count


def loaded(row: Row, loaders: Sequence[tuple[int, Callable[[Any], Any]]]) -> Row:
    """A row with the values that PyMySQL hands out."""
    cells = list(row)
    for place, load in loaders:
        if cells[place] is not None:
            cells[place] = load(cells[place])
    return tuple(cells)


def row_key(table: Table, unique: int, parts: tuple[Any, ...]) -> Key:
    """The lock of a row by one of its unique keys: equal for what MySQL takes for equal."""
    if table.text_places:
        columns = [table.columns[place].type for place in table.unique[unique][1]]
        parts = tuple(
            (part.rstrip(" ") if kind.binary else folded(part)) if isinstance(part, str) else part
            for part, kind in zip(parts, columns, strict=False)
        )
    return table.name, unique, parts


def time_text(moment: Any) -> str:
    """A time as statements get it."""
    text = encode_datetime(moment)
    if text is None:
        raise AssertionError("a clock knows the time")
    return text
