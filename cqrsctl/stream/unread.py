"""What the stream still has after a position: asked with a fresh iterator, beside whoever reads the shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.aws import error_code
from cqrsctl.change import ChangeRecord, Position, ShardState
from cqrsctl.errors import AwsError
from cqrsctl.stream import absence, followers, lineage, shards
from cqrsctl.stream.followers import NOBODY
from cqrsctl.stream.poll import GLANCE, Tip
from cqrsctl.stream.retention import ended_long_ago
from cqrsctl.stream.shard_reader import ShardLost, ShardReader, require_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from cqrsctl.change import Followers
    from cqrsctl.clock import Clock
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import Stream, StreamsClient


@dataclass(frozen=True, slots=True)
class Asking:
    """How a stream is asked: by which client, side by side in which executor, and what counts as a shard's tip."""

    client: StreamsClient
    executor: Executor
    clock: Clock
    tip: Tip = GLANCE


@dataclass(frozen=True, slots=True)
class Unread:
    """The first change of each shard that is not finished that a follower has not read; None if there is none.

    `childless` are shards that ended and of which no child is listed yet: what comes after them cannot be seen.
    """

    first: Mapping[str, ChangeRecord | None]
    childless: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Look:
    """One shard being asked."""

    reader: ShardReader
    since: float
    empty_pages: int = 0


class _MoreToRead:
    """The answer of a page that was empty."""


_MORE_TO_READ = _MoreToRead()
_NOT_OF_THIS_SHARD = "ValidationException"
_Answer = ChangeRecord | ShardLost | None


def first_unread(
    asking: Asking, stream_arn: str, asked: Iterable[tuple[Position, Shard | None]]
) -> dict[str, ChangeRecord | ShardLost | None]:
    """The first change after each position, as the stream has it now; ShardLost if changes may have been trimmed.

    A few empty pages are taken for the tip of an open shard; a closed one is read to its end. Shards are asked in
    turns, with a pause between two reads of one. Raises TransientAwsError, AwsError.
    """
    begun = asking.clock.monotonic()
    looks = [
        _Look(ShardReader(asking.client, stream_arn, position, asking.clock.now, shard), begun)
        for position, shard in asked
        if position.state is not ShardState.FINISHED
    ]
    return _answers(asking, looks, _read, lambda _: False)


def unhandled(asking: Asking, stream: Stream, handled: int | None) -> Unread:
    """The first change of shards that comes after the newest one that the function handled: it is not handled yet.

    The function does not know in which shard it handled a change, so every shard that may hold a higher sequence number
    is asked for one record. One change is enough: no further page is read then. A shard that refuses the number of
    another one is left out. With `handled` None, any change counts. Raises TransientAwsError, AwsError.
    """
    begun = asking.clock.monotonic()
    looks = []
    for shard in stream.shards.values():
        if handled is not None and shard.ending is not None and shard.ending <= handled:
            continue
        after = handled if handled is not None and shard.starting <= handled else None
        position = Position(shard.shard_id, shard.parent_id, after)
        reader = ShardReader(
            asking.client, stream.arn, position, asking.clock.now, shard, promised=False, page_records=1
        )
        looks.append(_Look(reader, begun))
    answers = _answers(asking, looks, _read_after_another, lambda found: any(found.values()))
    first = {shard_id: change for shard_id, change in answers.items() if isinstance(change, ChangeRecord)}
    return Unread(first, _childless(stream, {}, asking.clock.now()))


def _answers(
    asking: Asking,
    looks: list[_Look],
    read: Callable[[_Look], ChangeRecord | ShardLost | _MoreToRead | None],
    is_enough: Callable[[Mapping[str, _Answer]], bool],
) -> dict[str, _Answer]:
    """Read shards in turns until each has an answer, or there are enough."""
    found: dict[str, _Answer] = {}
    while looks and not is_enough(found):
        begun = asking.clock.monotonic()
        for look, answer in zip(looks, asking.executor.map(read, looks), strict=True):
            if not isinstance(answer, _MoreToRead):
                found[look.reader.position.shard_id] = answer
        now = asking.clock.monotonic()
        for look in looks:
            shard_id = look.reader.position.shard_id
            if shard_id not in found and _is_at_tip(look, asking.tip, now):
                found[shard_id] = None
        looks = [look for look in looks if look.reader.position.shard_id not in found]
        if looks and (pause := asking.tip.pause_seconds - (now - begun)) > 0:
            asking.clock.sleep(pause)
    return found


def _read(look: _Look) -> ChangeRecord | ShardLost | _MoreToRead | None:
    before = look.reader.position
    try:
        read = look.reader.read()
    except ShardLost as lost:
        return lost
    if read.page.changes:
        first = read.page.changes[0]
        # A record without a time is as old as it can be.
        return first if first.is_dated else first._replace(created_at=before.read_through or first.created_at)
    if look.reader.position.state is ShardState.FINISHED:
        return None
    # Changes from before `since` are no unread ones, but they are no sign of the tip either.
    look.empty_pages = 0 if read.records else look.empty_pages + 1
    return _MORE_TO_READ


def _read_after_another(look: _Look) -> ChangeRecord | ShardLost | _MoreToRead | None:
    """As `_read`, from a position that may be another shard's. If that was trimmed, what is there is later than it."""
    try:
        answer = _read(look)
    except AwsError as error:
        if error_code(error) != _NOT_OF_THIS_SHARD:
            raise
        return None
    if not isinstance(answer, ShardLost):
        return answer
    look.reader.position = Position(look.reader.position.shard_id, None)
    look.reader.forget_iterator()
    return _MORE_TO_READ


def _is_at_tip(look: _Look, tip: Tip, now: float) -> bool:
    is_open = look.reader.shard is None or look.reader.shard.is_open
    return is_open and look.empty_pages >= tip.pages and now - look.since >= tip.seconds


def unread_shards(asking: Asking, stream_arn: str, following: Followers, listed: Stream | None = None) -> Unread:
    """What some follower has not read yet, shard by shard.

    Who stands nowhere in a listed shard counts from its start, also in one that a listing does not show yet. `listed`
    saves listing them again. Raises as `first_unread`, and ShardLost if a checkpoint is a gap, if changes were
    trimmed, or if a shard vanished unread.
    """
    for name, positions in following.items():
        for position in positions.values():
            if position.state is ShardState.GAP:
                raise ShardLost(position, frozenset({name}))
    stream = listed or shards.describe(asking.client, stream_arn)
    now, asked = asking.clock.now(), following or {NOBODY: {}}
    absent = absence.look(asking.client, stream_arn, asked, stream.shards, asking.executor, now)
    positions = followers.merged(asked, stream.shards, now)
    wanted = {key: positions.get(key) or Position(key, None) for key in [*stream.shards, *sorted(absent.late)]}
    _require_kept(asking, stream_arn, following, stream.shards)
    first: dict[str, ChangeRecord | None] = {}
    for shard_id, answer in first_unread(
        asking, stream_arn, [(position, stream.shards.get(key)) for key, position in wanted.items()]
    ).items():
        if isinstance(answer, ShardLost):
            position = answer.position or wanted[shard_id]
            raise ShardLost(position, followers.behind(following, position, now))
        first[shard_id] = answer
    return Unread(first, _childless(stream, positions, now))


def _require_kept(asking: Asking, stream_arn: str, following: Followers, listed: Mapping[str, Shard]) -> None:
    """Raises ShardLost if one of several followers lost changes: they are asked at the furthest behind only."""
    if len(following) < 2:
        return
    distinct = {
        position
        for positions in following.values()
        for key, position in positions.items()
        if key in listed and position.state is ShardState.OPEN
    }

    def check(position: Position) -> None:
        require_kept(asking.client, stream_arn, position, listed[position.shard_id], asking.clock.now)

    try:
        list(asking.executor.map(check, distinct))
    except ShardLost as lost:
        if lost.position is None:
            raise
        raise ShardLost(lost.position, followers.behind(following, lost.position, asking.clock.now())) from lost


def _childless(stream: Stream, positions: Mapping[str, Position], now: datetime) -> frozenset[str]:
    """Shards that ended lately without a child; of one that was read to its end minutes ago none is to come."""
    if stream.status not in {"ENABLED", "ENABLING"}:
        return frozenset()
    childless = lineage.childless(stream.shards)
    return frozenset(shard_id for shard_id in childless if not ended_long_ago(positions.get(shard_id), now))
