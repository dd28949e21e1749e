"""The sink: applies a batch to the read model in one transaction, rows and checkpoints together."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from cqrsctl.change import ShardState
from cqrsctl.errors import Busy, TransactionConflict, TransientDatabaseError, ValueRejected
from cqrsctl.projection.batch import Applied
from cqrsctl.read_model import checkpoints, dead_letters, heartbeat, schema
from cqrsctl.read_model.connection import ReadModelMissing, connect, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from cqrsctl.change import Checkpoints, Position
    from cqrsctl.projection.batch import Batch
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.rows import Row
    from cqrsctl.read_model.connection import Connection, Endpoint

ROWS_A_STATEMENT = 1_000
_STATEMENT_CHARACTERS = 1_000_000
BEAT_SECONDS = 5.0


class MySqlSink:
    """The read model in MySQL, as the projector's sink."""

    def __init__(
        self,
        find_writer: Callable[[], Endpoint],
        projections: Sequence[Projection],
        stream_arn: str,
        monotonic: Callable[[], float],
        *,
        beside_function: bool = False,
    ) -> None:
        """`find_writer` is asked at each opening: after a failover the writer is another server.

        `beside_function`: a Lambda function projects this stream as well, and AWS keeps its position. Where it was the
        last to project, the checkpoints are older than the read model: then reading begins anew, at the horizon, and
        what the function applied is stale.
        """
        self._beside_function = beside_function
        self._find_writer = find_writer
        self._database = ""
        self._projections = projections
        self._stream_arn = stream_arn
        self._monotonic = monotonic
        self._open: Connection | None = None
        self._beat_due = 0.0

    def open(self) -> Checkpoints:
        """Connect, make what is missing of the read model, take the lock, read the checkpoints.

        Raises Busy where another projector holds the read model, StreamGap, DatabaseError.
        """
        self.close()
        writer = self._find_writer()
        self._database = writer.database
        prepare(writer, self._projections)
        self._open = connect(writer)
        self._open.require_writable()
        take_lock(self._open, self._database, self._projections)
        if self._beside_function and heartbeat.by_function(self._open):
            checkpoints.forget(self._open, self._stream_arn)
        self._beside_function = False
        self._write_beat()
        checkpoints.forget_finished(self._open, self._stream_arn)
        return checkpoints.read(self._open, self._projections, self._stream_arn)

    def apply(self, batch: Batch) -> Applied:
        """Apply a batch: all of it, or nothing.

        Raises ValueRejected and TransactionConflict, after which the connection is still good; and
        TransientDatabaseError, DatabaseError.
        """
        connection = self._connection

        def with_positions() -> None:
            checkpoints.write(connection, self._projections, self._stream_arn, batch.positions)
            self._write_beat()
            require_lock(connection, self._database, self._projections)

        try:
            return apply_once(connection, self._projections, batch, with_positions)
        except (ValueRejected, TransactionConflict):
            raise
        except BaseException:
            # Whatever was under way is given up with its connection; the checkpoint tells how far it came.
            self.close()
            raise

    def beat(self) -> None:
        """Write the heartbeat, if the last is older than a few seconds."""
        if self._monotonic() >= self._beat_due:
            self._write_beat()
            self._connection.commit()

    def mark_gap(self, position: Position) -> None:
        """Mark a shard's checkpoint as a gap, for good."""
        connection = self._connection
        checkpoints.write(connection, self._projections, self._stream_arn, [replace(position, state=ShardState.GAP)])
        connection.commit()

    def close(self) -> None:
        """Close the connection; the lock goes with it."""
        if self._open:
            self._open.close()
        self._open = None

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise AssertionError("open() comes first")
        return self._open

    def _write_beat(self) -> None:
        heartbeat.write(self._connection, holder())
        self._beat_due = self._monotonic() + BEAT_SECONDS


def prepare(endpoint: Endpoint, projections: Sequence[Projection]) -> list[str]:
    """Make the database, tables and views that are missing; the names of the views made.

    Raises DatabaseError where tables were made from another declaration.
    """
    try:
        connection = connect(endpoint)
    except ReadModelMissing:
        with connect(endpoint, with_database=False) as server:
            schema.create_database(server, endpoint.database)
        connection = connect(endpoint)
    with connection:
        return schema.create(connection, projections)


def apply_once(
    connection: Connection,
    projections: Sequence[Projection],
    batch: Batch,
    with_it: Callable[[], None] = lambda: None,
) -> Applied:
    """Apply a batch's rows and dead letters in a transaction of their own, and what else belongs in it.

    Raises ValueRejected and TransactionConflict, with the transaction rolled back.
    """
    try:
        applied = apply_rows(connection, projections, batch)
        dead_letters.write(connection, batch.letters)
        with_it()
        connection.commit()
    except (ValueRejected, TransactionConflict):
        connection.rollback()
        raise
    return applied


def apply_rows(connection: Connection, projections: Sequence[Projection], batch: Batch) -> Applied:
    """Upsert a batch's rows into every table that is active or being built, within the running transaction."""
    names = [projection.name for projection in projections]
    marks = ", ".join(["%s"] * len(names))
    # The shared lock keeps a rebuild from changing the set of tables until this transaction has ended.
    tables = {
        row["name"]: row
        for row in connection.query(
            f"SELECT name, active_version, building_version FROM cqrs_projection"
            f" WHERE name IN ({marks}) ORDER BY name LOCK IN SHARE MODE",
            names,
        )
    }
    written = stale = 0
    for projection in projections:
        rows = batch.rows.get(projection.name, ())
        known = tables[projection.name]
        if known["building_version"] is not None:
            _upsert(connection, projection, known["building_version"], rows)
        done, refused = _upsert(connection, projection, known["active_version"], rows)
        written += done
        stale += refused
    return Applied(written, stale)


def _upsert(connection: Connection, projection: Projection, version: int, rows: Sequence[Row]) -> tuple[int, int]:
    written = stale = 0
    for sql, count in upserts(projection, version, rows):
        try:
            done, refused = connection.upsert(sql, count)
        except ValueRejected as rejection:
            rejection.projection = projection.name
            raise
        written += done
        stale += refused
    return written, stale


def upserts(projection: Projection, version: int, rows: Sequence[Row]) -> Iterator[tuple[str, int]]:
    """The guarded upserts of rows, each with its number of rows: an older or equal version changes nothing.

    A statement has not too many rows, and stays well below the server's max_allowed_packet (16 MB).
    """
    keys = [schema.quoted(column.name) for column in projection.keys]
    values = [schema.quoted(column.name) for column in projection.values]
    guarded = [*values, "_deleted", "_changed_at", "_applied_at", "_version"]
    # Assignments run from left to right and see the values already assigned, so _version comes last.
    assignments = ",\n    ".join(
        f"{name} = IF(VALUES(_version) > _version, VALUES({name}), {name})" for name in guarded
    )
    head = (
        f"INSERT INTO {schema.quoted(schema.physical_table(projection.name, version))}\n"
        f"    ({', '.join([*keys, *values])}, _version, _deleted, _changed_at, _applied_at)\n"
        "VALUES "
    )
    tail = f"\nON DUPLICATE KEY UPDATE\n    {assignments}"
    for chunk in _chunks(map(_cells, rows)):
        yield head + ",\n".join(chunk) + tail, len(chunk)


def _cells(row: Row) -> str:
    cells = ", ".join(map(literal, (*row.key, *row.values)))
    return f"({cells}, {row.version}, {row.deleted:d}, {_time_literal(row.changed_at)}, NOW(6))"


@lru_cache(maxsize=1_024)
def _time_literal(moment: datetime) -> str:
    """Many changes have the same time: DynamoDB rounds it to the second."""
    return literal(checkpoints.naive(moment))


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        if chunk and (len(chunk) == ROWS_A_STATEMENT or size + len(text) > _STATEMENT_CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def take_lock(connection: Connection, database: str, projections: Sequence[Projection]) -> None:
    """Take the lock of each projection, for as long as the connection lives. Raises Busy, naming the holder."""
    for projection in sorted(projections, key=lambda projection: projection.name):
        name = lock_name(database, projection.name)
        if connection.query("SELECT GET_LOCK(%s, 0) AS got", (name,))[0]["got"] != 1:
            found = connection.query("SELECT holder, beat_at FROM cqrs_heartbeat WHERE id = 1")
            who = f"{found[0]['holder']}, last seen {found[0]['beat_at']:%Y-%m-%d %H:%M:%S} UTC" if found else "unknown"
            raise Busy(
                f"Projection {projection.name} is held by another projector: {who}.",
                hint="Stop that one first. Its lock ends with its database connection.",
            )


def require_lock(connection: Connection, database: str, projections: Sequence[Projection]) -> None:
    """Raises TransientDatabaseError where a lock that was taken is not this connection's any more.

    It goes with the connection, but a proxy may have changed the server behind one.
    """
    for projection in projections:
        name = lock_name(database, projection.name)
        if connection.query("SELECT IS_USED_LOCK(%s) = CONNECTION_ID() AS held", (name,))[0]["held"] != 1:
            raise TransientDatabaseError(f"The lock of projection {projection.name} was lost.", code="lock_lost")


def lock_name(database: str, projection: str) -> str:
    """The name of a projection's advisory lock: at most 64 characters, and unique on the server."""
    digest = hashlib.sha256(f"{database}/{projection}".encode()).hexdigest()
    return f"cqrsctl/{digest[:40]}"


def holder() -> str:
    """Who this is: user, host and process."""
    return f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"
