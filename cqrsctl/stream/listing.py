"""Listing a stream's shards beside the reading: all of them now and then, the children of those that ended at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cqrsctl.errors import AwsError, TransientAwsError
from cqrsctl.stream import lineage, shards
from cqrsctl.stream.poll import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor, Future

    from cqrsctl.clock import Clock
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient

RELIST_SECONDS = 30.0
SHORTEST_PAUSE_SECONDS = 2.0
_CALLS_A_SECOND = 8.0
"""AWS takes ten DescribeStream calls a second for each account and region; the rest is for others."""
_REFUSED_FILTERS = {"validation", "parameter_validation", "unknown_parameter", "serialization"}


@dataclass(slots=True)
class ListingPace:
    """Spreads calls over time. The first ones of a burst are made at once."""

    clock: Clock
    calls_a_second: float = _CALLS_A_SECOND
    _free_at: float = 0.0

    def __call__(self) -> None:
        now = self.clock.monotonic()
        earliest = now - 2 / self.calls_a_second  # so that a burst stays within the limit of any one second
        self._free_at = max(self._free_at, earliest) + 1 / self.calls_a_second
        if self._free_at > now:
            self.clock.sleep(self._free_at - now)


@dataclass(slots=True)
class Listing:
    """What is known of a stream's shards, and when they are listed again. `known` None: nothing yet.

    A shard that ended has children, most likely; they are asked for at once, but no listing comes sooner than two
    seconds after the one before.
    """

    client: StreamsClient
    stream_arn: str
    clock: Clock
    executor: Executor
    check: Callable[[], None] = lambda: None
    """Called with each listing of all shards; what it raises the listing raises."""
    known: Mapping[str, Shard] | None = None
    all_listed_at: float = 0.0
    """When the last listing of all shards began."""
    is_enabled: bool = True
    _under_way: Future[Mapping[str, Shard]] | None = None
    _pace: ListingPace = field(init=False)
    _all_due: float = field(init=False)
    _pause_until: float = field(init=False)
    _ended: set[str] = field(default_factory=set)
    """Shards that were read to their end and whose children are to be asked for."""
    _asked: frozenset[str] = frozenset()
    _takes_filters: bool = True
    _pages: int = 1
    _failures: int = 0

    def __post_init__(self) -> None:
        self._pace = ListingPace(self.clock)
        self._all_due = self._pause_until = self.clock.monotonic()

    @property
    def is_complete(self) -> bool:
        """Whether no shard ended, and none failed to be listed, since the last listing began."""
        return (
            self.known is not None
            and self._under_way is None
            and not self._ended
            and not self._failures
            and self._all_due > self.clock.monotonic()
        )

    @property
    def future(self) -> Future[Mapping[str, Shard]] | None:
        """The listing that is under way."""
        return self._under_way

    @property
    def due(self) -> float:
        """When the next listing is to begin."""
        return self._pause_until if self._ended else max(self._all_due, self._pause_until)

    def ended(self, shard_id: str) -> None:
        """A shard was read to its end: its children are wanted."""
        self._ended.add(shard_id)

    def again(self, seconds: float) -> None:
        """List all shards once more before long."""
        self._all_due = min(self._all_due, self.clock.monotonic() + seconds)

    def failed(self) -> None:
        """A listing, or what was made of it, failed: try again, later and later."""
        self._failures += 1
        self._ended |= self._asked
        self._pause_until = self.clock.monotonic() + backoff(self._failures)
        self._all_due = min(self._all_due, self._pause_until)

    def begin_if_due(self) -> None:
        now = self.clock.monotonic()
        if self._under_way is not None or now < self.due:
            return
        self._asked, self._ended = frozenset(self._ended), set()
        whole = self.known is None or now >= self._all_due or not self._asked
        if whole or not self._takes_filters or len(self._asked) >= self._pages:
            self._under_way = self.executor.submit(self._list_all)
        else:
            self._under_way = self.executor.submit(self._list_children, self._asked)

    def take(self) -> Mapping[str, Shard] | None:
        """The shards, if a listing is done; None otherwise. Raises what the listing raised."""
        if self._under_way is None or not self._under_way.done():
            return None
        done, self._under_way = self._under_way, None
        self.known = done.result()
        self._failures = 0
        self._pause_until = self.clock.monotonic() + SHORTEST_PAUSE_SECONDS
        return self.known

    def _list_all(self) -> Mapping[str, Shard]:
        pages = 0

        def pace() -> None:
            nonlocal pages
            pages += 1
            self._pace()

        begun = self.clock.monotonic()
        self._all_due = begun + RELIST_SECONDS
        stream = shards.describe(self.client, self.stream_arn, pace=pace)
        self.check()
        self._pages = pages
        self.all_listed_at = begun
        self.is_enabled = stream.status in {"ENABLED", "ENABLING"}
        return stream.shards

    def _list_children(self, parents: frozenset[str]) -> Mapping[str, Shard]:
        """The known shards with the children of some; all again if the endpoint takes no filter, or shows none."""
        found = dict(self.known or {})
        try:
            for parent in sorted(parents):
                children = shards.describe(self.client, self.stream_arn, pace=self._pace, children_of=parent).shards
                found.update(children)
        except TransientAwsError:
            raise
        except AwsError as error:
            if error.code not in _REFUSED_FILTERS:
                raise
            self._takes_filters = False
            return self._list_all()
        if parents & lineage.childless(found):
            return self._list_all()
        return found
