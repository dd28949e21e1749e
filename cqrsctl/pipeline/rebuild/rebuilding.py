"""Rebuilding a projection's table from the write model, while the old one serves.

The next table is registered as being built, so that every projector writes both; if none runs, one runs here. The
snapshot is read after that and loaded if no change has come before it. Once all changes up to the snapshot's end
are applied, the new table is nowhere older than the old one, and the view is put over it.

Killed at any moment, the same command resumes it; the account of it is in `read_model.rebuilds`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cqrsctl import retries
from cqrsctl.errors import (
    LOGIN_REFUSED,
    Busy,
    CqrsctlError,
    DatabaseError,
    StreamGap,
    TransientAwsError,
    TransientDatabaseError,
)
from cqrsctl.pipeline.change_clock import ChangeClock
from cqrsctl.pipeline.project import reads_since, require_keys
from cqrsctl.pipeline.rebuild.beginning import RebuildBeginning
from cqrsctl.pipeline.rebuild.companion import Companion
from cqrsctl.pipeline.rebuild.progress import Phase, RebuildProgress, Rebuilt, Unfit
from cqrsctl.pipeline.rebuild.snapshot import Snapshot
from cqrsctl.pipeline.rebuild.vanishing import require_no_fewer_rows
from cqrsctl.pipeline.streams import certain_tip
from cqrsctl.projection.recovery import OnError
from cqrsctl.read_model import checkpoints, dead_letters, grants, loaded_segments, rebuilds
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.rebuilds import RebuildState
from cqrsctl.read_model.sink import prepare
from cqrsctl.read_model.takeover import mark_lost
from cqrsctl.stream.unread import Asking, unread_shards
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cqrsctl.clock import Clock
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.rebuilds import Rebuild
    from cqrsctl.stream.unread import Unread
    from cqrsctl.wiring import Wiring

_PATIENCE = timedelta(minutes=5)
_LOOK_SECONDS = 0.2
_LISTING_SECONDS = 2.0
"""A look at the stream lists all shards, as the projector does meanwhile: AWS takes ten such calls a second."""
_MOST_PROBES = 16
_SERVER_TIME_ERROR = timedelta(seconds=2)
"""Times of records are rounded to the second, and so is the server's."""
_STREAM_DELAY = timedelta(seconds=5)
"""A change may come into the stream a little after it can be read from the table."""


@dataclass(slots=True)
class Rebuilding:
    """Rebuilds one projection. `may_shrink`: whether the view may show fewer rows afterwards."""

    wiring: Wiring
    projection: Projection
    clock: Clock
    progress: Callable[[RebuildProgress], None]
    notice: Callable[[str], None]
    read_capacity: float | None = None
    unfit: Unfit = Unfit.STOP
    may_shrink: bool = True
    _done: RebuildProgress = field(init=False)
    _begun_at: float = field(init=False)
    _deadline: datetime | None = field(default=None, init=False)
    """When hiccups of the database are not waited out any more; None before anything was begun."""
    _began_again: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._done = RebuildProgress(self.projection.name)
        self._begun_at = self.clock.monotonic()

    def run(self, *, undo: bool = False) -> Rebuilt:
        """Rebuild, or resume a rebuild; with `undo` bring back the table from before the last one.

        Raises Busy while another one rebuilds, BadItems and BadRecord if something does not fit, StreamGap if
        the rebuild itself fell behind for longer than the stream keeps changes, RowsWouldVanish just before the
        cutover unless it `may_shrink`, AwsError, DatabaseError.
        """
        again = retries.of_hiccups(self._is_hiccup, lambda: self._deadline, self.clock, self.notice)
        return again(self._attempt, undo)

    def _is_hiccup(self, error: BaseException) -> bool:
        """After a cut connection the lock may be held by our own, which the server has not ended yet."""
        if self._deadline is None:
            return False
        passes = isinstance(error, DatabaseError) and error.code == LOGIN_REFUSED  # passwords rotate meanwhile
        return passes or isinstance(error, (TransientDatabaseError, TransientAwsError, Busy))

    def _attempt(self, undo: bool) -> Rebuilt:
        described = table.describe(self.wiring.dynamodb, self.wiring.environment.table)
        stream_arn = table.require_stream(described)
        require_keys([self.projection], described)
        self._done.about = described.items
        endpoint = self.wiring.servers.refresh().writer
        prepare(endpoint, [])
        with connect(endpoint, bulk=True) as connection:
            connection.require_writable()
            rebuilds.limit_lock_waits(connection, rebuilds.VIEW_LOCK_SECONDS)
            rebuilds.take_lock(connection, endpoint.database, self.projection.name)
            grants.require(connection, endpoint.database)
            mark_lost(
                connection,
                stream_arn,
                {self.projection.name},
                lambda: reads_since(self.wiring, stream_arn),
            )
            beginning = RebuildBeginning(
                connection,
                endpoint.database,
                self.projection,
                stream_arn,
                undo,
                self.clock.sleep,
                self.notice,
                self._change_clock.next_time,
                stream_has_all=described.recorded_since(self.clock.now()) is None,
            )
            while True:
                rebuild = beginning.rebuild()
                self._done.items = self._done.resumed = loaded_segments.items(connection, self.projection.name)
                self._progressed()
                try:
                    return self._built(connection, rebuild)
                except StreamGap as gap:
                    rebuilds.abandon(connection, rebuild)
                    if undo or self._began_again:
                        raise
                    self._began_again = True
                    self.notice(f"{gap} The rebuild begins again.")

    @property
    def _change_clock(self) -> ChangeClock:
        return ChangeClock(self.wiring, self.clock.now)

    def _wait_for_floor(self, floor: datetime | None, connection: Connection, companion: Companion) -> None:
        """Wait until every change from before the floor is in the table, and so in a scan that begins then."""
        if floor is not None:
            self._until(lambda: self._change_clock.is_past(floor), connection, companion)

    def _built(self, connection: Connection, rebuild: Rebuild) -> Rebuilt:
        on_error = OnError.STOP if self.unfit is Unfit.STOP else OnError.DEAD_LETTER
        projection = rebuild.former.projection if rebuild.undoing else self.projection
        companion = Companion(self.wiring, projection, rebuild.stream_arn, on_error, self.notice)
        again = retries.of_transactions(self.clock.sleep)
        if rebuild.state is not RebuildState.CUTOVER:
            with companion.running():
                self._until(
                    lambda: checkpoints.has_any(connection, projection.name, rebuild.stream_arn), connection, companion
                )
                if rebuild.state is RebuildState.LOADING:
                    self._wait_for_floor(rebuild.table.since, connection, companion)
                    self._load(connection, rebuild, companion)
                    again(rebuilds.mark_loaded, connection, rebuild)
                    self._progressed()
                self._catch_up(connection, rebuild, companion)
                self._require_whole(connection, rebuild)
                if not self.may_shrink:
                    require_no_fewer_rows(connection, rebuild)
                self._report(Phase.CUTOVER)
        again(rebuilds.cut_over, connection, rebuild)
        self._report(Phase.CUTOVER)
        return Rebuilt(
            self._done,
            rebuild.table.name,
            rebuild.former.name,
            undone=rebuild.undoing,
            can_undo=rebuilds.way_back(connection, projection.name) is not None,
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
            self._progressed()
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
        server_time = table.server_time(self.wiring.dynamodb, self.wiring.environment.table)
        until = (server_time or self.clock.now()) + _SERVER_TIME_ERROR
        embedded = self.wiring.environment.embedded
        all_there = self.clock.now() + (timedelta(0) if embedded else _STREAM_DELAY)

        def unread() -> Unread:
            following = checkpoints.read(connection, [rebuild.table.projection], rebuild.stream_arn)
            return unread_shards(asking, rebuild.stream_arn, following)

        def reached() -> bool:
            self._report(Phase.CATCHING_UP)
            is_all_there = self.clock.now() >= all_there
            deadline = self.clock.now() + _PATIENCE
            look = retries.of_hiccups(
                lambda error: isinstance(error, TransientAwsError), lambda: deadline, self.clock, self.notice
            )
            found = look(unread)
            read = all(change.created_at > until if change else is_all_there for change in found.first.values())
            return read and not found.childless

        with ThreadPoolExecutor(_MOST_PROBES, thread_name_prefix="probe") as executor:
            asking = Asking(self.wiring.streams, executor, self.clock, certain_tip(self.wiring))
            self._until(reached, connection, companion, _LOOK_SECONDS if embedded else _LISTING_SECONDS)

    def _require_whole(self, connection: Connection, rebuild: Rebuild) -> None:
        """Raises CqrsctlError if changes are set aside, StreamGap if the table's stream is another one now."""
        name = rebuild.table.projection.name
        letters = dead_letters.count(connection, name, since=rebuild.begun_at)
        if letters and self.unfit is Unfit.STOP:
            raise CqrsctlError(
                f"{letters} changes did not fit projection {name} while it was rebuilt; the old table serves on.",
                hint="See them with `cqrsctl dead-letter list`, retry or discard them, then `cqrsctl rebuild` resumes; "
                "or leave them out with --on-error skip.",
                code="bad_record",
            )
        now = table.describe(self.wiring.dynamodb, self.wiring.environment.table).stream_arn
        if now != rebuild.stream_arn:
            raise StreamGap(f"The table's stream is {now} now, no longer {rebuild.stream_arn}.")

    def _until(
        self,
        reached: Callable[[], bool],
        connection: Connection,
        companion: Companion,
        pause_seconds: float = _LOOK_SECONDS,
    ) -> None:
        while not reached():
            self._watch(connection, companion)
            self.clock.sleep(pause_seconds)

    def _watch(self, connection: Connection, companion: Companion) -> None:
        """Raises what ends a rebuild while it waits or loads; asking for the lock keeps the connection alive, too."""
        companion.check()
        rebuilds.require_lock(connection, self.wiring.environment.database.name, self.projection.name)
        self._progressed()

    def _progressed(self) -> None:
        self._deadline = self.clock.now() + _PATIENCE

    def _report(self, phase: Phase) -> None:
        self._done.phase = phase
        self._done.seconds = self.clock.monotonic() - self._begun_at
        self.progress(self._done)


def with_gap(wiring: Wiring, projections: Sequence[Projection]) -> list[Projection]:
    """The projections that lost changes, as one may while another is rebuilt. Raises AwsError, DatabaseError."""
    stream_arn = table.require_stream(table.describe(wiring.dynamodb, wiring.environment.table))
    with connect(wiring.servers.refresh().writer) as connection:
        return [each for each in projections if checkpoints.are_lost(connection, each.name, stream_arn)]


def rebuild_all(
    projections: Sequence[Projection],
    rebuild: Callable[[Projection], Rebuilt],
    lost: Callable[[], list[Projection]],
    *,
    again: bool = True,
) -> list[Rebuilt]:
    """Rebuild one projection after the other; those that lost changes meanwhile once more, if that is possible.

    `again` False: an undo of what was just undone would lead back. Raises StreamGap if one has a gap even then, and
    what `rebuild` raises.
    """
    done = {each.name: rebuild(each) for each in projections}
    for each in lost() if again else ():
        done[each.name] = rebuild(each)
    if still := lost():
        names = frozenset(each.name for each in still)
        second = ", also at the second try" if again else ""
        raise StreamGap(
            f"Changes left the stream before they came into {', '.join(sorted(names))}{second}.",
            followers=names,
        )
    return list(done.values())


def discard(wiring: Wiring, projection: Projection) -> str | None:
    """Abandon a rebuild that is under way; the name of its table, None if there is none.

    Raises Busy while it runs, CqrsctlError if its cutover has begun.
    """
    endpoint = wiring.servers.refresh().writer
    try:
        with connect(endpoint, bulk=True) as connection:
            connection.require_writable()
            rebuilds.limit_lock_waits(connection, rebuilds.VIEW_LOCK_SECONDS)
            rebuilds.take_lock(connection, endpoint.database, projection.name)
            found = rebuilds.under_way(connection, projection.name)
            if found is not None:
                rebuilds.abandon(connection, found)
    except ReadModelMissing:
        return None
    return found.table.name if found else None
