"""ProductHandlerFunction: applies the stream's changes to the read model.

AWS keeps the position, so there are no checkpoints: what comes again, or late, meets the guard of its row. How far the
function came is written all the same, beside the rows: a stream that is new to it is a gap. What is transient is
raised, and the event source mapping sends the batch again.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cqrsctl.change import Page
from cqrsctl.errors import CqrsctlError, DatabaseError, TransactionConflict, TransientDatabaseError
from cqrsctl.functions.events import changes_of
from cqrsctl.functions.telemetry import Done
from cqrsctl.projection.recovery import Applier, OnError
from cqrsctl.read_model import function_position, heartbeat, schema
from cqrsctl.read_model.sink import connect_making_database
from cqrsctl.read_model.writing import TableWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from cqrsctl.change import ChangeRecord
    from cqrsctl.projection.batch import Applied, Batch
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.tables import Tables
    from cqrsctl.read_model.connection import Connection, Endpoint
    from cqrsctl.read_model.function_position import Gap


class Renewable(Protocol):
    """A login that may be kept."""

    def forget(self) -> None:
        """Read it again at the next connection."""


@dataclass(slots=True)
class Counts:
    """What an invocation did. `stale`: rows whose guard found the same or a newer version.

    `gaps` are those of all projections now, `gap_found` is whether this invocation marked one of them.
    """

    applied: int = 0
    stale: int = 0
    dead_lettered: int = 0
    gaps: Sequence[Gap] = ()
    gap_found: bool = False

    def count(self, batch: Batch, applied: Applied) -> None:
        """Add what one transaction did."""
        self.applied += applied.rows
        self.stale += applied.stale
        self.dead_lettered += len(batch.letters)


@dataclass(slots=True)
class _FunctionSink:
    """Applies the batches of an invocation, and writes with each how far the function came."""

    writer: TableWriter
    changes: tuple[ChangeRecord, ...]
    holder: str
    counts: Counts = field(default_factory=Counts)

    def tables(self) -> Tables:
        return self.writer.tables()

    def apply(self, batch: Batch) -> Applied:
        return self.writer.apply(batch, self._account)

    def _account(self) -> None:
        # A new stream is a gap, but what it brings is applied all the same.
        self.counts.gap_found |= function_position.write(self.writer.connection, self.changes)
        self.counts.gaps = function_position.gaps(self.writer.connection)
        heartbeat.write(self.writer.connection, self.holder)


@dataclass(slots=True)
class ProjectorFunction:
    """The function, with the connection that it keeps between invocations.

    It fills the tables of every registered projection, each as it was declared; `projections`, those of the zip, only
    say which tables to make if they are missing.
    """

    table: str
    projections: Sequence[Projection]
    endpoint: Endpoint
    login: Renewable
    now: Callable[[], datetime]
    connection: Connection | None = field(default=None, init=False)
    _prepared: bool = field(default=False, init=False)

    def __call__(self, event: Any, holder: str) -> Done:
        """Apply an event, in one transaction unless the database itself refuses a row.

        Raises EventRefused, with nothing touched; TransientDatabaseError and TransientAwsError, after which the same
        event may be sent again; DatabaseError, AwsError.
        """
        changes = changes_of(event, self.table)
        counts = self._apply(changes, holder) if changes else Counts()
        measures: dict[str, float] = {
            "Records": len(changes),
            "Applied": counts.applied,
            "Stale": counts.stale,
            "DeadLettered": counts.dead_lettered,
        }
        report: dict[str, Any] = {}
        if changes:
            newest = max(change.created_at for change in changes)
            # How far behind the read model is now that the batch stands in it: DynamoDB rounds times to the second.
            measures["LagSeconds"] = max(0.0, round((self.now() - newest).total_seconds(), 3))
        if counts.gaps:
            measures["Gaps"] = len(counts.gaps)  # until they are rebuilt
        if counts.gap_found:
            gap = function_position.error(counts.gaps)
            report = {"level": "WARNING", "code": gap.code, "message": gap.message, "hint": gap.hint}
        return Done({"batchItemFailures": []}, measures, report)

    def _apply(self, changes: tuple[ChangeRecord, ...], holder: str) -> Counts:
        """Apply once more on a new connection if a kept one broke: that it did says nothing of the server."""
        kept = self.connection is not None
        try:
            return self._apply_on_one(changes, holder)
        except TransientDatabaseError:
            if self.connection is not None or not kept:
                raise
            return self._apply_on_one(changes, holder)

    def _apply_on_one(self, changes: tuple[ChangeRecord, ...], holder: str) -> Counts:
        """Whatever was committed before an error is met again as stale."""
        connection = self._ready()
        # What is registered counts: a rebuild may have added a projection since the function was deployed.
        writer = TableWriter(connection, self.projections, others_too=True)
        sink = _FunctionSink(writer, changes, holder)
        with self._looked_after(connection):
            Applier(sink, OnError.DEAD_LETTER, sink.counts.count).apply([Page(changes)])
        return sink.counts

    @contextmanager
    def _looked_after(self, connection: Connection) -> Iterator[None]:
        """Leave a connection ready for the next transaction, or none."""
        try:
            yield
        except TransactionConflict:
            raise  # rolled back already
        except TransientDatabaseError:
            self._close(connection)
            raise
        except CqrsctlError:
            # Somebody may have changed or dropped the read model's tables, so look at them before the next batch.
            self._prepared = False
            self._roll_back(connection)
            raise
        except BaseException:
            self._close(connection)
            raise

    def _roll_back(self, connection: Connection) -> None:
        """Roll back; if that fails, close the connection: then the server rolls back."""
        try:
            connection.rollback()
        except DatabaseError:
            self._close(connection)

    def _ready(self) -> Connection:
        """The kept connection, or a new one. A refused login is read again once: it may have been changed."""
        try:
            return self._opened()
        except DatabaseError as error:
            if error.code != "database_login":
                raise
            self.login.forget()
        return self._opened()

    def _opened(self) -> Connection:
        connection = self.connection or connect_making_database(self.endpoint)
        try:
            if connection is not self.connection:
                connection.require_writable()
            if not self._prepared:
                # A rebuild may have changed the tables before the function that goes with them is deployed.
                schema.create(connection, self.projections, as_registered=True)
                self._prepared = True
        except BaseException:
            self._close(connection)
            raise
        self.connection = connection
        return connection

    def _close(self, connection: Connection) -> None:
        connection.close()
        self.connection = None
        self._prepared = False
