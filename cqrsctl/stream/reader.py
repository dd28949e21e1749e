"""Reading a stream: many shards at once, parents before children, found again as shards split and close."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.change import Page, Position, ShardState
from cqrsctl.errors import UNEXPECTED_ANSWER, AwsError, ConfigurationError, StreamGap, TransientAwsError
from cqrsctl.stream import followers, lineage
from cqrsctl.stream.followers import NOBODY
from cqrsctl.stream.following import Following
from cqrsctl.stream.listing import SHORTEST_PAUSE_SECONDS, Listing
from cqrsctl.stream.poll import CERTAIN, PATIENCE_SECONDS, QUIET_POLL_SECONDS, Poll, Tip
from cqrsctl.stream.retention import CLOCK_SKEW, ended_long_ago
from cqrsctl.stream.shard_reader import Read, ShardLost, ShardReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from cqrsctl.change import Checkpoints, Followers
    from cqrsctl.clock import Clock
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient

_MOST_READS_UNDER_WAY = 16
_CHILD_PATIENCE_SECONDS = 60.0
"""A closed shard's child is listed within about a minute (observed by users of other consumers)."""
_SIBLING_PATIENCE_SECONDS = 10.0
"""So much later than the end of a shard, all its children are listed once one is: a split shard has two."""
_FIRST_NOTICE_SECONDS = 5.0
_NOTICE_SECONDS = 30.0
_LISTING = "DescribeStream"
_READING = "GetRecords"


class Beginning(StrEnum):
    """Where a stream without checkpoints is read from."""

    HORIZON = "horizon"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How a stream is read. `since` leaves out older changes; `only_shard` reads a single shard."""

    beginning: Beginning = Beginning.HORIZON
    since: datetime | None = None
    only_shard: str | None = None
    tip: Tip = CERTAIN
    until: datetime | None = None
    """The first time that no change had when reading began. A shard that brings a later change is caught up, though
    changes may come faster than its tip is ever reached."""
    current_arn: Callable[[], str | None] | None = None
    """Asks for the table's stream as it is now: a stream that was switched off and on again is another one."""
    notice: Callable[[str], None] = lambda _: None
    """Called with each problem that is waited out."""
    worked: set[str] = field(default_factory=set)
    """Operations that succeeded in this process. From then on their refusals are waited out as well: credentials are
    renewed and policies repaired while a projector runs. Before, a refusal is a mistake, and stops it at once; so is an
    answer that is none of AWS's."""


class StreamReader:
    """All shards of a stream. `take` brings the pages that are there; whoever takes them applies them before the
    next `take`, so that a child's changes never come before its parent's."""

    def __init__(
        self,
        client: StreamsClient,
        stream_arn: str,
        following: Followers,
        clock: Clock,
        executor: Executor,
        options: ReaderOptions = ReaderOptions(),
    ) -> None:
        """`following`: the checkpoints of each projection that reads along."""
        self.stream_arn = stream_arn
        self._client = client
        self._clock = clock
        self._executor = executor
        self._options = options
        by_name = {name: dict(positions) for name, positions in (following or {NOBODY: {}}).items()}
        self._following = Following(client, stream_arn, by_name, clock.now, executor)
        self._shards: dict[str, Shard] = {}
        self._polls: dict[str, Poll] = {}
        self._under_way: dict[Future[Read], Poll] = {}
        self._at_latest: dict[str, ShardReader] = {}
        self._is_counted_on = bool(following)
        self._first = self._following.is_new
        self._listing = Listing(client, stream_arn, clock, executor, self._check_current)
        self._listing_fails_since: float | None = None
        self._late_since: float | None = None
        self._ended: dict[str, float] = {}
        """Shards that ended lately, and since when that is known."""
        self._ended_unlisted: frozenset[str] = frozenset()
        self._past_until: set[str] = set()
        """Shards that brought a change of `until` or later, and their children."""
        self._notice_due = 0.0

    @property
    def caught_up(self) -> bool:
        """Whether every shard was read to its tip, its end or `until`, and no shard is missing from the listing."""
        return (
            bool(self._shards)
            and self._listing.is_complete
            and self._late_since is None
            and not self._waits_for_children()
            and all(
                shard_id in self._past_until or (poll.at_tip and self._is_open(shard_id))
                for shard_id, poll in self._polls.items()
            )
        )

    def _is_open(self, shard_id: str) -> bool:
        """A shard that is listed as closed has an end, and has to be read to it however many pages are empty."""
        return shard_id in self._shards and self._shards[shard_id].is_open

    @property
    def shards_under_way(self) -> int:
        return len(self._polls)

    def take(self) -> list[Page]:
        """The pages that are there, after a moment's wait none. A page without changes brings a new position.

        Raises ShardLost, and AwsError if AWS refuses, or does not answer for five minutes.
        """
        self._listing.begin_if_due()
        self._begin_reads()
        self._wait()
        pages = self._listed_pages()
        pages += [page for future in [f for f in self._under_way if f.done()] for page in self._finish(future)]
        self._begin_reads()  # the next pages come while these are applied
        return pages

    def _listed_pages(self) -> list[Page]:
        """What came of a listing: shards not known before, as pages without changes, to be registered."""
        now = self._clock.monotonic()
        try:
            listing = self._listing.take()
            if listing is None:
                return []
            listed = self._chosen(listing)
            over, late = self._following.absent(listed)
            healed = list(self._following.healed(listed))
        except (AwsError, ConfigurationError) as error:
            if self._listing_fails_since is None:
                self._listing_fails_since = now
            waited = now - self._listing_fails_since
            if not self._passes(error, _LISTING) or self._first or waited > PATIENCE_SECONDS:
                raise
            self._listing.failed()
            self._note(error, waited)
            return []
        self._listing_fails_since = None
        self._options.worked.add(_LISTING)
        self._wait_for(late)
        self._shards = lineage.without_descendants(listed, late)
        self._ended_unlisted = self._following.ended_lately(listed)
        if late:
            self._listing.again(QUIET_POLL_SECONDS)
        elif not self._shards:
            self._listing.again(SHORTEST_PAUSE_SECONDS)
        for page in healed:
            self._options.notice(f"Shard {page.shard_id} was marked as a gap, but all its changes are there.")
        pages = [*over, *healed, *self._following.registered(self._shards, self._start_of)]
        self._first = False
        self._open_readable()
        return pages

    def _chosen(self, listed: Mapping[str, Shard]) -> dict[str, Shard]:
        only = self._options.only_shard
        if only is None:
            return dict(listed)
        return {key: replace(listed[key], parent_id=None) for key in listed if key == only}

    def _wait_for(self, late: frozenset[str]) -> None:
        """Raises AwsError if shards that exist were not listed for five minutes."""
        now = self._clock.monotonic()
        if not late:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since > PATIENCE_SECONDS:
            raise AwsError(f"DescribeStream does not list shard {min(late)}, though it exists.")

    def _check_current(self) -> None:
        if self._options.current_arn is None:
            return
        current = self._options.current_arn()
        if current is None:
            raise StreamGap(
                f"The table's stream {self.stream_arn} was switched off: what changes from now on is recorded nowhere."
            )
        if current != self.stream_arn:
            raise StreamGap(
                f"The table's stream is {current} now, no longer {self.stream_arn}: it was switched off and on. What "
                "changed in between was recorded nowhere."
            )

    def _start_of(self, shard: Shard, positions: Checkpoints, now: datetime) -> Position:
        start = followers.start_of(shard, positions, now, self._options.since)
        if not self._first or self._options.beginning is not Beginning.LATEST:
            return start
        # DynamoDB Local rounds a record's time to the minute.
        start = replace(start, since=(now - CLOCK_SKEW).replace(second=0, microsecond=0))
        if not shard.is_open:
            return replace(start, state=ShardState.FINISHED)
        if shard.shard_id not in self._at_latest:
            self._at_latest[shard.shard_id] = self._reader_at_latest(start, shard)
        return start

    def _reader_at_latest(self, position: Position, shard: Shard) -> ShardReader:
        """A reader whose place is fixed before the position is registered, so that nothing falls between."""
        reader = ShardReader(self._client, self.stream_arn, position, self._clock.now, shard)
        with suppress(TransientAwsError):  # then it reads from the horizon on, leaving out what is older
            reader.begin_at_latest()
        return reader

    def _open_readable(self) -> None:
        positions = self._following.positions
        finished = {key for key, position in positions.items() if position.state is ShardState.FINISHED}
        for shard in lineage.readable(self._shards, finished):
            if shard.parent_id in self._past_until:
                self._past_until.add(shard.shard_id)
            if shard.shard_id not in self._polls:
                reader = self._at_latest.pop(shard.shard_id, None) or self._reader_of(shard)
                self._polls[shard.shard_id] = Poll(reader, self._clock.monotonic(), self._options.tip)
        for poll in self._polls.values():  # a shard may be closed by now, and then has an end
            poll.reader.shard = self._shards.get(poll.reader.position.shard_id, poll.reader.shard)

    def _reader_of(self, shard: Shard) -> ShardReader:
        position = self._following.positions[shard.shard_id]
        standing = set(self._following.in_shard(shard.shard_id).values())
        ahead = sorted(standing - {position}, key=lambda each: each.progress, reverse=True)
        return ShardReader(
            self._client,
            self.stream_arn,
            position,
            self._clock.now,
            shard,
            promised=self._following.counts_on(shard),
            ahead=tuple(each for each in ahead if each.state is ShardState.OPEN),
        )

    def _waits_for_children(self) -> bool:
        """Whether a shard ended a moment ago, of which the listing may not show all children yet.

        Without any it is waited for about a minute: a shard that was merged with another may have none of its own.
        """
        if not self._listing.is_enabled:
            return False
        now, positions = self._clock.monotonic(), self._following.positions
        closed = {
            shard_id
            for shard_id, shard in self._shards.items()
            if not shard.is_open and not ended_long_ago(positions.get(shard_id), self._clock.now())
        }
        ended = (closed | self._ended_unlisted) - self._past_until
        self._ended = {shard_id: self._ended.get(shard_id, now) for shard_id in ended}
        childless = lineage.childless(self._shards)
        if any(now - since < _CHILD_PATIENCE_SECONDS for key, since in self._ended.items() if key in childless):
            return True
        settled_at = max(self._ended.values(), default=-_SIBLING_PATIENCE_SECONDS) + _SIBLING_PATIENCE_SECONDS
        if not self._is_counted_on or self._listing.all_listed_at >= settled_at:
            return False
        self._listing.again(max(settled_at - now, 0.0))
        return True

    def _begin_reads(self) -> None:
        now = self._clock.monotonic()
        for poll in sorted(self._polls.values(), key=lambda poll: poll.due):
            if len(self._under_way) >= _MOST_READS_UNDER_WAY or poll.due > now:
                return
            if not poll.under_way:
                poll.under_way = True
                self._under_way[self._executor.submit(poll.reader.read)] = poll

    def _wait(self) -> None:
        """Wait until a read or a listing is done, or the next is due."""
        now = self._clock.monotonic()
        full = len(self._under_way) >= _MOST_READS_UNDER_WAY
        listing = self._listing.future
        due = [poll.due for poll in self._polls.values() if not (full or poll.under_way)]
        if listing is None:
            due.append(self._listing.due)
        next_due = min([now + QUIET_POLL_SECONDS, *due])
        under_way: list[Future[Any]] = [*self._under_way, *([listing] if listing else [])]
        if under_way:
            wait(under_way, timeout=max(next_due - now, 0), return_when=FIRST_COMPLETED)
        elif next_due > now:
            self._clock.sleep(next_due - now)

    def _finish(self, future: Future[Read]) -> Iterable[Page]:
        poll = self._under_way.pop(future)
        poll.under_way = False
        now = self._clock.monotonic()
        try:
            read = future.result()
        except (AwsError, ConfigurationError) as error:
            if not self._passes(error, _READING):
                raise
            poll.failed(error, now)
            self._note(error, poll.failing_seconds)
            return
        except ShardLost as lost:
            if lost.position is None or lost.followers:
                raise
            raise self._following.lost(lost.position) from lost
        self._options.worked.add(_READING)
        poll.read(read, now)
        if self._is_past_until(read.page):
            self._past_until.add(read.page.shard_id)
        if poll.at_tip and self._is_open(read.page.shard_id):
            poll.reader.reached_tip()
        position = poll.reader.position
        self._following.positions[position.shard_id] = position
        if position.state is ShardState.FINISHED:
            del self._polls[position.shard_id]
            if position.shard_id not in self._past_until:
                self._listing.ended(position.shard_id)
            self._open_readable()
        finished = position.state is ShardState.FINISHED
        if read.records or finished or self._following.is_to_be_remembered(position):
            yield self._following.hand_out(read.page.changes, position)

    def _is_past_until(self, page: Page) -> bool:
        until, last = self._options.until, page.changes[-1] if page.changes else None
        return until is not None and last is not None and last.is_dated and last.created_at >= until

    def _passes(self, error: AwsError | ConfigurationError, operation: str) -> bool:
        is_hiccup = isinstance(error, TransientAwsError) and error.code != UNEXPECTED_ANSWER
        return is_hiccup or operation in self._options.worked

    def _note(self, error: Exception, failing_seconds: float) -> None:
        """Say what is waited out: a refusal at once, a hiccup if it lasts; and not for each shard."""
        now = self._clock.monotonic()
        lasting = failing_seconds >= _FIRST_NOTICE_SECONDS or not isinstance(error, TransientAwsError)
        if lasting and now >= self._notice_due:
            self._notice_due = now + _NOTICE_SECONDS
            self._options.notice(f"{error} Trying again.")
