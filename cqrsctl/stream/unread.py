"""What the stream still has after a position: asked with a fresh iterator, beside whoever reads the shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.change import Position, ShardState
from cqrsctl.stream import lineage, shards
from cqrsctl.stream.poll import EMPTY_PAGES_AT_TIP
from cqrsctl.stream.shard_reader import ShardLost, ShardReader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from cqrsctl.change import ChangeRecord, Checkpoints
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient


def oldest_unread(
    client: StreamsClient, stream_arn: str, position: Position, *, closed: bool = False
) -> ChangeRecord | None:
    """The first change after a position, as the stream has it now; None where there is none.

    A few empty pages in a row are taken for the tip, as AWS may return some before it; a `closed` shard is read to its
    end. Raises ShardLost where changes were trimmed, TransientAwsError, AwsError.
    """
    if position.state is ShardState.FINISHED:
        return None
    reader = ShardReader(client, stream_arn, position)
    empty_pages = 0
    while closed or empty_pages < EMPTY_PAGES_AT_TIP:
        read = reader.read()
        if read.page.changes:
            return read.page.changes[0]
        if read.page.position.state is ShardState.FINISHED:
            return None
        # Changes from before `since` are no unread ones, but they are no sign of the tip either.
        empty_pages = 0 if read.records else empty_pages + 1
    return None


def unread_shards(
    client: StreamsClient,
    stream_arn: str,
    positions: Checkpoints,
    executor: Executor,
    listed: Mapping[str, Shard] | None = None,
) -> dict[str, ChangeRecord | None]:
    """The first unread change of each shard that is not finished, by shard id; asked side by side.

    A shard without a position counts from its start, also one that a listing does not show yet. `listed` saves listing
    them again. Raises as `oldest_unread`, and ShardLost where a checkpoint is a gap, or a shard vanished unread.
    """
    for position in positions.values():
        if position.state is ShardState.GAP:
            raise ShardLost(position)
    if listed is None:
        listed = shards.describe(client, stream_arn).shards
    late = _late(client, stream_arn, positions, executor, listed)
    known = [positions.get(shard.shard_id) or Position(shard.shard_id, shard.parent_id) for shard in listed.values()]
    known += [positions.get(shard_id) or Position(shard_id, None) for shard_id in late]
    unfinished = [position for position in known if position.state is not ShardState.FINISHED]

    def asked(position: Position) -> ChangeRecord | None:
        closed = position.shard_id in listed and not listed[position.shard_id].is_open
        return oldest_unread(client, stream_arn, position, closed=closed)

    found = executor.map(asked, unfinished)
    return {position.shard_id: change for position, change in zip(unfinished, found, strict=True)}


def _late(
    client: StreamsClient,
    stream_arn: str,
    positions: Checkpoints,
    executor: Executor,
    listed: Mapping[str, Shard],
) -> list[str]:
    """Shards that the listing leaves out though they exist. Raises ShardLost where one is gone that was promised."""
    absent = lineage.unlisted(listed, positions)
    asked = list(dict.fromkeys(shard_id for shard_id, _ in absent))
    there = executor.map(lambda shard_id: shards.exists(client, stream_arn, shard_id), asked)
    late = [shard_id for shard_id, exists in zip(asked, there, strict=True) if exists]
    for shard_id, position in absent:
        if shard_id not in late and positions:  # without any position, nothing was promised
            raise ShardLost(position)
    return late
