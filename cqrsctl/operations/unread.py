"""What of the stream was not read yet: asked of the stream, as an idle shard's checkpoint looks like an old one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.change import Position, ShardState
from cqrsctl.stream.shard_reader import ShardLost
from cqrsctl.stream.unread import oldest_unread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cqrsctl.change import Checkpoints
    from cqrsctl.stream.shards import Stream, StreamsClient


@dataclass(frozen=True, slots=True)
class Unread:
    """A shard's oldest change that was not read; `since` None where it was trimmed already."""

    shard_id: str
    since: datetime | None


def unread_before(client: StreamsClient, stream: Stream, positions: Checkpoints, moment: datetime) -> Iterator[Unread]:
    """The shards whose oldest unread change is older than a moment. Raises AwsError.

    A shard that was read up to a later change is not asked. Shards that have gone are not told of: the projector does.
    """
    for shard_id, shard in stream.shards.items():
        position = positions.get(shard_id) or Position(shard_id, shard.parent_id)
        if position.state is not ShardState.OPEN or (position.record_time and position.record_time >= moment):
            continue
        try:
            change = oldest_unread(client, stream.arn, position)
        except ShardLost:
            yield Unread(shard_id, None)
            continue
        if change and change.created_at < moment:
            yield Unread(shard_id, change.created_at)
