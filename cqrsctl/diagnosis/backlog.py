"""What of the stream is not applied yet, and how long the stream keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cqrsctl.change import RETENTION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cqrsctl.stream.lineage import Shard

FEW_HOURS = 12.0
"""Changes that are trimmed so soon want to be read."""
LAST_HOURS = 4.0
"""Changes that are trimmed so soon are nearly lost."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was not applied at a moment: the time of each shard's oldest such change, None if there was none.

    `unread` itself is None if it is unknown: the Lambda function projects, and AWS keeps its position. `at` is
    when the checkpoints were read; asking the stream then takes its time, in which a projector gets on.
    """

    at: datetime

    listed: Mapping[str, Shard]
    unread: Mapping[str, datetime | None] | None
    childless: frozenset[str] = frozenset()
    """Shards that ended a moment ago, and whose children are not listed yet: what is in those is unknown."""
    by_function: bool = False
    """Whether it is what the Lambda function has not handled, as far as its newest change shows that."""

    @property
    def oldest(self) -> datetime | None:
        """The time of the oldest change that is known not to be applied."""
        return min((moment for moment in (self.unread or {}).values() if moment is not None), default=None)

    @property
    def waiting_seconds(self) -> float | None:
        """How long the oldest change waited, 0 if none did; None if it is unknown."""
        if self.oldest is not None:
            return self.age_seconds(self.oldest)
        return None if self.unread is None or self.childless else 0.0

    @property
    def hours_left(self) -> float | None:
        """How many hours the oldest change stays in the stream; None if none waits, or if it is unknown."""
        return None if self.oldest is None else hours_left(self.age_seconds(self.oldest))

    def waiting_in(self, shard_id: str) -> float | None:
        """How long the oldest change of a shard waited, 0 if none did; None if it is unknown."""
        moment = self._unread_in(shard_id)
        if moment is not None:
            return self.age_seconds(moment)
        return 0.0 if self.unread is not None and shard_id in self.unread else None

    def hours_left_in(self, shard_id: str) -> float | None:
        """How many hours the oldest change of a shard stays; None if none waits, or if it is unknown."""
        moment = self._unread_in(shard_id)
        return None if moment is None else hours_left(self.age_seconds(moment))

    def age_seconds(self, moment: datetime) -> float:
        """How old a change was by this machine's clock; 0 if another clock is ahead of it."""
        return max((self.at - moment).total_seconds(), 0.0)

    def _unread_in(self, shard_id: str) -> datetime | None:
        return (self.unread or {}).get(shard_id)


def hours_left(age_seconds: float) -> float:
    """How many hours a change of that age stays in the stream."""
    return round(max(RETENTION - timedelta(seconds=age_seconds), timedelta(0)) / timedelta(hours=1), 1)
