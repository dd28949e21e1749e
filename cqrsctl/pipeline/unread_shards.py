"""What of the stream was not read yet: asked of the stream, as an idle shard's checkpoint looks like an old one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.change import ShardState
from cqrsctl.stream.followers import start_of
from cqrsctl.stream.shard_reader import ShardLost
from cqrsctl.stream.unread import first_unread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cqrsctl.change import Checkpoints
    from cqrsctl.stream.shards import Stream
    from cqrsctl.stream.unread import Asking


@dataclass(frozen=True, slots=True)
class UnreadShard:
    """A shard's oldest change that was not read; `since` None if it was trimmed already."""

    shard_id: str
    since: datetime | None


def unread_before(asking: Asking, stream: Stream, positions: Checkpoints, moment: datetime) -> Iterator[UnreadShard]:
    """The shards whose oldest unread change is older than a moment. Raises AwsError.

    A shard that was read up to a later change is not asked. Shards that have gone are left to the projector.
    """
    now = asking.clock.now()
    asked = [
        (position, shard)
        for shard in stream.shards.values()
        if (position := positions.get(shard.shard_id) or start_of(shard, positions, now)).state is ShardState.OPEN
        and (position.sequence_number is None or not position.record_time or position.record_time < moment)
    ]
    for shard_id, found in first_unread(asking, stream.arn, asked).items():
        if isinstance(found, ShardLost):
            yield UnreadShard(shard_id, None)
        elif found and found.created_at < moment:
            yield UnreadShard(shard_id, found.created_at)
