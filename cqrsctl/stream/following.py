"""The projections that read along, during one reading: where each stands, and from where each shard is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cqrsctl.change import Page, Position, ShardState
from cqrsctl.stream import absence, followers, lineage
from cqrsctl.stream.followers import NOBODY
from cqrsctl.stream.retention import ended_long_ago
from cqrsctl.stream.shard_reader import ShardLost, is_kept_after_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from cqrsctl.change import ChangeRecord, Checkpoints
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient

_REMEMBER_TIP = timedelta(hours=1)
"""How often it is written down that an idle shard was read to its tip."""
_GONE_AFTER = timedelta(minutes=2)
"""How long each answer has to be that a shard is gone, if one may be wrong and nothing else shows it."""


@dataclass(slots=True)
class Following:
    """`by_name` are the positions of each follower, as far as pages were handed out; `positions` as far as shards are
    read, each from the position of the follower that is furthest behind."""

    client: StreamsClient
    stream_arn: str
    by_name: dict[str, dict[str, Position]]
    now: Callable[[], datetime]
    executor: Executor
    positions: dict[str, Position] = field(default_factory=dict)
    _remembered: dict[str, datetime] = field(default_factory=dict)
    _gaps_checked: bool = False
    _missed_since: dict[str, datetime] = field(default_factory=dict)

    @property
    def is_new(self) -> bool:
        """Whether nobody has a position yet."""
        return not any(self.by_name.values())

    def in_shard(self, shard_id: str) -> dict[str, Position]:
        """The followers that stand somewhere in a shard, each with its position."""
        return followers.in_shard(self.by_name, shard_id)

    def counts_on(self, shard: Shard) -> bool:
        """Whether a follower read the parent of a shard, so that all changes of the shard are promised."""
        return any(shard.parent_id in positions for positions in self.by_name.values())

    def lost(self, position: Position) -> ShardLost:
        """The error of a loss that a shard's reader met, with the followers that needed the changes."""
        return ShardLost(position, followers.behind(self.by_name, position, self.now()) - {NOBODY})

    def absent(self, listed: Mapping[str, Shard]) -> tuple[list[Page], frozenset[str]]:
        """Shards that a listing should show and does not: pages that finish those that nobody needs, and the ids of
        those that are late, though they exist; their descendants wait for them.

        Raises ShardLost if one does not exist any more and was needed; AwsError.
        """
        now = self.now()
        found = absence.look(self.client, self.stream_arn, self.by_name, listed, self.executor, now)
        missed = {position.shard_id for _, position in found.doubtful}
        self._missed_since = {shard_id: self._missed_since.get(shard_id, now) for shard_id in missed}
        gone = {shard_id for shard_id, since in self._missed_since.items() if now - since >= _GONE_AFTER}
        over = []
        for name, position in (*found.needless, *(each for each in found.doubtful if each[1].shard_id in gone)):
            finished = replace(position, state=ShardState.FINISHED)
            self.by_name[name][position.shard_id] = finished
            over.append(Page((), finished))
        return over, found.late - gone

    def ended_lately(self, listed: Mapping[str, Shard]) -> frozenset[str]:
        """Shards that a follower read to their end a moment ago, and that a listing lacks: it may lack children too."""
        now = self.now()
        return frozenset(
            shard_id
            for positions in self.by_name.values()
            for shard_id, position in positions.items()
            if shard_id not in listed and position.state is ShardState.FINISHED and not ended_long_ago(position, now)
        )

    def healed(self, listed: Mapping[str, Shard]) -> Iterator[Page]:
        """Look at each gap again, once: one answer may have been wrong. Raises ShardLost if it is one, AwsError."""
        if self._gaps_checked:
            return
        for name, positions in self.by_name.items():
            for position in [each for each in positions.values() if each.state is ShardState.GAP]:
                if not self._is_kept(position, positions, listed.get(position.shard_id)):
                    raise ShardLost(position, frozenset({name}) - {NOBODY})
                positions[position.shard_id] = replace(position, state=ShardState.OPEN)
                yield Page((), positions[position.shard_id])
        self._gaps_checked = True

    def _is_kept(self, gap: Position, positions: Checkpoints, listed: Shard | None) -> bool:
        if gap.sequence_number is None and gap.parent_id is not None and gap.parent_id not in positions:
            return False  # it was the parent that was lost
        return is_kept_after_all(self.client, self.stream_arn, gap, listed, self.now)

    def registered(
        self, listed: Mapping[str, Shard], start: Callable[[Shard, Checkpoints, datetime], Position]
    ) -> Iterator[Page]:
        """Remember shards that a follower did not know, at their `start`, and from where each shard is read."""
        now = self.now()
        for shard in lineage.oldest_first(listed.values()):
            newcomers = [positions for positions in self.by_name.values() if shard.shard_id not in positions]
            for positions in newcomers:
                positions[shard.shard_id] = start(shard, positions, now)
            if shard.shard_id not in self.positions:
                self.positions[shard.shard_id] = followers.furthest_behind(self.in_shard(shard.shard_id).values())
            if newcomers:
                yield Page((), self.positions[shard.shard_id])

    def is_to_be_remembered(self, position: Position) -> bool:
        """Whether it was long ago that it was written down how far an idle shard was read."""
        known = self._remembered.get(position.shard_id)
        if known is None:
            known = followers.furthest_behind(self.in_shard(position.shard_id).values()).read_through
        through = position.read_through
        return through is not None and (known is None or through - known >= _REMEMBER_TIP)

    def hand_out(self, changes: tuple[ChangeRecord, ...], position: Position) -> Page:
        """A page, with the followers moved to its position: before the next one is taken they have applied it."""
        if position.read_through is not None:
            self._remembered[position.shard_id] = position.read_through
        for positions in self.by_name.values():
            positions[position.shard_id] = position.unless_further(positions.get(position.shard_id))
        return Page(changes, position)
