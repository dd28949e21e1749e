"""Shards that a listing should show and does not: whether they are late, lost, or were needed by nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.stream import lineage, shards
from cqrsctl.stream.followers import NOBODY, Absent, why_absent
from cqrsctl.stream.shard_reader import ShardLost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from cqrsctl.change import Followers, Position
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient


@dataclass(frozen=True, slots=True)
class Absence:
    """`late`: the ids of shards that exist all the same, or may do. `needless`: followers with positions in shards that
    are gone, and that nobody promised them. `doubtful`: likewise, if the shards are gone indeed; they count as late."""

    late: frozenset[str]
    needless: tuple[tuple[str, Position], ...]
    doubtful: tuple[tuple[str, Position], ...]


def look(
    client: StreamsClient,
    stream_arn: str,
    following: Followers,
    listed: Mapping[str, Shard],
    executor: Executor,
    now: datetime,
) -> Absence:
    """Ask for the shards that are absent, side by side.

    Raises ShardLost if one does not exist any more and was needed; AwsError.
    """
    missing = [
        (name, shard_id, position)
        for name, positions in following.items()
        for shard_id, position in lineage.unlisted(listed, positions)
    ]
    asked = list(dict.fromkeys(shard_id for _, shard_id, _ in missing))
    answers = executor.map(lambda shard_id: shards.exists(client, stream_arn, shard_id), asked)
    late = {shard_id for shard_id, exists in zip(asked, answers, strict=True) if exists}
    needless, doubtful = [], []
    for name, shard_id, position in missing:
        if shard_id in late or not following[name]:  # without any position, nothing was promised
            continue
        match why_absent(shard_id, position, following[name], now):
            case Absent.LOST:
                raise ShardLost(position, frozenset({name}) - {NOBODY})
            case Absent.NEEDLESS:
                needless.append((name, position))
            case Absent.DOUBTFUL:
                doubtful.append((name, position))
            case Absent.LATE:
                late.add(shard_id)
    # A shard ends for all who follow: not before the last of them can do without it.
    unsure = late | {position.shard_id for _, position in doubtful}
    return Absence(
        frozenset(unsure),
        tuple(each for each in needless if each[1].shard_id not in unsure),
        tuple(each for each in doubtful if each[1].shard_id not in late),
    )
