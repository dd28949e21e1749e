"""Reading one shard, in order, from a position that is exactly known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from cqrsctl.aws import aws_errors, error_code
from cqrsctl.change import Page, ShardState
from cqrsctl.errors import AwsError, StreamGap, TransientAwsError
from cqrsctl.stream import shards
from cqrsctl.stream.retention import later, may_be_trimmed, read_through
from cqrsctl.wire import member, records_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.change import ChangeRecord, Position
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient

PAGE_RECORDS = 1_000
FULL_PAGE_BYTES = 900_000
"""GetRecords returns at most 1,000 records or 1 MB."""

_decoding = Lock()
"""One page is decoded at a time: Python runs one thread anyway, and each switch between them costs."""

_TRIMMED = "TrimmedDataAccessException"
_EXPIRED = "ExpiredIteratorException"
_MISSING = "ResourceNotFoundException"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

Answer = TypeVar("Answer")


class ShardLost(StreamGap):
    """Records left a shard before they were read, or the shard itself did."""

    def __init__(self, position: Position, followers: frozenset[str] = frozenset()) -> None:
        after = f" after {position.record_time:%Y-%m-%d %H:%M:%S} UTC" if position.record_time else ""
        last = f" (sequence number {position.sequence_number})" if position.sequence_number else ""
        whose = f" Projections that need them: {', '.join(sorted(followers))}." if followers else ""
        super().__init__(
            f"Shard {position.shard_id}: changes{after}{last} may have left the stream before they were read; "
            f"DynamoDB keeps them for 24 hours.{whose}",
            position=position,
            followers=followers,
        )


@dataclass(frozen=True, slots=True)
class Read:
    """What one GetRecords call brought: `records` that were not read before. `full`: there is probably more at once."""

    page: Page
    records: int
    full: bool


@dataclass(slots=True)
class ShardReader:
    """One shard being read. `position` is what was read, which may be ahead of what was applied.

    `shard` is what the listing shows of it, `promised` whether somebody counts on its changes: then a shard that does
    not exist is a loss. `ahead` are the positions of others that read along; that nothing they need was trimmed is
    checked before the first page.

    Iterators live only here, at most for minutes; one that expired is replaced by one made from the position.
    """

    client: StreamsClient
    stream_arn: str
    position: Position
    now: Callable[[], datetime]
    shard: Shard | None = None
    promised: bool = True
    ahead: tuple[Position, ...] = ()
    iterator: str | None = None
    page_records: int = PAGE_RECORDS
    _nothing_lost: bool = False
    """Whether records after the position are known to be kept, though the one at it was trimmed."""

    def read(self) -> Read:
        """One GetRecords call; `page.position.state` says whether it was the shard's last.

        Raises ShardLost if records that come next were trimmed, TransientAwsError, AwsError.
        """
        while self.ahead:
            require_kept(self.client, self.stream_arn, self.ahead[0], self.shard, self.now)
            self.ahead = self.ahead[1:]
        return self._attempted(self._read) or self._ended()

    def begin_at_latest(self) -> None:
        """Fix the place to read from: after all that is in the shard now."""
        self.iterator = self._new_iterator("LATEST")

    def begin(self) -> None:
        """Get an iterator. Raises as `read` does."""
        self._attempted(self._begun)

    def forget_iterator(self) -> None:
        self.iterator = None

    def reached_tip(self) -> None:
        """Remember that everything was read that the shard had until now."""
        self.position = replace(self.position, read_through=later(self.position.read_through, read_through(self.now())))

    def _attempted(self, step: Callable[[], Answer]) -> Answer | None:
        """Take a step, once more with a new iterator if the old one is of no use; None if the shard is over."""
        for _ in range(2):
            try:
                return step()
            except AwsError as error:
                code = error_code(error)
                if code == _MISSING:
                    self._missing(error)
                    return None
                if code == _TRIMMED and self._is_anchored:
                    if self._was_read_to_its_end:
                        return None
                    if may_be_trimmed(self.position, self.now()):
                        raise ShardLost(self.position) from error
                    self._nothing_lost = True
                elif code not in {_TRIMMED, _EXPIRED}:
                    raise
                self.forget_iterator()
        return step()

    def _missing(self, error: AwsError) -> None:
        """The shard is said not to exist: it is over, if nothing was lost with it.

        DescribeStream may list shards that no longer exist, and one answer may be wrong: it is asked for again.
        """
        shard_id = self.position.shard_id
        self.forget_iterator()
        if shards.exists(self.client, self.stream_arn, shard_id):
            raise TransientAwsError(f"DynamoDB Streams answered that shard {shard_id} does not exist, though it does.")
        if self._was_read_to_its_end:
            return
        if may_be_trimmed(self.position, self.now()):
            raise ShardLost(self.position) from error
        if self.promised or self.position.sequence_number is not None:
            raise TransientAwsError(
                f"DynamoDB Streams answers that shard {shard_id} does not exist, though changes of it may be younger "
                "than 24 hours."
            ) from error

    def _ended(self) -> Read:
        self._finish()
        return Read(Page((), self.position), 0, full=False)

    def _finish(self) -> None:
        self.reached_tip()
        self.position = replace(self.position, state=ShardState.FINISHED)

    def _begun(self) -> str:
        if self.iterator is None:
            self.iterator = self._new_iterator()
        return self.iterator

    def _read(self) -> Read:
        iterator = self._begun()
        with aws_errors("dynamodbstreams GetRecords"):
            answer = self.client.get_records(ShardIterator=iterator, Limit=self.page_records)
        with _decoding:
            page = records_page(answer, self.stream_arn, self.now())
        self.iterator = page.next_iterator
        changes = unread = self._unread(page.changes)
        if changes:
            self._advance(changes[-1])
        if self.iterator is None:
            self._finish()
        since = self.position.since
        if since is not None:
            changes = tuple(change for change in changes if change.created_at >= since)
        return Read(
            page=Page(changes, self.position),
            records=len(unread),
            full=len(page.changes) >= self.page_records or page.size_bytes >= FULL_PAGE_BYTES,
        )

    def _advance(self, last: ChangeRecord) -> None:
        """Once a change was read all after it are promised, also those from before the shard was registered."""
        read = self.position.sequence_number is not None
        through = self.position.read_through if read else None
        position = replace(self.position, sequence_number=last.sequence_number, read_through=through)
        if last.is_dated:
            position = replace(position, record_time=last.created_at, read_through=later(through, last.created_at))
        self.position = position
        self._nothing_lost = False

    def _unread(self, changes: tuple[ChangeRecord, ...]) -> tuple[ChangeRecord, ...]:
        """Without those that were read already: what comes twice is applied once."""
        read = self.position.sequence_number
        if read is None or not changes or changes[0].sequence_number > read:
            return changes
        return tuple(change for change in changes if change.sequence_number > read)

    def _new_iterator(self, kind: str = "TRIM_HORIZON") -> str:
        parameters: dict[str, Any] = {"StreamArn": self.stream_arn, "ShardId": self.position.shard_id}
        if self.position.sequence_number is not None and not self._nothing_lost:
            parameters["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER"
            parameters["SequenceNumber"] = str(self.position.sequence_number)
        elif (first := self._expected_first) is not None:
            parameters["ShardIteratorType"] = "AT_SEQUENCE_NUMBER"
            parameters["SequenceNumber"] = str(first)
        else:
            # What came while an iterator at LATEST was lost is found from the horizon on, by `since`.
            parameters["ShardIteratorType"] = kind
        with aws_errors("dynamodbstreams GetShardIterator"):
            answer = self.client.get_shard_iterator(**parameters)
        return str(member(answer, "ShardIterator", "GetShardIterator"))

    @property
    def _expected_first(self) -> int | None:
        """The first sequence number of a shard that was promised so long ago, and not read, that it may be gone."""
        if self.position.sequence_number is not None or self.shard is None:
            return None
        return self.shard.starting if may_be_trimmed(self.position, self.now()) else None

    @property
    def _is_anchored(self) -> bool:
        """Whether it is known which record comes next, so that its absence is a loss."""
        return self.position.sequence_number is not None or self._expected_first is not None

    @property
    def _was_read_to_its_end(self) -> bool:
        ending = self.shard.ending if self.shard else None
        read = self.position.sequence_number
        return ending is not None and read is not None and read >= ending


def require_kept(
    client: StreamsClient, stream_arn: str, position: Position, shard: Shard | None, now: Callable[[], datetime]
) -> None:
    """Raises ShardLost if what comes after a position may have been trimmed; TransientAwsError, AwsError."""
    if may_be_trimmed(position, now()):
        ShardReader(client, stream_arn, position, now, shard).begin()


def is_kept_after_all(
    client: StreamsClient, stream_arn: str, gap: Position, shard: Shard | None, now: Callable[[], datetime]
) -> bool:
    """Whether the changes after a position that was marked as a gap are there all the same. Raises AwsError."""
    suspected = replace(gap, state=ShardState.OPEN, read_through=_LONG_AGO)
    if suspected.sequence_number is None and shard is None:
        return False
    reader = ShardReader(client, stream_arn, suspected, now, shard)
    try:
        reader.begin()
    except ShardLost:
        return False
    return True
