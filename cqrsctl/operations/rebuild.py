"""Rebuilding a projection's table from the write model, while the old one serves.

The next table is registered as being built, so that every projector writes both; where none runs, one runs here. The
snapshot is read after that and loaded where no change has come before it. Once all changes up to the snapshot's end
are applied, the new table is nowhere older than the old one, and the view is put over it.

Killed at any moment, the same command goes on; the account of it is in `read_model.rebuilds`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from tenacity import Retrying, retry_if_exception, wait_random_exponential

from cqrsctl.errors import Busy, CqrsctlError, StreamGap, TransientDatabaseError
from cqrsctl.operations.companion import Companion
from cqrsctl.operations.project import require_keys
from cqrsctl.operations.snapshot import SEGMENTS, Snapshot
from cqrsctl.projection.projector import rerunning
from cqrsctl.projection.recovery import OnError
from cqrsctl.read_model import checkpoints, dead_letters, rebuilds, schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.rebuilds import State
from cqrsctl.read_model.sink import prepare, release_lock, take_lock
from cqrsctl.stream.unread import unread_shards
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.rebuilds import Rebuild
    from cqrsctl.wiring import SystemClock, Wiring

_PATIENCE = timedelta(minutes=5)
_LOOK_SECONDS = 0.2
_MOST_PROBES = 16
_SERVER_TIME_ERROR = timedelta(seconds=2)
"""Times of records are rounded to the second, and so is the one that the server tells."""
_STREAM_DELAY = timedelta(seconds=5)
"""A change may come into the stream a little after it can be read from the table."""
_METADATA_LOCK_SECONDS = 3
"""So long a change of the view waits for queries under way, and new ones wait behind it; then it is tried again."""


class Unfit(StrEnum):
    """What to do with what does not fit the columns."""

    STOP = "stop"
    SKIP = "skip"


class Phase(StrEnum):
    """What a rebuild is at."""

    LOADING = "loading"
    CATCHING_UP = "catching up"
    CUTOVER = "cutover"


@dataclass(slots=True)
class Progress:
    """How far a rebuild is. `about`: how many items the table has, as AWS last counted; `resumed`: loaded before."""

    projection: str
    phase: Phase = Phase.LOADING
    items: int = 0
    about: int = 0
    resumed: int = 0
    left_out: int = 0
    seconds: float = 0.0
    loading_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Items loaded a second, by this run."""
        return (self.items - self.resumed) / self.loading_seconds if self.loading_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuild that came to its end: the view shows `table` now, `former` is kept for the way back."""

    progress: Progress
    table: str
    former: str
    undone: bool
    changed: bool
    """Whether the table is declared otherwise than the former one."""
    projected: bool
    """Whether the rebuild projected itself, so that nobody may be doing it now."""


@dataclass(slots=True)
class Rebuilding:
    """Rebuilds one projection."""

    wiring: Wiring
    projection: Projection
    clock: SystemClock
    progress: Callable[[Progress], None]
    notice: Callable[[str], None]
    read_capacity: float | None = None
    unfit: Unfit = Unfit.STOP
    _done: Progress = field(init=False)
    _begun_at: float = field(init=False)
    _give_up_at: datetime | None = field(default=None, init=False)
    """When hiccups of the database are not waited out any more; None before anything was begun."""
    _began_anew: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._done = Progress(self.projection.name)
        self._begun_at = self.clock.monotonic()

    def run(self, *, undo: bool = False) -> Rebuilt:
        """Rebuild, or go on with a rebuild; with `undo` bring back the table from before the last one.

        Raises Busy while another one rebuilds, BadItems and BadRecord where something does not fit, StreamGap where
        the rebuild itself fell behind for longer than the stream keeps changes, AwsError, DatabaseError.
        """
        retrying = Retrying(
            retry=retry_if_exception(self._is_hiccup),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            stop=lambda _: self._give_up_at is None or self.clock.now() > self._give_up_at,
            sleep=self.clock.sleep,
            before_sleep=lambda state: self.notice(f"{state.outcome and state.outcome.exception()} Trying again."),
            reraise=True,
        )
        return retrying(self._attempt, undo)

    def _is_hiccup(self, error: BaseException) -> bool:
        """After a cut connection the lock may be held by our own, which the server has not given up yet."""
        return self._give_up_at is not None and isinstance(error, (TransientDatabaseError, Busy))

    def _attempt(self, undo: bool) -> Rebuilt:
        described = table.describe(self.wiring.dynamodb, self.wiring.environment.table)
        stream_arn = table.require_stream(described)
        require_keys([self.projection], described)
        self._done.about = described.items
        endpoint = self.wiring.servers.anew().writer
        prepare(endpoint, [])
        with connect(endpoint, bulk=True) as connection:
            connection.require_writable()
            connection.execute(f"SET SESSION lock_wait_timeout = {_METADATA_LOCK_SECONDS}")
            rebuilds.take_lock(connection, endpoint.database, self.projection.name)
            while True:
                rebuild = self._begun(connection, stream_arn, undo=undo)
                self._got_on()
                try:
                    return self._built(connection, rebuild)
                except StreamGap as gap:
                    rebuilds.give_up(connection, rebuild)
                    if undo or self._began_anew:
                        raise
                    self._began_anew = True
                    self.notice(f"{gap} The rebuild begins anew.")

    def _begun(self, connection: Connection, stream_arn: str, *, undo: bool) -> Rebuild:
        """The rebuild that is under way, if it is the one that is asked for, or a new one."""
        again = rerunning(self.clock.sleep, lambda: False)
        name = self.projection.name
        found = rebuilds.under_way(connection, name)
        if found is not None and found.state is State.CUTOVER and not self._is_asked_for(found, stream_arn, undo=undo):
            self.notice(f"The cutover to table {found.table.name} was cut short: it is finished first.")
            again(rebuilds.cut_over, connection, found)
            found = None
        if found is not None and found.undoing != undo:
            raise Busy(
                f"{'An undo' if found.undoing else 'A rebuild'} of projection {name} is under way.",
                hint=f"Finish it with `cqrsctl rebuild{' --undo' if found.undoing else ''}`, or give it up with "
                "`cqrsctl rebuild --discard`.",
            )
        if found is not None and not undo and (reason := self._unusable(connection, found, stream_arn)):
            self.notice(f"A rebuild is under way, but {reason}: it begins anew.")
            again(rebuilds.give_up, connection, found)
            found = None
        if found is not None:
            self._done.items = self._done.resumed = sum(s.items for s in rebuilds.segments(connection, name))
            self.notice(f"A rebuild is under way: it goes on with table {found.table.name}.")
            return found
        if undo:
            return self._begun_undo(connection, stream_arn)
        self._done.items = self._done.resumed = 0
        schema.create_missing(connection, self.projection)
        return again(rebuilds.begin, connection, self.projection, stream_arn, SEGMENTS)

    def _is_asked_for(self, found: Rebuild, stream_arn: str, *, undo: bool) -> bool:
        """Whether a rebuild leads where this one is to lead."""
        return (
            found.undoing == undo
            and found.stream_arn == stream_arn
            and (undo or found.table.projection == self.projection)
        )

    def _begun_undo(self, connection: Connection, stream_arn: str) -> Rebuild:
        """Nobody projects at that moment: a running projector would not notice that its checkpoints went back."""
        database = self.wiring.environment.database.name
        take_lock(connection, database, [self.projection])
        try:
            return rebuilds.begin_undo(connection, self.projection.name, stream_arn)
        finally:
            release_lock(connection, database, [self.projection])

    def _unusable(self, connection: Connection, found: Rebuild, stream_arn: str) -> str | None:
        """Why a rebuild that is under way cannot be gone on with."""
        if found.state is State.CUTOVER:
            return None
        if found.table.projection != self.projection:
            return "of another declaration"
        if found.stream_arn != stream_arn:
            return "of another stream"
        if checkpoints.are_lost(connection, self.projection.name, stream_arn):
            return "changes left the stream before they came into its table"
        return None

    def _built(self, connection: Connection, rebuild: Rebuild) -> Rebuilt:
        on_error = OnError.STOP if self.unfit is Unfit.STOP else OnError.DEAD_LETTER
        projection = rebuild.former.projection if rebuild.undoing else self.projection
        companion = Companion(self.wiring, projection, on_error, self.notice)
        again = rerunning(self.clock.sleep, lambda: False)
        if rebuild.state is not State.CUTOVER:
            with companion.running():
                self._until(
                    lambda: checkpoints.has_any(connection, projection.name, rebuild.stream_arn), connection, companion
                )
                if rebuild.state is State.LOADING:
                    self._load(connection, rebuild, companion)
                    again(rebuilds.mark_loaded, connection, rebuild)
                self._catch_up(connection, rebuild, companion)
                self._require_whole(connection, rebuild)
                self._report(Phase.CUTOVER)
                again(rebuilds.cut_over, connection, rebuild)
        else:
            again(rebuilds.cut_over, connection, rebuild)
        self._report(Phase.CUTOVER)
        return Rebuilt(
            self._done,
            rebuild.table.name,
            rebuild.former.name,
            undone=rebuild.undoing,
            changed=rebuild.table.projection != rebuild.former.projection,
            projected=companion.projects,
        )

    def _load(self, connection: Connection, rebuild: Rebuild, companion: Companion) -> None:
        self._report(Phase.LOADING)
        begun = self.clock.monotonic()

        def loaded(items: int, unfit: int) -> None:
            self._done.items += items
            self._done.left_out += unfit
            self._done.loading_seconds = self.clock.monotonic() - begun
            self._got_on()
            self._report(Phase.LOADING)

        Snapshot(
            wiring=self.wiring,
            connection=connection,
            rebuild=rebuild,
            clock=self.clock,
            read_capacity=self.read_capacity,
            skip_unfit=self.unfit is Unfit.SKIP,
            loaded=loaded,
            watch=lambda: self._watch(connection, companion),
        ).load()

    def _catch_up(self, connection: Connection, rebuild: Rebuild, companion: Companion) -> None:
        """Wait until every change that is older than the end of the snapshot is applied."""
        told = table.server_time(self.wiring.dynamodb, self.wiring.environment.table)
        until = (told or self.clock.now()) + _SERVER_TIME_ERROR
        all_there = self.clock.now() + (timedelta(0) if self.wiring.environment.embedded else _STREAM_DELAY)

        def reached() -> bool:
            self._report(Phase.CATCHING_UP)
            positions = checkpoints.read(connection, [rebuild.table.projection], rebuild.stream_arn)
            is_all_there = self.clock.now() >= all_there
            unread = unread_shards(self.wiring.streams, rebuild.stream_arn, positions, executor)
            return all(change.created_at > until if change else is_all_there for change in unread.values())

        with ThreadPoolExecutor(_MOST_PROBES, thread_name_prefix="probe") as executor:
            self._until(reached, connection, companion)

    def _require_whole(self, connection: Connection, rebuild: Rebuild) -> None:
        """Raises CqrsctlError where changes are set aside, StreamGap where the table's stream is another one now."""
        name = rebuild.table.projection.name
        letters = dead_letters.count(connection, name, since=rebuild.begun_at)
        if letters and self.unfit is Unfit.STOP:
            raise CqrsctlError(
                f"{letters} changes did not fit projection {name} while it was rebuilt; the old table serves on.",
                hint="See them with `cqrsctl dead-letter list`, retry or discard them, then `cqrsctl rebuild` goes on; "
                "or go on without them: --on-error skip.",
                code="bad_record",
            )
        now = table.describe(self.wiring.dynamodb, self.wiring.environment.table).stream_arn
        if now != rebuild.stream_arn:
            raise StreamGap(f"The table's stream is {now} now, no longer {rebuild.stream_arn}.")

    def _until(self, reached: Callable[[], bool], connection: Connection, companion: Companion) -> None:
        while not reached():
            self._watch(connection, companion)
            self.clock.sleep(_LOOK_SECONDS)

    def _watch(self, connection: Connection, companion: Companion) -> None:
        """Raises what ends a rebuild while it waits or loads; asking for the lock keeps the connection alive, too."""
        companion.check()
        rebuilds.require_lock(connection, self.wiring.environment.database.name, self.projection.name)

    def _got_on(self) -> None:
        self._give_up_at = self.clock.now() + _PATIENCE

    def _report(self, phase: Phase) -> None:
        self._done.phase = phase
        self._done.seconds = self.clock.monotonic() - self._begun_at
        self.progress(self._done)


def discard(wiring: Wiring, projection: Projection) -> str | None:
    """Give up a rebuild that is under way; the name of its table, None where there is none.

    Raises Busy while it runs, CqrsctlError where its cutover has begun.
    """
    endpoint = wiring.servers.anew().writer
    with connect(endpoint, bulk=True) as connection:
        rebuilds.take_lock(connection, endpoint.database, projection.name)
        found = rebuilds.under_way(connection, projection.name)
        if found is None:
            return None
        rebuilds.give_up(connection, found)
        return found.table.name
