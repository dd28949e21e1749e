"""Statements that are no queries and no writes: definitions, settings of the session, what SHOW tells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pymysql.constants import ER

from tests.simulation.mysql.catalog import Table, View, view_of
from tests.simulation.mysql.execution import Outcome
from tests.simulation.mysql.statements import Statements
from tests.simulation.mysql.syntax import Reader
from tests.simulation.mysql.values import error

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.memory_database import MemoryServer
    from tests.simulation.mysql.database import Database
    from tests.simulation.mysql.sessions import Session

_VIEW = re.compile(
    r"\s*CREATE (?P<replace>OR REPLACE )?(?:SQL SECURITY DEFINER )?VIEW\s+`?(?P<name>\w+)`?\s+AS\s+(?P<select>.*)",
    re.DOTALL,
)
_IGNORED_SETTINGS = {"time_zone", "sql_mode", "wait_timeout"}


def run(server: MemoryServer, session: Session, sql: str) -> Outcome:
    """Run such a statement. Raises NotImplementedError where it is another one."""
    reader = Reader(sql)
    word = reader.next.text.upper()
    if word not in _HANDLERS:
        raise reader.unknown("a statement")
    return _HANDLERS[word](server, session, reader)


def _create(server: MemoryServer, session: Session, reader: Reader) -> Outcome:
    if reader.accept("CREATE", "DATABASE"):
        unless_there = reader.accept("IF", "NOT", "EXISTS")
        name = reader.name()
        reader.finish()
        server.create_database(name, unless_there=unless_there)
        return Outcome(touched=1)
    database = _database(session)
    if reader.accept("CREATE", "TABLE"):
        unless_there = reader.accept("IF", "NOT", "EXISTS")
        server.change_definition(session, reader.name())
        database.create_table(reader.sql, unless_there=unless_there)
        return Outcome()
    match = _VIEW.fullmatch(reader.sql)
    if match is None:
        raise reader.unknown("a definition")
    checked = Statements(match["select"], database.catalog)
    checked.query()
    checked.finish()
    server.change_definition(session, match["name"])
    database.create_view(view_of(match["name"], match["select"]), replace=bool(match["replace"]))
    return Outcome()


def _drop(server: MemoryServer, session: Session, reader: Reader) -> Outcome:
    reader.expect("DROP")
    is_view = reader.accept("VIEW")
    if not is_view:
        reader.expect("TABLE")
    if_there = reader.accept("IF", "EXISTS")
    name = reader.name()
    reader.finish()
    server.change_definition(session, name)
    _database(session).drop(name, View if is_view else Table, if_there=if_there)
    return Outcome()


def _alter(server: MemoryServer, session: Session, reader: Reader) -> Outcome:
    reader.expect("ALTER", "TABLE")
    name = reader.name()
    server.change_definition(session, name)
    _database(session).alter_table(name, reader.sql)
    return Outcome()


def _set(server: MemoryServer, session: Session, reader: Reader) -> Outcome:
    reader.expect("SET", "SESSION")
    if reader.accept("TRANSACTION", "ISOLATION", "LEVEL", "READ", "COMMITTED"):
        return Outcome()
    if reader.accept("TRANSACTION", "READ", "ONLY"):
        session.read_only = True
        return Outcome()
    while True:
        name = reader.name().lower()
        reader.expect("=")
        value = reader.take()
        if name == "innodb_lock_wait_timeout":
            session.row_wait_seconds = float(value.text)
        elif name == "lock_wait_timeout":
            session.definition_wait_seconds = float(value.text)
        elif name not in _IGNORED_SETTINGS:
            raise reader.unknown(f"the setting {name}")
        if not reader.accept(","):
            reader.finish()
            return Outcome()


def _start(server: MemoryServer, session: Session, reader: Reader) -> Outcome:
    reader.expect("START", "TRANSACTION")
    server.end(session, keep=True)
    session.read_only |= reader.accept("READ", "ONLY")
    reader.finish()
    return Outcome()


def _show(server: MemoryServer, session: Session, reader: Reader) -> Outcome:
    reader.expect("SHOW")
    if reader.accept("TABLES"):
        database = _database(session)
        return Outcome((f"Tables_in_{database.name}",), [(name,) for name in sorted(database.catalog)])
    if reader.accept("GRANTS", "FOR", "CURRENT_USER"):
        return Outcome(("Grants",), [("GRANT ALL PRIVILEGES ON *.* TO `memory`@`%`",)])
    names = "Variable_name", "Value"
    if reader.accept("VARIABLES"):
        return Outcome(names)  # MariaDB has none of those that are asked for
    if reader.accept("GLOBAL", "STATUS"):
        return Outcome(names, [("Handler_write", str(server.rows_written))])
    raise reader.unknown("SHOW")


def _kill(server: MemoryServer, session: Session, reader: Reader) -> Outcome:
    reader.expect("KILL")
    server.kill(int(reader.take().text))
    return Outcome()


def _database(session: Session) -> Database:
    if session.database is None:
        raise error(ER.NO_DB_ERROR, "No database selected")
    return session.database


_HANDLERS: dict[str, Callable[[MemoryServer, Session, Reader], Outcome]] = {
    "CREATE": _create,
    "DROP": _drop,
    "ALTER": _alter,
    "SET": _set,
    "START": _start,
    "SHOW": _show,
    "KILL": _kill,
}
