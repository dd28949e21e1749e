"""How far the read model is behind the write model: at the projector, and at each reader.

The lag is the age of the oldest change that is not applied yet: the stream is asked at each shard's checkpoint, and
where it has nothing there, the lag is 0. If the Lambda function projects, AWS keeps the positions and there are no
checkpoints: then the function's iterator age is taken. A quiet table has none: then the lag is the age of a change
that comes after the newest one that the function handled, and 0 if there is none and Lambda reads without a problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cqrsctl.diagnosis.backlog import hours_left
from cqrsctl.diagnosis.facts import TOLERATED_SECONDS, Facts
from cqrsctl.errors import ConfigurationError, CqrsctlError, TooSlow
from cqrsctl.read_model.sink import BEAT_SECONDS
from cqrsctl.stream.lineage import oldest_first
from cqrsctl.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from cqrsctl.clock import Clock
    from cqrsctl.diagnosis.backlog import Backlog
    from cqrsctl.diagnosis.looks import Looks
    from cqrsctl.diagnosis.servers import ReaderLag
    from cqrsctl.wiring import Wiring

_ROUNDING_SECONDS = 1.0
"""Records' times are whole seconds, so a change may be that much younger than it looks."""
_DOUBT_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.25


class LagSource(StrEnum):
    """What the lag is known from."""

    CHECKPOINTS = "checkpoints"
    ITERATOR_AGE = "iterator_age"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True)
class ShardLag:
    """A shard that is not read to its end. None: not known, or for `hours_left` that there is nothing unread."""

    shard: str
    state: str
    lag_seconds: float | None
    hours_left: float | None


@dataclass(frozen=True, slots=True)
class Lag:
    """How far everything is behind. `lag_seconds` None: not known, for a reason."""

    lag_seconds: float | None
    hours_left: float | None = None
    shards: tuple[ShardLag, ...] = ()
    readers: tuple[ReaderLag, ...] = ()
    iterator_age_seconds: float | None = None
    source: LagSource = LagSource.CHECKPOINTS
    reason: str | None = None


def measure(wiring: Wiring, clock: Clock, tolerated_seconds: float = TOLERATED_SECONDS) -> Lag:
    """Look once. Raises StreamGap if changes were lost, AwsError, DatabaseError, ConfigurationError."""
    return judged(Facts(wiring, clock, tolerated_seconds))


def judged(facts: Facts) -> Lag:
    """What the facts say of the lag. Raises as `measure`."""
    facts.ask(Facts.backlog, Facts.readers, Facts.mappings, Facts.iterator_age_seconds)
    return _lag(facts.backlog(), tuple(facts.readers()), facts.known_iterator_age())


def measure_on(looks: Looks) -> Lag:
    """As `measure` for a view that keeps running: what fails makes the lag unknown. Raises ConfigurationError."""
    try:
        return judged(looks.next())
    except ConfigurationError:
        raise
    except CqrsctlError as error:
        return Lag(None, reason=error.message)


def check(look: Callable[[], Lag], limit: timedelta, clock: Clock) -> tuple[Lag, TooSlow | None]:
    """What a look shows, and the error to end with if something is over the limit, or not known.

    If one look cannot decide it, for the rounding of records' times or for a heartbeat between two beats, it looks
    again for some seconds.
    """
    seconds = limit.total_seconds()
    begun = clock.monotonic()
    while not _is_certain(found := look(), seconds, clock.monotonic() - begun):
        clock.sleep(_LOOK_AGAIN_SECONDS)
    behind = [*_applier_behind(found, seconds), *_readers_behind(found, seconds)]
    if not behind:
        return found, None
    return found, TooSlow(
        f"{'. '.join(behind)}. The limit is {duration(seconds)}.", hint="See what is wrong with: cqrsctl status"
    )


def _is_certain(found: Lag, limit: float, waited_seconds: float) -> bool:
    """Whether a look can be believed, after waiting so long for one that can.

    A lag that stays in doubt is not over the limit. A reader is, if no new heartbeat comes for as long as a projector
    is between two beats.
    """
    ages = [reader.lag_seconds for reader in found.readers]
    if _applier_behind(found, limit) or any(age is None or age > limit + BEAT_SECONDS for age in ages):
        return True
    if any(age is not None and age > limit for age in ages):
        return waited_seconds > BEAT_SECONDS
    return (found.lag_seconds or 0.0) <= limit or waited_seconds >= _DOUBT_SECONDS


def _lag(found: Backlog, readers: tuple[ReaderLag, ...], iterator_age: float | None) -> Lag:
    ordered = [shard.shard_id for shard in oldest_first(found.listed.values())]
    if found.unread is not None:
        ordered = [shard_id for shard_id in ordered if shard_id in found.unread]
        ordered += [shard_id for shard_id in found.unread if shard_id not in found.listed]
    each = tuple(_shard_lag(shard_id, found) for shard_id in ordered)
    waiting = found.waiting_seconds
    source = LagSource.FUNCTION if found.by_function else LagSource.CHECKPOINTS
    if found.unread is not None and waiting is None:
        reason = (
            f"shard {min(found.childless)} ended, and DescribeStream lists no child of it yet; look again in a minute"
        )
        return Lag(None, None, each, readers, iterator_age, reason=reason)
    if waiting is not None:
        return Lag(waiting, found.hours_left, each, readers, iterator_age, source)
    reason = (
        "the Lambda function projects, CloudWatch has no iterator age of the last 15 minutes, and nothing shows that "
        "Lambda reads the stream without a problem"
    )
    return Lag(
        lag_seconds=iterator_age,
        hours_left=hours_left(iterator_age) if iterator_age else None,
        shards=each,
        readers=readers,
        iterator_age_seconds=iterator_age,
        source=LagSource.ITERATOR_AGE,
        reason=reason if iterator_age is None else None,
    )


def _shard_lag(shard_id: str, found: Backlog) -> ShardLag:
    listed = found.listed.get(shard_id)
    state = "unlisted" if listed is None else "open" if listed.is_open else "closed"
    return ShardLag(shard_id, state, found.waiting_in(shard_id), found.hours_left_in(shard_id))


def _applier_behind(found: Lag, limit: float) -> list[str]:
    """The side that applies changes, if it is certainly behind, or if that is unknown."""
    if found.lag_seconds is None:
        return [f"How far the projector is behind is unknown: {found.reason}"]
    rounding = 0.0 if found.source is LagSource.ITERATOR_AGE else _ROUNDING_SECONDS
    if found.lag_seconds - rounding <= limit:
        return []
    if found.source is LagSource.ITERATOR_AGE:
        return [f"The Lambda function is behind: its iterator age is {duration(found.lag_seconds)}"]
    who = "Lambda function" if found.source is LagSource.FUNCTION else "projector"
    return [f"The {who} is behind: the oldest change that is not applied is {duration(found.lag_seconds)} old"]


def _readers_behind(found: Lag, limit: float) -> list[str]:
    unknown = [
        f"How far reader {reader.reader} is behind is unknown: {reader.reason}"
        for reader in found.readers
        if reader.lag_seconds is None
    ]
    return unknown + [
        f"Reader {reader.reader} is behind: by up to {duration(reader.lag_seconds)}"
        for reader in found.readers
        if reader.lag_seconds is not None and reader.lag_seconds > limit
    ]
