"""How long the stream keeps a change, and whether one that was promised may be gone. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cqrsctl.change import RETENTION, ShardState

if TYPE_CHECKING:
    from datetime import datetime

    from cqrsctl.change import Position

CLOCK_SKEW = timedelta(minutes=5)
"""AWS refuses requests signed by clocks that are further off, so this machine's differs by no more."""
_MARGIN = 2 * CLOCK_SKEW


def may_be_trimmed(position: Position, now: datetime) -> bool:
    """Whether changes that come after a position may have left the stream before `now`, by this machine's clock.

    Nothing is promised of a shard that nobody registered. Where it is unknown how far a shard was read, they may.
    """
    if position.read_through is None:
        return position.sequence_number is not None
    return position.read_through < now - RETENTION + _MARGIN


def read_through(now: datetime) -> datetime:
    """What has certainly been read of a shard whose tip was reached `now`, by this machine's clock."""
    return now - CLOCK_SKEW


def later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of two times; an unknown one counts as earlier."""
    return max((moment for moment in (one, other) if moment is not None), default=None)


def ended_long_ago(position: Position | None, now: datetime) -> bool:
    """Whether a shard was read to its end minutes ago, so that a child that is not listed is none to come."""
    return (
        position is not None
        and position.state is ShardState.FINISHED
        and position.read_through is not None
        and position.read_through < now - 3 * CLOCK_SKEW
    )
