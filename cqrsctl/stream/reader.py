"""Reading a stream: many shards at once, parents before children, found again as shards split and close."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from cqrsctl.change import Page, Position, ShardState
from cqrsctl.errors import AwsError, StreamGap, TransientAwsError
from cqrsctl.stream import lineage, shards
from cqrsctl.stream.poll import PATIENCE_SECONDS, QUIET_POLL_SECONDS, Poll, backoff
from cqrsctl.stream.shard_reader import Read, ShardLost, ShardReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from cqrsctl.change import Checkpoints
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient

RELIST_SECONDS = 30.0
_MOST_READS_UNDER_WAY = 16
_RETENTION = timedelta(hours=24)
_CLOCK_SKEW = timedelta(minutes=5)
"""AWS refuses requests of clocks that are further off, so a record's time cannot differ by more."""


class Beginning(StrEnum):
    """Where a stream without checkpoints is read from."""

    HORIZON = "horizon"
    LATEST = "latest"


class Clock(Protocol):
    """Time, passed in so that tests need not wait."""

    def now(self) -> datetime:
        """The time of day, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def sleep(self, seconds: float) -> None:
        """Wait, or return early where the reading is to stop."""


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How a stream is read. `since` leaves out older changes; `only_shard` reads a single shard."""

    beginning: Beginning = Beginning.HORIZON
    since: datetime | None = None
    only_shard: str | None = None
    current_arn: Callable[[], str | None] | None = None
    """Asks for the table's stream as it is now: a stream that was switched off and on again is another one."""


class StreamReader:
    """All shards of a stream. `take` brings the pages that are there; whoever takes them applies them before the
    next `take`, so that a child's changes never come before its parent's."""

    def __init__(
        self,
        client: StreamsClient,
        stream_arn: str,
        checkpoints: Checkpoints,
        clock: Clock,
        executor: Executor,
        options: ReaderOptions = ReaderOptions(),
    ) -> None:
        """Raises ShardLost where the checkpoints name a gap."""
        for position in checkpoints.values():
            if position.state is ShardState.GAP:
                raise ShardLost(position)
        self.stream_arn = stream_arn
        self._client = client
        self._clock = clock
        self._executor = executor
        self._options = options
        self._positions = dict(checkpoints)
        self._shards: dict[str, Shard] = {}
        self._polls: dict[str, Poll] = {}
        self._under_way: dict[Future[Read], Poll] = {}
        self._at_latest: dict[str, ShardReader] = {}
        self._first = not checkpoints
        self._listed = False
        self._list_due = clock.monotonic()
        self._list_failures = 0
        self._list_failing_since = clock.monotonic()
        self._late_since: float | None = None

    @property
    def caught_up(self) -> bool:
        """Whether every shard was read to its tip or its end, and no shard is known that was not begun."""
        return (
            bool(self._shards)
            and self._listed
            and self._list_due > self._clock.monotonic()
            and all(poll.at_tip and self._is_open(shard_id) for shard_id, poll in self._polls.items())
        )

    def _is_open(self, shard_id: str) -> bool:
        """A shard that is listed as closed has an end, and has to be read to it however many pages are empty."""
        return shard_id not in self._shards or self._shards[shard_id].is_open

    @property
    def shards_under_way(self) -> int:
        return len(self._polls)

    def take(self) -> list[Page]:
        """The pages that are there, after a moment's wait none. A page without changes brings a new position.

        Raises ShardLost, and AwsError where AWS refuses, or does not answer for five minutes.
        """
        if self._clock.monotonic() >= self._list_due:
            found = self._list_shards()
            if found or not self._polls:
                return found
        self._begin_reads()
        self._wait()
        pages = [page for future in [f for f in self._under_way if f.done()] for page in self._finish(future)]
        self._begin_reads()  # the next pages come while these are applied
        return pages

    def _list_shards(self) -> list[Page]:
        """List the shards anew; those not known before come as pages without changes, to be registered."""
        now = self._clock.monotonic()
        try:
            listed = self._listed_shards()
            late = self._late(listed)
            self._check_current()
        except TransientAwsError:
            if not self._list_failures:
                self._list_failing_since = now
            self._list_failures += 1
            if not self._positions or now - self._list_failing_since > PATIENCE_SECONDS:
                raise
            self._list_due = now + backoff(self._list_failures)
            return []
        self._list_failures = 0
        self._listed = not late
        self._list_due = now + (RELIST_SECONDS if listed and not late else QUIET_POLL_SECONDS)
        self._shards = lineage.without_descendants(listed, late)
        found = [self._register(shard) for shard in lineage.oldest_first(self._shards.values()) if self._is_new(shard)]
        self._first = False
        self._open_readable()
        return found

    def _listed_shards(self) -> dict[str, Shard]:
        listed = dict(shards.describe(self._client, self.stream_arn).shards)
        only = self._options.only_shard
        return listed if only is None else {key: replace(listed[key], parent_id=None) for key in listed if key == only}

    def _late(self, listed: dict[str, Shard]) -> set[str]:
        """Shards that a listing should show and does not yet, though they exist; their descendants wait for them.

        Raises ShardLost where one does not exist any more.
        """
        absent = lineage.unlisted(listed, self._positions)
        asked = list(dict.fromkeys(shard_id for shard_id, _ in absent))
        there = self._executor.map(lambda shard_id: shards.exists(self._client, self.stream_arn, shard_id), asked)
        late = {shard_id for shard_id, exists in zip(asked, there, strict=True) if exists}
        for shard_id, position in absent:
            if shard_id not in late and self._positions:  # without any position, nothing was promised
                raise ShardLost(position)
        now = self._clock.monotonic()
        if not late:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since > PATIENCE_SECONDS:
            raise AwsError(f"DescribeStream does not list shard {min(late)}, though it exists.")
        return late

    def _check_current(self) -> None:
        current = self._options.current_arn() if self._options.current_arn else None
        if current not in {None, self.stream_arn}:
            raise StreamGap(
                f"The table's stream is {current} now, no longer {self.stream_arn}: it was switched off and on. What "
                "changed in between was recorded nowhere."
            )

    def _is_new(self, shard: Shard) -> bool:
        return shard.shard_id not in self._positions

    def _register(self, shard: Shard) -> Page:
        """Remember a new shard. Its record time is that of its registration, until a record was read."""
        now = self._clock.now()
        position = Position(shard.shard_id, shard.parent_id, record_time=now, since=self._options.since)
        if self._first and self._options.beginning is Beginning.LATEST:
            # DynamoDB Local rounds a record's time to the minute.
            since = (now - _CLOCK_SKEW).replace(second=0, microsecond=0)
            state = ShardState.OPEN if shard.is_open else ShardState.FINISHED
            position = replace(position, since=since, state=state)
            if shard.is_open:
                self._at_latest[shard.shard_id] = self._reader_at_latest(position)
        self._positions[shard.shard_id] = position
        return Page((), position)

    def _reader_at_latest(self, position: Position) -> ShardReader:
        """A reader whose place is fixed before the position is registered, so that nothing falls between."""
        reader = ShardReader(self._client, self.stream_arn, position)
        with suppress(TransientAwsError):  # then it reads from the horizon on, leaving out what is older
            reader.begin_at_latest()
        return reader

    def _open_readable(self) -> None:
        finished = {key for key, position in self._positions.items() if position.state is ShardState.FINISHED}
        for shard in lineage.readable(self._shards, finished):
            if shard.shard_id not in self._polls:
                reader = self._at_latest.pop(shard.shard_id, None) or ShardReader(
                    self._client,
                    self.stream_arn,
                    self._positions[shard.shard_id],
                    shard.starting if self._may_be_trimmed(shard) else None,
                )
                self._polls[shard.shard_id] = Poll(reader, self._clock.monotonic())

    def _may_be_trimmed(self, shard: Shard) -> bool:
        """Whether a shard of which nothing was read may have lost records since it was promised to be read: known,
        or its parent last heard of, for longer than records are kept."""
        known = [self._positions[shard.shard_id]]
        if known[0].since is not None:
            return False
        if shard.parent_id in self._positions:
            known.append(self._positions[shard.parent_id])
        oldest = self._clock.now() - _RETENTION
        return any(position.record_time is not None and position.record_time < oldest for position in known)

    def _begin_reads(self) -> None:
        now = self._clock.monotonic()
        for poll in sorted(self._polls.values(), key=lambda poll: poll.due):
            if len(self._under_way) >= _MOST_READS_UNDER_WAY or poll.due > now:
                return
            if not poll.under_way:
                poll.under_way = True
                self._under_way[self._executor.submit(poll.reader.read)] = poll

    def _wait(self) -> None:
        """Wait until a read is done, or the next is due."""
        now = self._clock.monotonic()
        full = len(self._under_way) >= _MOST_READS_UNDER_WAY
        next_due = min(
            now + QUIET_POLL_SECONDS,
            self._list_due,
            *(poll.due for poll in self._polls.values() if not (full or poll.under_way)),
        )
        if self._under_way:
            wait(self._under_way, timeout=max(next_due - now, 0), return_when=FIRST_COMPLETED)
        elif next_due > now:
            self._clock.sleep(next_due - now)

    def _finish(self, future: Future[Read]) -> Iterable[Page]:
        poll = self._under_way.pop(future)
        poll.under_way = False
        now = self._clock.monotonic()
        try:
            read = future.result()
        except TransientAwsError as error:
            poll.failed(error, now)
            return
        poll.read(read, now)
        position = read.page.position
        self._positions[position.shard_id] = position
        if position.state is ShardState.FINISHED:
            del self._polls[position.shard_id]
            self._list_due = now
            self._listed = False
        if read.records or position.state is ShardState.FINISHED:
            yield read.page
