"""Reading one shard, in order, from a position that is exactly known."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import aws_errors, error_code
from cqrsctl.change import Page, ShardState
from cqrsctl.errors import AwsError, StreamGap
from cqrsctl.wire import records_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.change import ChangeRecord, Position
    from cqrsctl.stream.shards import StreamsClient

PAGE_RECORDS = 1_000
FULL_PAGE_BYTES = 900_000
"""GetRecords returns at most 1,000 records or 1 MB."""

_decoding = Lock()
"""One page is decoded at a time: Python runs one thread anyway, and each switch between them costs."""

_TRIMMED = "TrimmedDataAccessException"
_EXPIRED = "ExpiredIteratorException"
_LOST = {_TRIMMED, "ResourceNotFoundException"}


class ShardLost(StreamGap):
    """Records left a shard before they were read, or the shard itself did."""

    def __init__(self, position: Position) -> None:
        after = f" after {position.record_time:%Y-%m-%d %H:%M:%S} UTC" if position.record_time else ""
        last = f" (sequence number {position.sequence_number})" if position.sequence_number else ""
        super().__init__(
            f"Shard {position.shard_id}: the changes{after}{last} left the stream before they were read; "
            "DynamoDB keeps them for 24 hours.",
            position=position,
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

    Iterators live only here, at most for minutes; one that expired is got anew from the position.
    """

    client: StreamsClient
    stream_arn: str
    position: Position
    expected_from: int | None = None
    """Where records may have been trimmed that were never read: the shard's first sequence number."""
    iterator: str | None = None

    def read(self) -> Read:
        """One GetRecords call; `page.position.state` says whether it was the shard's last.

        Raises ShardLost where records that come next were trimmed, TransientAwsError, AwsError.
        """
        try:
            return self._read()
        except AwsError as error:
            if not self._is_renewable(error):
                raise
        self.forget_iterator()
        return self._read()

    def begin_at_latest(self) -> None:
        """Fix the place to read from: after all that is in the shard now."""
        self.iterator = self._new_iterator("LATEST")

    def forget_iterator(self) -> None:
        self.iterator = None

    def _read(self) -> Read:
        if self.iterator is None:
            self.iterator = self._new_iterator()
        with self._losses_told(), aws_errors("dynamodbstreams GetRecords"):
            answer = self.client.get_records(ShardIterator=self.iterator, Limit=PAGE_RECORDS)
        with _decoding:
            page = records_page(answer, self.stream_arn)
        self.iterator = page.next_iterator
        changes = unread = self._unread(page.changes)
        if changes:
            last = changes[-1]
            self.position = replace(self.position, sequence_number=last.sequence_number, record_time=last.created_at)
        if self.iterator is None:
            self.position = replace(self.position, state=ShardState.FINISHED)
        since = self.position.since
        if since is not None:
            changes = tuple(change for change in changes if change.created_at >= since)
        return Read(
            page=Page(changes, self.position),
            records=len(unread),
            full=len(page.changes) >= PAGE_RECORDS or page.size_bytes >= FULL_PAGE_BYTES,
        )

    def _unread(self, changes: tuple[ChangeRecord, ...]) -> tuple[ChangeRecord, ...]:
        """Without those that were read already: what comes twice is applied once."""
        read = self.position.sequence_number
        if read is None or not changes or changes[0].sequence_number > read:
            return changes
        return tuple(change for change in changes if change.sequence_number > read)

    def _new_iterator(self, kind: str | None = None) -> str:
        parameters: dict[str, Any] = {"StreamArn": self.stream_arn, "ShardId": self.position.shard_id}
        if self.position.sequence_number is not None:
            parameters["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER"
            parameters["SequenceNumber"] = str(self.position.sequence_number)
        elif self.expected_from is not None:
            parameters["ShardIteratorType"] = "AT_SEQUENCE_NUMBER"
            parameters["SequenceNumber"] = str(self.expected_from)
        else:
            # What came while an iterator at LATEST was lost is found from the horizon on, by `since`.
            parameters["ShardIteratorType"] = kind or "TRIM_HORIZON"
        with self._losses_told(), aws_errors("dynamodbstreams GetShardIterator"):
            iterator: str = self.client.get_shard_iterator(**parameters)["ShardIterator"]
        return iterator

    @property
    def _is_anchored(self) -> bool:
        """Whether it is known which record comes next, so that its absence is a loss."""
        return self.position.sequence_number is not None or self.expected_from is not None

    def _is_renewable(self, error: AwsError) -> bool:
        code = error_code(error)
        return code == _EXPIRED or (code == _TRIMMED and not self._is_anchored)

    @contextmanager
    def _losses_told(self) -> Iterator[None]:
        try:
            yield
        except AwsError as error:
            if error_code(error) in _LOST and not self._is_renewable(error):
                raise ShardLost(self.position) from error
            raise
