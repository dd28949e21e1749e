"""A real MariaDB server in a simulation: in its time, and with the hooks of `MemoryServer`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.connections import Connection as RawConnection
from pymysql.constants import ER

from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.read_model.connection import Endpoint

_CHANGE = re.compile(r"\s*(?:(?:INSERT|REPLACE)\b.*?\bINTO|UPDATE|DELETE\s+FROM)\s+`?(\w+)", re.IGNORECASE | re.DOTALL)
_COMMITTING_WORDS = {"CREATE", "DROP", "ALTER"}
_LOCK_WAIT_SECONDS = 1
"""The simulation stands still while a statement waits for a lock, so whoever holds it cannot let it go."""


if TYPE_CHECKING:
    _Raw = RawConnection[Any]
else:
    _Raw = RawConnection


class RealServer:
    """One database of a server. All its connections have the time of the simulation."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.port = endpoint.port
        self.before_statement: Callable[[int, str], None] | None = None
        self.before_commit: Callable[[int], None] | None = None
        self.after_commit: Callable[[int], None] | None = None
        self.waits: Callable[[], None] | None = None
        """Never called: a statement waits in the server."""
        self._endpoint = endpoint
        self._login = endpoint.login()
        self._connections: dict[int, _TimedConnection] = {}
        self._own = self._connected()

    def endpoint(self, database: str) -> Endpoint:
        """A database that the user has rights to; whoever prepares the read model makes it."""
        self._endpoint = replace(self._endpoint, database=f"{self._endpoint.database}_{database}")
        return self._endpoint

    def connect(self, **options: Any) -> _TimedConnection:
        """What `pymysql.connect` does, and at once: a simulated process is not cut off while it logs in."""
        connection = _TimedConnection(self, **{**options, "defer_connect": False})
        self._connections[connection.thread_id()] = connection  # type: ignore[no-untyped-call]
        return connection

    def changed(self, number: int) -> set[str]:
        """The tables that a connection changed and did not commit."""
        return self._connections[number].changed

    def kill_if_there(self, number: int) -> None:
        """End a connection, and wait until the server has rolled back what it was at."""
        connection = self._connections.pop(number, None)
        if connection is None:
            return
        connection.drop()
        wait_for(lambda: not self._is_there(number), f"the server has ended connection {number}")

    def close(self) -> None:
        """Drop the database, and end every connection."""
        for number in list(self._connections):
            self.kill_if_there(number)
        with self._own.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{self._endpoint.database}`")
        self._own.close()

    def _is_there(self, number: int) -> bool:
        with self._own.cursor() as cursor:
            return bool(cursor.execute("SELECT id FROM information_schema.processlist WHERE id = %s", (number,)))

    def _connected(self) -> _Raw:
        return _Raw(
            host=self._endpoint.host,
            port=self.port,
            user=self._login.user,
            password=self._login.password,
            autocommit=True,
        )


class _TimedConnection(_Raw):
    """A connection with the simulation's time, whose server hears of its statements and commits."""

    def __init__(self, server: RealServer, **options: Any) -> None:
        self.changed: set[str] = set()
        self._server = server
        self._time = ""
        super().__init__(**options)
        super().query(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT_SECONDS}")

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        text = sql if isinstance(sql, str) else sql.decode(errors="replace")
        self._call(self._server.before_statement, text)
        time = f"{self._server.clock().timestamp():.6f}"
        if time != self._time:
            super().query(f"SET timestamp = {time}")
            self._time = time
        word = text.split(None, 1)[0].upper()
        if word in _COMMITTING_WORDS:
            self.changed = set()
        elif change := _CHANGE.match(text):
            self.changed.add(change[1])
        try:
            return super().query(sql, unbuffered)
        except pymysql.Error as error:
            if error.args[0] == ER.LOCK_DEADLOCK:  # rolled back
                self.changed = set()
            raise

    def commit(self) -> None:
        self._call(self._server.before_commit)
        super().commit()
        self._call(self._server.after_commit)
        self.changed = set()

    def rollback(self) -> None:
        super().rollback()
        self.changed = set()

    def drop(self) -> None:
        """End it as a lost connection ends."""
        self._force_close()  # type: ignore[attr-defined]

    def _call(self, hook: Callable[..., None] | None, *more: str) -> None:
        """Call a hook, if there is one; what it raises ends the connection."""
        if hook is None:
            return
        number = self.thread_id()  # type: ignore[no-untyped-call]
        try:
            hook(number, *more)
        except BaseException:
            self._server.kill_if_there(number)
            raise
