"""Connections to the read model's database. This room alone knows PyMySQL; its errors never leave it."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import CR, ER
from pymysql.converters import encoders
from pymysql.cursors import Cursor, SSCursor

from cqrsctl.errors import (
    LOGIN_REFUSED,
    ConfigurationError,
    CqrsctlError,
    DatabaseError,
    TransactionConflict,
    TransientDatabaseError,
    ValueRejected,
)
from cqrsctl.stopping import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cqrsctl.projection.fitting import SqlValue

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10
_LOGIN_SECONDS = 45
"""For each packet of a login: a serverless instance that was paused wakes up meanwhile."""
_READ_SECONDS = 120
_BULK_SECONDS = 6 * 3_600  # an index of a large table takes its time
_LOCK_WAIT_SECONDS = 20
_IDLE_SECONDS = 120
"""The server drops a connection, and with it the projector's lock, that was silent for so long."""

# Lost or refused connections, and a server that is read-only, as a writer is after a failover (1290, 1792, 1836).
_HICCUPS = {
    CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST,
    CR.CR_CONN_HOST_ERROR,
    CR.CR_CONNECTION_ERROR,
    CR.CR_UNKNOWN_HOST,
    ER.CON_COUNT_ERROR,
    ER.TOO_MANY_USER_CONNECTIONS,
    ER.USER_LIMIT_REACHED,
    ER.SERVER_SHUTDOWN,
    ER.OPTION_PREVENTS_STATEMENT,
    1792,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    1836,  # ER_READ_ONLY_MODE
    1927,  # ER_CONNECTION_KILLED (MariaDB)
    3032,  # ER_SERVER_OFFLINE_MODE (MySQL)
    4031,  # ER_CLIENT_INTERACTION_TIMEOUT (MySQL 8)
}
_CONFLICTS = {
    ER.LOCK_WAIT_TIMEOUT,
    ER.LOCK_DEADLOCK,
    ER.QUERY_INTERRUPTED,  # KILL QUERY
    3572,  # ER_LOCK_NOWAIT (MySQL 8; MariaDB answers as for a lock-wait time-out)
}
_REJECTED_VALUES = {
    ER.BAD_NULL_ERROR,
    ER.DATA_TOO_LONG,
    ER.WARN_DATA_OUT_OF_RANGE,
    ER.WARN_DATA_TRUNCATED,
    ER.TRUNCATED_WRONG_VALUE,
    ER.TRUNCATED_WRONG_VALUE_FOR_FIELD,
    ER.INVALID_CHARACTER_STRING,
    ER.NO_DEFAULT_FOR_FIELD,
    ER.NO_REFERENCED_ROW_2,
    1644,  # ER_SIGNAL_EXCEPTION: a trigger
    3140,  # ER_INVALID_JSON_TEXT (MySQL)
    3819,  # ER_CHECK_CONSTRAINT_VIOLATED (MySQL)
    4025,  # ER_CONSTRAINT_FAILED (MariaDB)
}
_NO_PERMISSION = {
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
}
_TLS_REQUIRED = 3159  # ER_SECURE_TRANSPORT_REQUIRED
_NOT_THERE = {ER.NO_SUCH_TABLE, ER.BAD_DB_ERROR}

HINT_FOR_BUNDLE = (
    "Set database.ca_bundle to a PEM file of the authority that signed the server's certificate; "
    "for RDS: https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
)
_HINT_FOR_NAME = "Set database.host to a name that the certificate is made for; for RDS, the endpoint's own."
_HINT_FOR_TIME = "Renew the server's certificate, or set this machine's clock."
_HINTS_FOR_CERTIFICATES = {  # by OpenSSL's number of what is wrong: not valid yet or any more, another name or address
    9: _HINT_FOR_TIME,
    10: _HINT_FOR_TIME,
    62: _HINT_FOR_NAME,
    64: _HINT_FOR_NAME,
}


class ReadModelMissing(DatabaseError):
    """The read model's tables, or its whole database, were not made yet."""

    code = "read_model_missing"


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to connect to. `login` is asked for at each connection: its password may be a token that expires.

    `name` is the instance's, empty if it is unknown. `through` is where a tunnel to the server begins, while `host` is
    verified. `opened` is given each connection before and while it logs in; if it raises, the login is abandoned.
    """

    host: str
    port: int
    database: str
    login: Callable[[], Login] = field(repr=False)
    ca_bundle: Path | None = None
    name: str = ""
    through: tuple[str, int] | None = None
    opened: Callable[[Connection], None] = field(default=lambda _: None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


class Connection:
    """A connection in UTC, READ COMMITTED and strict mode, without autocommit."""

    def __init__(self, raw: pymysql.Connection[Cursor], endpoint: Endpoint) -> None:
        self._raw = raw
        self._endpoint = endpoint

    def execute(self, sql: str, parameters: tuple[Any, ...] | list[Any] = ()) -> int:
        """Run a statement; the number of rows it touched, as MySQL counts them."""
        with database_errors(self._endpoint), self._raw.cursor() as cursor:
            return cursor.execute(sql, parameters or None)

    def query(self, sql: str, parameters: tuple[Any, ...] | list[Any] = ()) -> list[dict[str, Any]]:
        """Run a query; all its rows."""
        with database_errors(self._endpoint), self._raw.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def stream(self, sql: str) -> Iterator[tuple[list[str], tuple[Any, ...] | None]]:
        """Run a query without holding its result in memory: first (names, None), then (names, row) for each row."""
        with database_errors(self._endpoint), self._raw.cursor(SSCursor) as cursor:
            cursor.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            yield names, None
            while (row := cursor.fetchone()) is not None:
                yield names, row

    def upsert(self, sql: str, rows: int) -> tuple[int, int]:
        """Run an INSERT … ON DUPLICATE KEY UPDATE of some rows: rows written, rows that stayed as they were.

        Raises ValueRejected if a value breaks a rule of the table.

        MySQL counts 1 for a row inserted, 2 for one changed, 0 for one that stayed. If a statement has several rows,
        its info text has the number of changed ones ("Records: 3  Duplicates: 1  Warnings: 0").
        """
        with database_errors(self._endpoint), self._raw.cursor() as cursor:
            try:
                touched = cursor.execute(sql)
            except pymysql.Error as error:
                if _number(error) not in _REJECTED_VALUES:
                    raise
                raise ValueRejected(f"{self._endpoint}: {_text(error)}.", _text(error)) from error
            written = touched - _counts(cursor)["Duplicates"] if rows > 1 else min(touched, 1)
            return written, rows - written

    def load_file(self, sql: str) -> int:
        """Run a LOAD DATA LOCAL INFILE; the number of rows loaded. Rows whose key is there already are passed over.

        Raises ValueRejected if the server changed a value to make it fit: then it only warns (MySQL 8.0 Reference
        Manual, "LOAD DATA Statement": LOCAL has the effect of IGNORE).
        """
        with database_errors(self._endpoint), self._raw.cursor() as cursor:
            loaded = cursor.execute(sql)
            passed_over = int(_counts(cursor)["Skipped"])
            cursor.execute("SHOW COUNT(*) WARNINGS")
            (warnings,) = cursor.fetchone() or (0,)
            if warnings > passed_over:
                cursor.execute("SHOW WARNINGS LIMIT 5")
                reason = "; ".join(sorted({text for _, number, text in cursor.fetchall() if number != ER.DUP_ENTRY}))
                raise ValueRejected(f"{self._endpoint}: {reason}.", reason)
            return loaded

    def require_writable(self) -> None:
        """Raises TransientDatabaseError if the server is read-only, as a writer is after it was failed over."""
        found = self.query("SELECT @@read_only AS by_setting, @@innodb_read_only AS by_storage")[0]
        if not {str(value) for value in found.values()} <= {"0", "OFF"}:
            raise TransientDatabaseError(
                f"{self._endpoint} is read-only: it is not the writer, or not any more.", code="database_read_only"
            )

    def commit(self) -> None:
        with database_errors(self._endpoint):
            self._raw.commit()

    def rollback(self) -> None:
        with database_errors(self._endpoint):
            self._raw.rollback()

    def close(self) -> None:
        """Close the connection; the server rolls back what was not committed."""
        if self._raw.open:
            self._raw.close()

    def cut(self) -> None:
        """End what is under way, from another thread: whoever waits for the server meets TransientDatabaseError."""
        with suppress(OSError, AttributeError):  # it has ended by itself, or not begun
            self._raw._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # noqa: SLF001

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(endpoint: Endpoint, *, with_database: bool = True, bulk: bool = False) -> Connection:
    """Connect, verifying the server unless it is on this machine. Raises DatabaseError, ConfigurationError.

    A `bulk` connection waits for long statements, and can send files of this machine.
    """
    tls = _tls(endpoint)
    _log.info("connecting to %s", endpoint)
    login = endpoint.login()
    with database_errors(endpoint):
        raw = pymysql.connect(
            host=endpoint.host,
            port=endpoint.port,
            user=login.user,
            password=login.password.encode(),  # PyMySQL takes text for Latin-1
            database=endpoint.database if with_database else None,
            charset="utf8mb4",
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_LOGIN_SECONDS,
            write_timeout=_LOGIN_SECONDS,
            autocommit=False,
            local_infile=bulk,
            defer_connect=True,
            init_command=(
                "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,"
                "NO_ENGINE_SUBSTITUTION,NO_ZERO_DATE,NO_ZERO_IN_DATE', "
                f"innodb_lock_wait_timeout = {_LOCK_WAIT_SECONDS}, wait_timeout = {_IDLE_SECONDS}"
            ),
            **tls,
        )
        connection = Connection(raw, endpoint)
        endpoint.opened(connection)
        if not raw.open:
            # Before there is a socket, nothing can be cut off: a network that swallows packets would hold us up.
            watched(lambda: endpoint.opened(connection), _log_in, raw, endpoint.through)
        # PyMySQL's connect_timeout is over once the server accepts; it has none for the login that follows.
        seconds = _BULK_SECONDS if bulk else _READ_SECONDS
        raw._read_timeout = raw._write_timeout = seconds  # type: ignore[attr-defined]  # noqa: SLF001
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    return connection


def literal(value: SqlValue) -> str:
    """A value as PyMySQL writes it into a statement; much quicker than its parameters if there are many.

    As there, backslashes escape: `connect` sets an sql_mode in which they do.
    """
    text: str = encoders[type(value)](value, encoders)
    return text


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def database_errors(endpoint: Endpoint) -> Iterator[None]:
    """Translate PyMySQL's errors into ours."""
    try:
        yield
    except pymysql.Error as error:
        raise (_untrusted(endpoint, error) or _translated(endpoint, error)) from error
    except (OSError, EOFError) as error:
        raise TransientDatabaseError(f"{endpoint}: {error}.") from error


def _log_in(raw: pymysql.Connection[Cursor], through: tuple[str, int] | None) -> None:
    tunnel = socket.create_connection(through, timeout=_CONNECT_SECONDS) if through else None
    if tunnel:
        tunnel.settimeout(None)  # PyMySQL sets its own for each read and write
    raw.connect(tunnel)


def _tls(endpoint: Endpoint) -> dict[str, Any]:
    if is_loopback(endpoint.host):
        return {"ssl_disabled": True}
    if endpoint.ca_bundle is None:
        raise ConfigurationError(
            f"{endpoint.host} is not this machine, and there is no CA bundle to verify it with.",
            hint=HINT_FOR_BUNDLE,
            code="tls",
        )
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_bundle)
    except OSError as error:
        reason = "it holds no certificates (PEM)" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"database.ca_bundle: {endpoint.ca_bundle} cannot be used: {reason}.", hint=HINT_FOR_BUNDLE, code="tls"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 became stricter than authorities are that were made by hand, or by MySQL and MariaDB themselves.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return {"ssl": context}


def _untrusted(endpoint: Endpoint, error: pymysql.Error) -> ConfigurationError | None:
    """The error of a server that answers and cannot be trusted, which waiting does not heal; None for all others."""
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message.rstrip(".")
        return ConfigurationError(
            f"{endpoint}: the server's certificate is not trusted: {reason}.",
            hint=_HINTS_FOR_CERTIFICATES.get(cause.verify_code, HINT_FOR_BUNDLE),
            code="tls",
        )
    if _number(error) == _TLS_REQUIRED:
        return ConfigurationError(
            f"{endpoint}: {_text(error)}.",
            hint="Set database.host to the name that its certificate is made for; if a tunnel leads there, set "
            "database.connect_host and database.connect_port to where that begins.",
            code="tls",
        )
    if _number(error) == CR.CR_SSL_CONNECTION_ERROR:
        return ConfigurationError(
            f"{endpoint}: the server offers no TLS.",
            hint="Check database.host and database.port, and that the server has a certificate.",
            code="tls",
        )
    return None


def _translated(endpoint: Endpoint, error: pymysql.Error) -> CqrsctlError:
    number, text = _number(error), _text(error)
    if number == ER.ACCESS_DENIED_ERROR:
        return DatabaseError(
            f"{endpoint}: the database refused the login. {text}.",
            hint="Check database.user and where its password comes from: database.secret, database.iam_auth, "
            "or CQRSCTL_DATABASE_PASSWORD.",
            code=LOGIN_REFUSED,
        )
    if number in _NO_PERMISSION:
        return DatabaseError(f"{endpoint}: {text}.", hint="Grant it to that user.", code="database_permission")
    if number in _NOT_THERE:
        return ReadModelMissing(
            f"{endpoint}: {text}.", hint="If there is no read model yet, make it with: cqrsctl read-model init"
        )
    if number in _CONFLICTS:
        return TransactionConflict(f"{endpoint}: {text} ({number}).")
    if number in _HICCUPS or (number == 0 and isinstance(error, pymysql.err.InterfaceError)):
        return TransientDatabaseError(
            f"{endpoint}: the database does not answer, or not now ({number}). {text}.",
            hint="Check that it runs and can be reached: database.host, database.port, security groups.",
        )
    return DatabaseError(f"{endpoint}: {text} ({number}).")


def _number(error: pymysql.Error) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _text(error: pymysql.Error) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__


def _counts(cursor: Cursor) -> dict[str, int]:
    """The numbers in a statement's info text, which PyMySQL keeps but offers no public way to."""
    message: bytes = cursor._result.message  # type: ignore[attr-defined]  # noqa: SLF001
    return {name: int(number) for name, number in re.findall(r"(\w+): (\d+)", message.decode())}
