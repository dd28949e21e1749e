"""Which shards may be read now, and which were lost: decisions about the shard tree. Pure.

A shard's parent is read to its end first, so that the changes of one item keep their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.change import Position, ShardState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cqrsctl.change import Checkpoints


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as DescribeStream lists it. `ending` None: it is open."""

    shard_id: str
    parent_id: str | None
    starting: int
    ending: int | None

    @property
    def is_open(self) -> bool:
        return self.ending is None


def readable(shards: Mapping[str, Shard], finished: Collection[str]) -> list[Shard]:
    """The shards that are not finished and whose parent is finished, or no longer exists."""
    return [
        shard
        for shard in shards.values()
        if shard.shard_id not in finished
        and (shard.parent_id is None or shard.parent_id in finished or shard.parent_id not in shards)
    ]


def unlisted(shards: Mapping[str, Shard], checkpoints: Checkpoints) -> list[tuple[str, Position]]:
    """Shards that a listing should hold and does not: each with the position that cannot be followed without it.

    These are shards that were not read to their end, and parents of new shards that are neither listed nor known:
    whole generations may have passed unread. A listing may also just be late, so whether they exist is to be asked.
    """
    unfinished = [
        (position.shard_id, position)
        for position in checkpoints.values()
        if position.state is ShardState.OPEN and position.shard_id not in shards
    ]
    parents = [
        (shard.parent_id, Position(shard.shard_id, shard.parent_id))
        for shard in shards.values()
        if shard.shard_id not in checkpoints
        and shard.parent_id is not None
        and shard.parent_id not in shards
        and shard.parent_id not in checkpoints
    ]
    return unfinished + parents


def without_descendants(shards: Mapping[str, Shard], ancestors: Collection[str]) -> dict[str, Shard]:
    """The shards that descend from none of the ancestors."""
    excluded = set(ancestors)
    kept = dict(shards)
    while found := {key for key, shard in kept.items() if shard.parent_id in excluded}:
        excluded |= found
        kept = {key: shard for key, shard in kept.items() if key not in found}
    return kept


def childless(shards: Mapping[str, Shard]) -> set[str]:
    """The closed shards of which no child is listed: most likely the listing does not show them yet."""
    parents = {shard.parent_id for shard in shards.values()}
    return {shard_id for shard_id, shard in shards.items() if not shard.is_open and shard_id not in parents}


def oldest_first(shards: Iterable[Shard]) -> list[Shard]:
    """Shards in the order of their first sequence number, parents before children."""
    return sorted(shards, key=lambda shard: (shard.starting, shard.shard_id))
