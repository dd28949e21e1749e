"""A database server in memory that runs the read model's own SQL: for simulations, of which there are many.

`MemoryServer.connect` stands in for `pymysql.connect`; `installed` puts it there. Time is the caller's, who also hears
of every commit and of every wait for a lock, and may let either fail. What it promises,
`tests/integration/test_memory_database.py` asks of MariaDB too.

A statement that is not understood raises NotImplementedError; nothing is passed over. Not modelled: gap locks (READ
COMMITTED has few), the queue behind a statement that waits for a definition, CHECK constraints, triggers, LOAD DATA.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, Self
from unittest import mock

import pymysql
from pymysql import err
from pymysql.constants import CR, ER

from cqrsctl.read_model.connection import Endpoint, Login
from tests.simulation.mysql import administration
from tests.simulation.mysql.database import Database
from tests.simulation.mysql.execution import Execution, Outcome, time_text
from tests.simulation.mysql.locks import NamedLocks
from tests.simulation.mysql.sessions import Session
from tests.simulation.mysql.statements import planned
from tests.simulation.mysql.syntax import shaped
from tests.simulation.mysql.values import Now, error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from tests.simulation.mysql.sessions import Row

HOST = "127.0.0.1"
_FIRST_PORT = 100_000
"""No real server has a port so high."""
_MOST_WAITS = 100_000
"""After this many calls of `waits` for one lock, time does not pass."""
_DATA_WORDS = {"SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE"}
_CHANGING_WORDS = _DATA_WORDS - {"SELECT"} | {"CREATE", "DROP", "ALTER"}
_ports = itertools.count(_FIRST_PORT)


class MemoryServer:
    """A server with its databases and connections.

    The hooks may raise anything, which ends the connection as a lost one does: what is not committed is rolled back.
    `before_commit` is called before anything is committed, `after_commit` when all is, both with the number of the
    connection, and `before_statement` with the statement too. `waits` is called again and again by a statement that
    another connection's lock is in the way of: it lets the others run, and time pass. Without it, a lock that is not
    free is a lock-wait time-out at once.

    One thread uses it at a time: others get their turn in `waits` and `before_statement`, or between statements.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.port = next(_ports)
        self.read_only = False
        self.rows_written = 0
        self.before_statement: Callable[[int, str], None] | None = None
        self.before_commit: Callable[[int], None] | None = None
        self.after_commit: Callable[[int], None] | None = None
        self.waits: Callable[[], None] | None = None
        self._databases: dict[str, Database] = {}
        self._sessions: dict[int, Session] = {}
        self._numbers = itertools.count(1)
        self._named_locks = NamedLocks()

    def endpoint(self, database: str) -> Endpoint:
        """Where `connect` of the read model finds a database of this server."""
        return Endpoint(HOST, self.port, database, lambda: Login("user", "password"))

    def copy(self) -> MemoryServer:
        """Another server with the same databases and no connections: quicker than making them again."""
        made = MemoryServer(self.clock)
        for name, database in self._databases.items():
            made._databases[name] = made._equipped(Database(name, database))
        return made

    def connect(self, *, database: str | None = None, init_command: str = "", **_: Any) -> MemoryConnection:
        """What `pymysql.connect` does. Raises pymysql.Error."""
        if database is not None and database not in self._databases:
            raise error(ER.BAD_DB_ERROR, f"Unknown database '{database}'")
        session = Session(next(self._numbers), None if database is None else self._databases[database])
        self._sessions[session.number] = session
        if init_command:
            self.execute(session, init_command, None)
        return MemoryConnection(self, session)

    def kill(self, number: int) -> None:
        """End a connection: its transaction is rolled back, its locks are free, and its next use raises 2013."""
        if (session := self._sessions.get(number)) is None:
            raise error(ER.NO_SUCH_THREAD, f"Unknown thread id: {number}")
        self.disconnect(session)

    def kill_if_there(self, number: int) -> None:
        """The same, if it has not ended by itself."""
        if number in self._sessions:
            self.kill(number)

    def changed(self, number: int) -> set[str]:
        """The tables that a connection changed and did not commit."""
        return {table.name for table, _, _ in self._sessions[number].changes}

    def create_database(self, name: str, *, unless_there: bool) -> None:
        if name in self._databases and not unless_there:
            raise error(ER.DB_CREATE_EXISTS, f"Can't create database '{name}'; database exists")
        if name not in self._databases:
            self._databases[name] = self._equipped(Database(name))

    def disconnect(self, session: Session) -> None:
        """End a connection, whatever it was at."""
        session.is_open = False
        if session.database is not None:
            session.database.end(session, keep=False)
        self._named_locks.release_all(session)
        self._sessions.pop(session.number, None)

    def commit(self, session: Session) -> None:
        """Commit as a client asks for it, with the hooks."""
        self._require_open(session)
        with self._ending_if_raised(session):
            if self.before_commit is not None:
                self.before_commit(session.number)
                self._require_open(session)
            self.end(session, keep=True)
            if self.after_commit is not None:
                self.after_commit(session.number)

    def rollback(self, session: Session) -> None:
        self._require_open(session)
        self.end(session, keep=False)

    def end(self, session: Session, *, keep: bool) -> None:
        """End a session's transaction."""
        if session.database is not None:
            self.rows_written += len(session.changes) if keep else 0
            session.database.end(session, keep=keep)

    def execute(self, session: Session, sql: str, args: Sequence[Any] | None) -> Outcome:
        """Run a statement. Raises pymysql.Error, NotImplementedError."""
        self._require_open(session)
        if self.before_statement is not None:
            with self._ending_if_raised(session):
                self.before_statement(session.number, sql)
                self._require_open(session)
        word = sql.split(None, 1)[0].upper()
        if word in _CHANGING_WORDS:
            self._require_writable(session)
        if word not in _DATA_WORDS:
            return administration.run(self, session, sql)
        database = session.database
        if database is None:
            raise error(ER.NO_DB_ERROR, "No database selected")
        database.mount(session)
        shape, repeat, values = shaped(sql, args)
        plan = planned(shape, database.catalog)
        if len(values) != plan.marks + (repeat - 1) * plan.row_marks:
            raise NotImplementedError(f"{len(values)} values in: {shape}")
        if plan.informed:
            database.count_rows()

        def wait(blockers: Callable[[], set[Session]], no_wait: bool) -> bool:
            return self._wait(session, blockers, 0.0 if no_wait else session.row_wait_seconds)

        now = time_text(self.clock())
        values = [now if value is Now.NOW else value for value in values]
        return Execution(session, database, now, wait).run(plan, values, repeat)

    def change_definition(self, session: Session, name: str) -> None:
        """Commit, as every definition does by itself, and wait until no other transaction uses what is to change."""
        if session.changes:
            self.commit(session)
        self.end(session, keep=True)

        def users() -> set[Session]:
            return {other for other in self._sessions.values() if other is not session and name in other.used}

        self._wait(session, users, session.definition_wait_seconds)

    def _wait(self, session: Session, blockers: Callable[[], set[Session]], seconds: float) -> bool:
        """Wait until nobody is in the way; whether there was anybody. Raises MySQL's errors of locks."""
        others = blockers()
        if not others:
            return False
        begin = self.clock()
        try:
            for _ in range(_MOST_WAITS):
                if session.is_waited_for_by(others):
                    self.end(session, keep=False)
                    raise error(ER.LOCK_DEADLOCK, "Deadlock found when trying to get lock; try restarting transaction")
                if self.waits is None or (self.clock() - begin).total_seconds() >= seconds:
                    break
                session.waits_for = others
                self.waits()
                self._require_open(session)
                others = blockers()
                if not others:
                    if session.database is not None:
                        session.database.mount(session)
                    return True
        finally:
            session.waits_for = set()
        raise error(ER.LOCK_WAIT_TIMEOUT, "Lock wait timeout exceeded; try restarting transaction")

    def _require_open(self, session: Session) -> None:
        if not session.is_open:
            raise error(CR.CR_SERVER_LOST, "Lost connection to MySQL server during query")

    def _require_writable(self, session: Session) -> None:
        if self.read_only:
            raise error(
                ER.OPTION_PREVENTS_STATEMENT,
                "The MariaDB server is running with the --read-only option so it cannot execute this statement",
            )
        if session.read_only:
            raise error(1792, "Cannot execute statement in a READ ONLY transaction")

    @contextmanager
    def _ending_if_raised(self, session: Session) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.disconnect(session)
            raise

    def _equipped(self, database: Database) -> Database:
        """A database with the functions that know the session and the server."""

        def session() -> Session:
            if database.mounted is None:
                raise AssertionError("some session runs the statement")
            return database.mounted

        def get_lock(name: str, seconds: int) -> int:
            if seconds:
                raise NotImplementedError("waiting in GET_LOCK")
            return self._named_locks.get(session(), name)

        database.function("current_database", 0, lambda: database.name)
        database.function("current_connection", 0, lambda: session().number)
        database.function("get_lock", 2, get_lock)
        database.function("release_lock", 1, lambda name: self._named_locks.release(session(), name))
        database.function("is_used_lock", 1, self._named_locks.holder)
        database.function("session_variable", 1, self._variable)
        return database

    def _variable(self, name: str) -> int:
        known = {"read_only": int(self.read_only), "innodb_read_only": 0, "local_infile": 0}
        known["max_allowed_packet"] = 16 << 20
        if name not in known:
            raise NotImplementedError(f"@@{name}")
        return known[name]


class MemoryConnection:
    """As much of PyMySQL's connection as the read model uses."""

    def __init__(self, server: MemoryServer, session: Session) -> None:
        self.open = True
        self._server = server
        self._session = session
        self._read_timeout = self._write_timeout = 0.0

    def thread_id(self) -> int:
        """The number of the connection."""
        return self._session.number

    def cursor(self, _: type | None = None) -> MemoryCursor:
        return MemoryCursor(self)

    def execute(self, sql: str, args: Sequence[Any] | None) -> Outcome:
        with self._in_use():
            return self._server.execute(self._session, sql, args)

    def commit(self) -> None:
        with self._in_use():
            self._server.commit(self._session)

    def rollback(self) -> None:
        with self._in_use():
            self._server.rollback(self._session)

    def close(self) -> None:
        self.open = False
        if self._session.is_open:
            self._server.disconnect(self._session)

    def __del__(self) -> None:
        """As PyMySQL's: who loses a connection closes it."""
        self.close()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        if not self.open:
            raise err.InterfaceError(0, "")
        try:
            yield
        finally:
            self.open = self._session.is_open


class MemoryCursor:
    """As much of PyMySQL's cursors as the read model uses."""

    def __init__(self, connection: MemoryConnection) -> None:
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self._connection = connection
        self._rows: Iterator[Row] = iter(())
        self._result = SimpleNamespace(message=b"")

    def execute(self, query: str, args: Sequence[Any] | None = None) -> int:
        outcome = self._connection.execute(query, args)
        self.description = tuple((name, None) for name in outcome.names) or None
        self._rows = iter(outcome.rows)
        self._result.message = outcome.message.encode()
        self.rowcount = outcome.touched
        return outcome.touched

    def fetchone(self) -> Row | None:
        return next(self._rows, None)

    def fetchall(self) -> tuple[Row, ...]:
        return tuple(self._rows)

    def close(self) -> None:
        self._rows = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Server(Protocol):
    """Who is connected to in the place of a server of the network."""

    port: int

    def connect(self, **options: Any) -> Any: ...


@contextmanager
def installed(*servers: Server) -> Iterator[None]:
    """Let `pymysql.connect` reach these servers by host and port, and all others as ever."""
    by_port = {server.port: server for server in servers}
    real = pymysql.connect

    def connect(**options: Any) -> Any:
        server = by_port.get(options["port"]) if options["host"] == HOST else None
        return real(**options) if server is None else server.connect(**options)

    with mock.patch.object(pymysql, "connect", connect):
        yield
