"""What the stream still has after a position: asked with a fresh iterator, beside whoever reads the shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.change import Position, ShardState
from cqrsctl.stream import shards
from cqrsctl.stream.poll import EMPTY_PAGES_AT_TIP
from cqrsctl.stream.shard_reader import ShardReader

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from cqrsctl.change import ChangeRecord, Checkpoints
    from cqrsctl.stream.shards import StreamsClient


def oldest_unread(client: StreamsClient, stream_arn: str, position: Position) -> ChangeRecord | None:
    """The first change after a position, as the stream has it now; None where there is none.

    A few empty pages in a row are taken for the tip, as AWS may return some before it. Raises ShardLost where changes
    were trimmed, TransientAwsError, AwsError.
    """
    if position.state is ShardState.FINISHED:
        return None
    reader = ShardReader(client, stream_arn, position)
    for _ in range(EMPTY_PAGES_AT_TIP):
        page = reader.read().page
        if page.changes:
            return page.changes[0]
        if page.position.state is ShardState.FINISHED:
            return None
    return None


def unread_shards(
    client: StreamsClient, stream_arn: str, positions: Checkpoints, executor: Executor
) -> dict[str, ChangeRecord | None]:
    """The first unread change of each listed shard that is not finished, by shard id; asked side by side.

    A shard without a position counts from its start. Raises as `oldest_unread`.
    """
    listed = shards.describe(client, stream_arn).shards.values()
    known = [positions.get(shard.shard_id) or Position(shard.shard_id, shard.parent_id) for shard in listed]
    unfinished = [position for position in known if position.state is not ShardState.FINISHED]
    found = executor.map(lambda position: oldest_unread(client, stream_arn, position), unfinished)
    return {position.shard_id: change for position, change in zip(unfinished, found, strict=True)}
