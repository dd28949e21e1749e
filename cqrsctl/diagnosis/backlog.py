"""What of the stream is not applied yet: the stream, asked at each shard's checkpoint."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import AwsError, ConfigurationError
from cqrsctl.functions import metrics
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.pipeline import function_operations
from cqrsctl.pipeline.streams import glanced_tip
from cqrsctl.read_model import checkpoints, function_position, heartbeat
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.takeover import lost, require_filled, unfilled
from cqrsctl.stream import shards
from cqrsctl.stream.unread import Asking, unread_shards

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cqrsctl.change import Followers
    from cqrsctl.clock import Clock
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import Stream
    from cqrsctl.wiring import Wiring

_log = logging.getLogger(__name__)

_MOST_PROBES = 16


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was not applied at a moment: the time of each shard's oldest such change, None where there was none.

    `unread` itself is None where that is not known: the Lambda function projects, and AWS keeps its position. `at` is
    when the checkpoints were read; asking the stream then takes its time, in which a projector gets on.
    """

    at: datetime

    listed: Mapping[str, Shard]
    unread: Mapping[str, datetime | None] | None
    childless: frozenset[str] = frozenset()
    """Shards that ended a moment ago, and whose children are not listed yet: what is in those is unknown."""

    @property
    def oldest(self) -> datetime | None:
        """The time of the oldest change that is known not to be applied."""
        return min((moment for moment in (self.unread or {}).values() if moment is not None), default=None)

    @property
    def waiting_seconds(self) -> float | None:
        """How long the oldest change waited, 0 where none did; None where that is not known."""
        if self.oldest is not None:
            return self.age_seconds(self.oldest)
        return None if self.unread is None or self.childless else 0.0

    def age_seconds(self, moment: datetime) -> float:
        """How old a change was by this machine's clock; 0 where another clock is ahead of it."""
        return max((self.at - moment).total_seconds(), 0.0)


def backlog(wiring: Wiring, stream_arn: str, clock: Clock, *, mapped: bool, listed: Stream | None = None) -> Backlog:
    """What is not applied yet. `mapped`: the stream is mapped to the Lambda function; `listed` saves listing shards.

    Raises StreamGap where changes were lost, AwsError, DatabaseError, ConfigurationError.
    """
    following = _followers(wiring, stream_arn, mapped=mapped)
    at = clock.now()
    stream = listed or shards.describe(wiring.streams, stream_arn)
    with ThreadPoolExecutor(_MOST_PROBES, thread_name_prefix="probe") as executor:
        asking = Asking(wiring.streams, executor, clock, glanced_tip(wiring))
        found = unread_shards(asking, stream_arn, following or {}, stream)
    unread = {shard_id: change.created_at if change else None for shard_id, change in found.first.items()}
    if following is None and any(unread.values()):
        return Backlog(at, stream.shards, None)
    # where the stream holds nothing at all, nothing is unread, whoever projects
    return Backlog(at, stream.shards, unread, found.childless)


def _followers(wiring: Wiring, stream_arn: str, *, mapped: bool) -> Followers | None:
    """The checkpoints, empty where nobody ever projected; None where they tell nothing, as the function projects.

    Raises StreamGap if the function left a gap, or a projector that took over from it now would find one.
    """
    names = {projection.name for projection in wiring.environment.projections}
    try:
        with connect(wiring.database) as connection:
            function_position.require_whole(function_position.gaps(connection, names))
            require_filled(unfilled(connection, names))
            gaps = lost(connection, stream_arn, names, lambda: function_operations.reads_since(wiring, stream_arn))
            if found_here := [(name, reason) for reason, found in gaps.items() for name in found if name in names]:
                raise function_position.error(found_here)
            by_function = heartbeat.by_function(connection)
            if by_function and mapped:
                return None
            found = checkpoints.read(connection, wiring.environment.projections, stream_arn)
    except ReadModelMissing:
        return {}
    return found if any(found.values()) else (None if by_function else {})


def iterator_age(wiring: Wiring, now: datetime) -> float | None:
    """The projector function's iterator age in seconds; None where CloudWatch does not tell, or is not there."""
    try:
        return metrics.iterator_age_seconds(wiring.client("cloudwatch", attempts=1), PROJECTOR, now)
    except (AwsError, ConfigurationError) as error:
        _log.info("the iterator age is not known: %s", error.message)
        return None
