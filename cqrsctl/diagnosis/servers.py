"""The database's servers by their own reports: how far each reader is behind, and what this user may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError, TransientDatabaseError
from cqrsctl.read_model import grants
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.endpoints import Freshness
from cqrsctl.stopping import Questions

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Connection, Endpoint
    from cqrsctl.read_model.endpoints import Topology
    from cqrsctl.read_model.grants import Grants


@dataclass(frozen=True, slots=True)
class ReaderLag:
    """How far a reader is behind the writer, at most. None: not known, for a reason. `answers`: the reader does."""

    reader: str
    lag_seconds: float | None
    reason: str | None = None
    answers: bool = True


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """The database server as this user sees it. `demands_tls`: it refuses connections without. `logs_statements`: its
    binlog holds statements (binlog_format = STATEMENT)."""

    user: str
    grants: Grants
    demands_tls: bool
    logs_statements: bool
    most_connections: int
    most_packet_bytes: int


def lags(topology: Topology, tolerated_seconds: float) -> list[ReaderLag]:
    """How far each reader is behind, asked in parallel; known by a heartbeat no older than what is tolerated."""
    if not topology.readers:
        return []
    try:
        freshness = Freshness(topology.writer, tolerated_seconds)
    except ReadModelMissing:
        return [ReaderLag(reader.name, None, "there is no read model yet") for reader in topology.readers]
    with Questions() as executor:
        return list(executor.map(lambda reader: _lag(reader, freshness), topology.readers))


def server(writer: Endpoint) -> DatabaseServer:
    """The server and the rights of this user there; also if no database was made yet. Raises DatabaseError."""
    try:
        connection = connect(writer)
    except ReadModelMissing:
        connection = connect(writer, with_database=False)
    with connection:
        return _server(connection)


def _lag(reader: Endpoint, freshness: Freshness) -> ReaderLag:
    try:
        with connect(reader) as connection:
            seconds = freshness.seconds(connection, reader.name)
    except TransientDatabaseError as error:
        return ReaderLag(reader.name, None, f"does not answer: {error.message}", answers=False)
    except CqrsctlError as error:
        return ReaderLag(reader.name, None, error.message)
    return ReaderLag(reader.name, seconds, None if seconds is not None else freshness.reason)


def _server(connection: Connection) -> DatabaseServer:
    rows = connection.query(
        "SHOW VARIABLES WHERE Variable_name IN"
        " ('require_secure_transport', 'max_connections', 'log_bin', 'binlog_format', 'max_allowed_packet')"
    )
    variables = {row["Variable_name"]: row["Value"] for row in rows}
    return DatabaseServer(
        user=connection.query("SELECT CURRENT_USER() AS name")[0]["name"],
        grants=grants.read(connection),
        demands_tls=variables.get("require_secure_transport") == "ON",
        logs_statements=(variables.get("log_bin"), variables.get("binlog_format")) == ("ON", "STATEMENT"),
        most_connections=int(variables["max_connections"]),
        most_packet_bytes=int(variables["max_allowed_packet"]),
    )
