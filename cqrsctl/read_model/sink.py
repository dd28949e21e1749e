"""The sink: applies a batch to the read model in one transaction, rows and checkpoints together."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cqrsctl.change import ShardState
from cqrsctl.errors import Busy
from cqrsctl.projection.batch import Applied
from cqrsctl.read_model import checkpoints, schema
from cqrsctl.read_model.connection import ReadModelMissing, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
        endpoint: Endpoint,
        projections: Sequence[Projection],
        stream_arn: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
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
        prepare(self._endpoint, self._projections)
        self._open = connect(self._endpoint)
        take_lock(self._open, self._endpoint.database, self._projections)
        self._write_beat()
        checkpoints.forget_finished(self._open, self._stream_arn)
        return checkpoints.read(self._open, self._projections, self._stream_arn)

    def apply(self, batch: Batch) -> Applied:
        """Apply a batch: all of it, or nothing. Raises TransientDatabaseError, DatabaseError."""
        connection = self._connection
        try:
            applied = apply_rows(connection, self._projections, batch)
            checkpoints.write(connection, self._projections, self._stream_arn, batch.positions)
            self._write_beat()
            connection.commit()
        except BaseException:
            # Whatever was under way is given up with its connection; the checkpoint tells how far it came.
            self.close()
            raise
        return applied

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
        self._connection.execute(
            "INSERT INTO cqrs_heartbeat (id, beat_at, holder) VALUES (1, NOW(6), %s)"
            " ON DUPLICATE KEY UPDATE beat_at = VALUES(beat_at), holder = VALUES(holder)",
            (holder(),),
        )
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
    for chunk in _chunks(rows):
        parameters: list[Any] = []
        for row in chunk:
            parameters += (*row.key, *row.values, row.version, row.deleted, checkpoints.naive(row.changed_at))
        done, refused = connection.upsert(upsert_sql(projection, version, len(chunk)), parameters, len(chunk))
        written += done
        stale += refused
    return written, stale


def _chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows for one statement each: not too many, and well below the server's max_allowed_packet (16 MB)."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        weight = sum(len(value) for value in (*row.key, *row.values) if isinstance(value, (str, bytes)))
        if chunk and (len(chunk) == ROWS_A_STATEMENT or size + weight > _STATEMENT_CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += weight
    if chunk:
        yield chunk


def upsert_sql(projection: Projection, version: int, rows: int) -> str:
    """The guarded upsert of so many rows: an older or equal version changes nothing.

    Assignments run from left to right and see the values already assigned, so _version comes last.
    """
    keys = [schema.quoted(column.name) for column in projection.keys]
    values = [schema.quoted(column.name) for column in projection.values]
    guarded = [*values, "_deleted", "_changed_at", "_applied_at", "_version"]
    assignments = ",\n    ".join(
        f"{name} = IF(VALUES(_version) > _version, VALUES({name}), {name})" for name in guarded
    )
    marks = "(" + ", ".join(["%s"] * (len(projection.columns) + 3)) + ", NOW(6))"
    return (
        f"INSERT INTO {schema.quoted(schema.physical_table(projection.name, version))}\n"
        f"    ({', '.join([*keys, *values])}, _version, _deleted, _changed_at, _applied_at)\n"
        f"VALUES {', '.join([marks] * rows)}\n"
        f"ON DUPLICATE KEY UPDATE\n    {assignments}"
    )


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


def lock_name(database: str, projection: str) -> str:
    """The name of a projection's advisory lock: at most 64 characters, and unique on the server."""
    digest = hashlib.sha256(f"{database}/{projection}".encode()).hexdigest()
    return f"cqrsctl/{digest[:40]}"


def holder() -> str:
    """Who this is: user, host and process."""
    return f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"
