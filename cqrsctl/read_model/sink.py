"""The sink: applies a batch to the read model in one transaction, rows and checkpoints together."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from cqrsctl.account import account
from cqrsctl.change import ShardState
from cqrsctl.errors import Busy, TablesChanged, TransactionConflict, ValueRejected
from cqrsctl.read_model import checkpoints, heartbeat, locks, schema
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.takeover import take_over
from cqrsctl.read_model.writing import TableWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from cqrsctl.change import Followers, Position
    from cqrsctl.projection.batch import Applied, Batch
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.tables import Tables
    from cqrsctl.read_model.connection import Connection, Endpoint

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
        reads_since: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        """`find_writer` is asked at each opening: after a failover the writer is another server.

        `beside_function`: a Lambda function projects this stream as well, and AWS keeps its position. Where it was the
        last to project, the checkpoints are older than the read model: then reading starts over at the horizon, and
        what the function applied is stale. `reads_since`: since when it has been reading the stream without a problem;
        asked if it handled nothing for so long that changes may be lost.
        """
        self._beside_function = beside_function
        self._reads_since = reads_since
        self._find_writer = find_writer
        self._database = ""
        self._projections = projections
        self._stream_arn = stream_arn
        self._monotonic = monotonic
        self._followers: dict[str, dict[str, Position]] = {}
        self._open: TableWriter | None = None
        self._beat_due = 0.0

    def open(self) -> Followers:
        """Connect, make what is missing of the read model, take the lock, read the checkpoints.

        Raises Busy if another projector holds the read model, StreamGap, DatabaseError.
        """
        self.close()
        writer = self._find_writer()
        self._database = writer.database
        self._open = TableWriter(connect_making_database(writer), self._projections)
        try:
            self._take(self._connection)
        except BaseException:
            self.close()
            raise
        return {name: dict(positions) for name, positions in self._followers.items()}

    def _take(self, connection: Connection) -> None:
        connection.require_writable()
        schema.create(connection, self._projections)
        take_lock(connection, self._database, self._projections)
        locks.sign(connection, [projection.name for projection in self._projections], holder())
        take_over(
            connection,
            self._stream_arn,
            {projection.name for projection in self._projections},
            beside_function=self._beside_function,
            reads_since=self._reads_since,
        )
        self._write_beat()
        checkpoints.forget_finished(connection, self._stream_arn)
        self._beside_function = False
        self._followers = checkpoints.read(connection, self._projections, self._stream_arn)

    def tables(self) -> Tables:
        """The tables that changes become rows of, as they were last seen."""
        return self._writer.tables()

    def apply(self, batch: Batch) -> Applied:
        """Apply a batch: all of it, or nothing.

        Raises ValueRejected, TransactionConflict and TablesChanged, after which the connection is still good; and
        TransientDatabaseError, DatabaseError.
        """
        connection, moved = self._connection, self._moved(batch.positions)

        def with_positions() -> None:
            for name, position in self._ended_gaps(moved):
                checkpoints.end_gap(connection, name, self._stream_arn, position.shard_id)
            checkpoints.write(connection, self._stream_arn, moved)
            self._write_beat()
            require_lock(connection, self._database, self._projections)

        try:
            applied = self._writer.apply(batch, with_positions)
        except (ValueRejected, TransactionConflict, TablesChanged):
            raise
        except BaseException:
            # Whatever was under way ends with its connection; the checkpoint says how far it came.
            self.close()
            raise
        self._remember(moved)
        return applied

    def _moved(self, positions: Sequence[Position]) -> dict[str, list[Position]]:
        """The positions that each projection moves to; one that is further in a shard stays there."""
        return {
            name: [each for each in positions if each.unless_further(known.get(each.shard_id)) is each]
            for name, known in self._followers.items()
        }

    def _ended_gaps(self, moved: Mapping[str, Sequence[Position]]) -> list[tuple[str, Position]]:
        """Positions that resume from what was marked as a gap, and turned out to be none."""
        return [
            (name, position)
            for name, positions in moved.items()
            for position in positions
            if (known := self._followers[name].get(position.shard_id)) and known.state is ShardState.GAP
        ]

    def _remember(self, moved: Mapping[str, Sequence[Position]]) -> None:
        for name, positions in moved.items():
            self._followers[name].update({position.shard_id: position for position in positions})

    def beat(self) -> None:
        """Write the heartbeat, if the last is older than a few seconds."""
        if self._monotonic() >= self._beat_due:
            self._write_beat()
            self._connection.commit()

    def mark_gap(self, position: Position, followers: Collection[str]) -> None:
        """Mark the checkpoints of projections in a shard as a gap, for good; if none is named, of all."""
        lost = {
            name: [replace(known.get(position.shard_id, position), state=ShardState.GAP)]
            for name, known in self._followers.items()
            if name in followers or not followers
        }
        checkpoints.write(self._connection, self._stream_arn, lost)
        self._connection.commit()
        self._remember(lost)

    def close(self) -> None:
        """Close the connection; the lock goes with it."""
        if self._open:
            self._open.connection.close()
        self._open = None

    @property
    def _writer(self) -> TableWriter:
        if self._open is None:
            raise AssertionError("open() comes first")
        return self._open

    @property
    def _connection(self) -> Connection:
        return self._writer.connection

    def _write_beat(self) -> None:
        heartbeat.write(self._connection, holder())
        self._beat_due = self._monotonic() + BEAT_SECONDS


def prepare(endpoint: Endpoint, projections: Sequence[Projection], *, as_registered: bool = False) -> list[str]:
    """Make the database, tables and views that are missing; the names of the views made.

    Raises DatabaseError if tables were made from another declaration, unless they are taken `as_registered`.
    """
    with connect_making_database(endpoint) as connection:
        return schema.create(connection, projections, as_registered=as_registered)


def connect_making_database(endpoint: Endpoint) -> Connection:
    """Connect; the database is made if it is missing."""
    try:
        return connect(endpoint)
    except ReadModelMissing:
        with connect(endpoint, with_database=False) as server:
            schema.create_database(server, endpoint.database)
        return connect(endpoint)


def drop(endpoint: Endpoint, projections: Sequence[Projection]) -> list[str]:
    """Drop tables, views and checkpoints; the names of the tables. Raises Busy while a projector runs."""
    with connect(endpoint) as connection:
        take_lock(connection, endpoint.database, projections)
        return schema.drop(connection, projections)


def take_lock(connection: Connection, database: str, projections: Sequence[Projection]) -> None:
    """Take the lock of each projection, for as long as the connection lives. Raises Busy, naming the holder."""
    for projection in sorted(projections, key=lambda projection: projection.name):
        if not locks.take(connection, locks.of_projector(database, projection.name)):
            raise Busy(
                f"Projection {projection.name} is held by another projector: "
                f"{locks.holder(connection, projection.name)}.",
                hint="Stop that one first. Its lock ends with its database connection.",
                projection=projection.name,
            )


def release_lock(connection: Connection, database: str, projections: Sequence[Projection]) -> None:
    """Give the locks back before the connection ends."""
    for projection in projections:
        locks.release(connection, locks.of_projector(database, projection.name))


def require_lock(connection: Connection, database: str, projections: Sequence[Projection]) -> None:
    """Raises TransientDatabaseError if the lock of a projection is no longer this connection's."""
    names = [projection.name for projection in projections]
    locks.require(connection, {locks.of_projector(database, name): f"projection {name}" for name in names})


def holder() -> str:
    """Who this is: user, host and process."""
    return f"{account()}@{socket.gethostname()}, process {os.getpid()}"
