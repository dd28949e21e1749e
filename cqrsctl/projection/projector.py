"""The projector: takes pages from a source and applies them to a sink, exactly once and in order.

What it is given: a sink (the read model's database), which holds the checkpoints, and a way to open a source (the
stream) at checkpoints. After anything that leaves a transaction's outcome in doubt it opens both again, at the
checkpoints that the sink holds then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from cqrsctl import retries
from cqrsctl.errors import (
    BAD_CREDENTIALS,
    LOGIN_REFUSED,
    AwsError,
    Busy,
    ConfigurationError,
    DatabaseError,
    Interrupted,
    StreamGap,
    TransientDatabaseError,
)
from cqrsctl.projection.batch import Applied
from cqrsctl.projection.recovery import Applier, BatchSink, OnError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from tenacity import Retrying

    from cqrsctl.change import Checkpoints, Followers, Page, Position
    from cqrsctl.clock import Clock
    from cqrsctl.projection.batch import Batch

_PATIENCE = timedelta(minutes=5)
"""How long the database may stay away, from the first hiccup after a session that went well."""
_WELL = timedelta(minutes=1)
"""A session without a change to apply went well if it followed for this long."""
_HICCUPS = (TransientDatabaseError, Busy)
"""After a cut connection the lock may be held by our own, which the server has not ended yet."""


class Source(Protocol):
    """Where pages come from."""

    @property
    def caught_up(self) -> bool:
        """Whether nothing more is there to be taken now."""

    @property
    def shards_under_way(self) -> int:
        """How many shards are being read."""

    def take(self) -> list[Page]:
        """The pages that are there, at most one a shard. Raises StreamGap."""


class Sink(BatchSink, Protocol):
    """The read model, as the projector needs it. Any method may raise TransientDatabaseError."""

    def open(self) -> Followers:
        """Connect, take the projector's lock, read each projection's checkpoints. Raises Busy, StreamGap."""

    def beat(self) -> None:
        """Record in the database, now and then, that the projector lives."""

    def mark_gap(self, position: Position, followers: Collection[str]) -> None:
        """Remember for good that a shard's changes were lost to some projections; if none is named, to all."""

    def close(self) -> None:
        """Let go of lock and connection."""


@dataclass(slots=True)
class Summary:
    """What a run did so far.

    `lag_seconds`: now minus the creation of the oldest change not yet applied; 0 at the tip, None while it is unknown.
    """

    changes: int = 0
    rows: int = 0
    stale: int = 0
    dead_lettered: int = 0
    shards: int = 0
    lag_seconds: float | None = None
    caught_up: bool = False

    def count(self, batch: Batch, applied: Applied) -> None:
        """Add what one transaction did."""
        self.changes += batch.changes
        self.rows += applied.rows
        self.stale += applied.stale
        self.dead_lettered += len(batch.letters)


@dataclass(slots=True)
class Projector:
    """Runs projections of one stream until stopped, or until caught up."""

    sink: Sink
    open_source: Callable[[Followers], Source]
    clock: Clock
    progress: Callable[[Summary], None]
    notice: Callable[[str], None]
    on_error: OnError = OnError.STOP
    summary: Summary = field(default_factory=Summary)
    _was_open: bool = False
    _deadline: datetime | None = None
    """When the patience with the database ends; None before its first hiccup."""
    _followed: timedelta = timedelta(0)
    """How long the running session has followed its source without an error."""

    def run(self, *, once: bool, stopped: Callable[[], bool]) -> Summary:
        """Project until `stopped`; with `once`, until every shard is caught up.

        Raises BadRecord, StreamGap, Busy, AwsError, and DatabaseError if the database stays away too long.
        """
        again = retries.of_transactions(self.clock.sleep, stopped)
        applier = Applier(self.sink, self.on_error, self.summary.count, again)
        try:
            while not self._retrying(stopped)(self._session, applier, once, stopped):
                pass
        except (*_HICCUPS, Interrupted) as error:
            if not stopped():
                raise
            if not self._was_open:
                raise Interrupted(who="the database") from error
        finally:
            self.sink.close()
        return self.summary

    def _retrying(self, stopped: Callable[[], bool]) -> Retrying:
        return retries.of_hiccups(self._is_hiccup, lambda: self._deadline, self.clock, self.notice, stopped)

    def _is_hiccup(self, error: BaseException) -> bool:
        """A database that did not answer at the start is reported at once: more likely a setting is wrong."""
        return self._was_open and isinstance(error, _HICCUPS)

    def _session(self, applier: Applier, once: bool, stopped: Callable[[], bool]) -> bool:
        """Project from the checkpoints on: True at the end, False if a hiccup ended a session that went well."""
        before, self._followed = self.summary.changes, timedelta(0)
        try:
            followers = self._open()
            self._was_open = True
            self._settle(applier, followers)
            source = self.open_source(followers)
            self._follow(source, applier, once, stopped)
        except _HICCUPS as error:
            self.summary.lag_seconds, self.summary.caught_up = None, False
            self.sink.close()
            went_well = self.summary.changes > before or self._followed >= _WELL
            if went_well or self._deadline is None:
                self._deadline = self.clock.now() + _PATIENCE
            if not went_well:
                raise
            self.notice(f"{error} Trying again.")
            return False
        return True

    def _open(self) -> Followers:
        """Open the sink. Its address and password may come from AWS, whose hiccups are then those of the database.

        So is a refused login, once it was accepted before: passwords rotate, and logins with tokens are throttled.
        """
        try:
            return self.sink.open()
        except (AwsError, ConfigurationError, DatabaseError) as error:
            passes = isinstance(error, AwsError) or error.code in {LOGIN_REFUSED, BAD_CREDENTIALS}
            if not self._was_open or not passes:
                raise
            raise TransientDatabaseError(str(error), hint=error.hint) from error

    def _settle(self, applier: Applier, followers: Followers) -> None:
        """Count a batch whose commit ended with the connection, if the checkpoints say that it was done."""
        batch, applier.in_doubt = applier.in_doubt, None
        if batch and all(_reached(position, known) for position in batch.positions for known in followers.values()):
            self.summary.count(batch, Applied(sum(map(len, batch.rows.values())), 0))

    def _follow(self, source: Source, applier: Applier, once: bool, stopped: Callable[[], bool]) -> None:
        began = self.clock.now()
        while not stopped():
            try:
                pages = source.take()
            except StreamGap as gap:
                if gap.position:
                    self.sink.mark_gap(gap.position, gap.followers)
                raise
            if pages:
                applier.apply(pages)
            else:
                self.sink.beat()
            self._followed = self.clock.now() - began
            self._measure(source, pages)
            self.progress(self.summary)
            if once and source.caught_up and not pages:
                return

    def _measure(self, source: Source, pages: Sequence[Page]) -> None:
        self.summary.shards = source.shards_under_way
        self.summary.caught_up = source.caught_up
        if self.summary.caught_up:
            self.summary.lag_seconds = 0.0
        elif times := [page.position.record_time for page in pages if page.position and page.position.record_time]:
            self.summary.lag_seconds = max((self.clock.now() - min(times)).total_seconds(), 0.0)


def _reached(position: Position, checkpoints: Checkpoints) -> bool:
    known = checkpoints.get(position.shard_id)
    return known is not None and known.progress >= position.progress
