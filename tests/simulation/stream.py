"""A DynamoDB table and its stream, simulated: boto3's three stream operations over shards kept in memory.

All chance comes from one seeded generator and all time from a clock that is passed in, so that a run can be had
again. What it does is what DynamoDB Streams is documented, or was seen, to do: shards are listed in no order and
a page at a time, pages are empty before the tip, a closed shard's last page has records and no next iterator,
iterators expire, records are trimmed, calls are throttled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

if TYPE_CHECKING:
    import random
    from decimal import Decimal

ITERATOR_LIFE_SECONDS = 15 * 60
RETENTION = timedelta(hours=24)
MOST_EMPTY_PAGES = 4
"""Empty pages in a row before records of an open shard: the reader takes five for the tip."""
MOST_EMPTY_PAGES_OF_A_CLOSED_SHARD = 12
_HASHES = 2**32
_THROTTLED = {"DescribeStream": "LimitExceededException"}
_FIRST_NUMBER = 10**21 - 10**6
"""Just below 22 digits: numbers compared as text would soon be out of order."""
_ATTEMPTS = 4
"""As the clients of `wiring` have it."""


class Clock(Protocol):
    """Virtual time. Sleeping lets the rest of the world go on."""

    def aws_now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


@dataclass(slots=True)
class Faults:
    """How often things go wrong, as probabilities of each call, and how long a call takes."""

    throttled: float = 0.0
    failed: float = 0.0
    unreachable: float = 0.0
    expired: float = 0.0
    empty_page: float = 0.0
    separate_end: float = 0.0
    """A closed shard's end comes as an empty page of its own."""
    repeated: float = 0.0
    """A page begins with records that were served before."""
    late_listing: float = 0.0
    """A shard is not listed for a few seconds after it was closed or opened, a parent longer than its child or not."""
    call_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Product:
    """An item of the table, as far as its columns are projected."""

    name: str
    price: Decimal
    out_of_stock: bool = False

    @property
    def fits(self) -> bool:
        return len(self.name) <= 255


@dataclass(slots=True, eq=False)
class SimulatedShard:
    """A shard: a range of key hashes, and the records of its keys in order."""

    shard_id: str
    stream_arn: str
    parent_id: str | None
    low: int
    high: int
    rank: float
    opened_at: datetime
    starting: int
    next_number: int
    ending: int | None = None
    closed_at: datetime | None = None
    numbers: list[int] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    written_at: list[datetime] = field(default_factory=list)
    readable_from: list[float] = field(default_factory=list)
    trimmed_through: int = 0
    listed_from: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.ending is None

    def trim(self, before: datetime) -> int:
        """Forget the records written before a moment; how many they were."""
        count = bisect_right(self.written_at, before)
        if count:
            self.trimmed_through = self.numbers[count - 1]
            del self.numbers[:count], self.records[:count], self.written_at[:count], self.readable_from[:count]
        return count


class SimulatedStream:
    """A table of products with its stream. `table` is the true state; the operations are those of boto3's client."""

    def __init__(
        self,
        rng: random.Random,
        clock: Clock,
        *,
        shards: int = 1,
        faults: Faults | None = None,
        listed_a_page: int = 100,
        records_a_page: int = 1_000,
        rounded_to_seconds: int = 60,
    ) -> None:
        self.faults = faults or Faults()
        self.outage: str | None = None
        """An operation that always fails for now; `all` for every operation."""
        self.denied_until = 0.0
        """Until then every call is refused as not allowed."""
        self.attempts = 1
        """How often a client makes a call that fails, before it gives up."""
        self.delay_seconds = 0.0
        """So long at most a change is in the table already and not yet in the stream."""
        self.is_on = True
        self.states: defaultdict[int, list[Product | None]] = defaultdict(lambda: [None])
        """All that each item ever was, None where it was not there."""
        self.changed_at: dict[int, float] = {}
        """When each item was changed last, by the monotonic clock."""
        self.calls: Counter[str] = Counter()
        self.iterator_types: list[str] = []
        self.served: list[tuple[str, int, bool]] = []
        """Pages as they went out: shard, records, and whether it was the shard's last."""
        self.strict = False
        """Whether a sequence number that was trimmed itself is refused too, as AWS does; emulators do not."""
        self.filters = "taken"
        """What becomes of a ShardFilter: `taken`, `refused`, or `ignored`, as emulators do."""
        self.lists_children_of_ended = True
        """Whether whoever has read a shard's end finds its children listed."""
        self.listings_a_second: float | None = None
        """How many DescribeStream calls AWS takes within a second."""
        self.throttled_listings = 0
        self._listed_at: deque[float] = deque()
        self.stale: set[str] = set()
        """Shards that DescribeStream lists though they no longer exist."""
        self.trimmed = 0
        self.merged = False
        """Whether shards were merged: a child names one parent only, so the other's rest may come after it."""
        self._trim_due = 0.0
        self._rng = rng
        self._clock = clock
        self._listed_a_page = listed_a_page
        self._records_a_page = records_a_page
        self.rounds_to_seconds = rounded_to_seconds
        self._first_shards = shards
        self._make()

    # The table.

    def put(self, product_id: int, product: Product) -> None:
        """Write an item. A write that changes nothing makes no record."""
        old = self.table.get(product_id)
        if old == product:
            return
        self.table[product_id] = product
        self._remember(product_id, product)
        if product.fits:
            self.visible[product_id] = product
            self.uncertain.discard(product_id)
        self._record(product_id, "INSERT" if old is None else "MODIFY", old, product)

    def delete(self, product_id: int, *, by_service: bool = False) -> None:
        """Delete an item. Deleting what is not there makes no record."""
        old = self.table.pop(product_id, None)
        if old is not None:
            self._remember(product_id, None)
            self.visible.pop(product_id, None)
            self.uncertain.discard(product_id)
            self._record(product_id, "REMOVE", old, None, by_service=by_service)

    def _remember(self, product_id: int, state: Product | None) -> None:
        self.states[product_id].append(state)
        self.changed_at[product_id] = self._clock.monotonic()

    def snapshot(self) -> dict[int, Product]:
        """The items that fit the read model, from which one is made anew."""
        fitting = {key: product for key, product in self.table.items() if product.fits}
        self.uncertain.update(self.table.keys() - fitting.keys())
        self.visible.clear()
        self.visible.update(fitting)
        return fitting

    def remake(self) -> None:
        """Delete the table and make it anew: it is empty, its stream is another, and sequence numbers start over."""
        self._make()

    def switch_off(self) -> None:
        """Switch the stream off: changes are recorded nowhere from now on; what is in it can be read for a day."""
        for shard in self.open_shards:
            self._close(shard)
        self.is_on = False

    def switch_on(self) -> None:
        """Switch a stream on, which is another one."""
        self._make_stream()

    def _make(self) -> None:
        for product_id in getattr(self, "table", ()):
            self._remember(product_id, None)
        self.created_at = self._clock.aws_now()
        self.table: dict[int, Product] = {}
        self.visible: dict[int, Product] = {}
        """What a reader of the view is to see: of each item the last state that fits its columns."""
        self.uncertain: set[int] = set()
        """Items that did not fit when a snapshot was taken: an older state may be in the stream still, or not."""
        self.unfit: set[int] = set()
        """The sequence numbers of changes that do not fit."""
        self._shards: dict[str, SimulatedShard] = {}
        self._ranks: dict[str, float] = {}
        self._empty_pages: Counter[tuple[str, int]] = Counter()
        self.arns: set[str] = set()
        self._make_stream()

    def _make_stream(self) -> None:
        label = self._clock.aws_now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        self.arn = f"arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/{label}"
        self.arns.add(self.arn)
        self.is_on = True
        edges = [_HASHES * number // self._first_shards for number in range(self._first_shards + 1)]
        for low, high in pairwise(edges):
            self._open(None, low, high, _FIRST_NUMBER + self._rng.randrange(10**5))

    def _record(
        self, product_id: int, event: str, old: Product | None, new: Product | None, *, by_service: bool = False
    ) -> None:
        if not self.is_on:
            return
        shard = self.shard_of(product_id)
        now = self._clock.aws_now()
        number = shard.next_number
        if new is not None and not new.fits:
            self.unfit.add(number)
        shard.next_number += self._rng.randint(1, 10**5)
        rounded = int(now.timestamp()) // self.rounds_to_seconds * self.rounds_to_seconds
        body: dict[str, Any] = {
            "ApproximateCreationDateTime": datetime.fromtimestamp(rounded, UTC),
            "Keys": {"ProductId": {"N": str(product_id)}},
            "SequenceNumber": written(number),
            "SizeBytes": 100,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        if old is not None:
            body["OldImage"] = item_of(product_id, old)
        if new is not None:
            body["NewImage"] = item_of(product_id, new)
        record: dict[str, Any] = {
            "eventID": f"{number:x}",
            "eventName": event,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "eu-central-1",
            "dynamodb": body,
        }
        if by_service:
            record["userIdentity"] = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
        shard.numbers.append(number)
        shard.records.append(record)
        shard.written_at.append(now)
        earliest = self._clock.monotonic() + self._rng.uniform(0, self.delay_seconds)
        shard.readable_from.append(max([earliest, *shard.readable_from[-1:]]))

    # The shards.

    @property
    def open_shards(self) -> list[SimulatedShard]:
        return [shard for shard in self._shards.values() if shard.is_open]

    @property
    def shards(self) -> list[SimulatedShard]:
        """All shards, parents before their children."""
        return list(self._shards.values())

    @property
    def shard_ids(self) -> list[str]:
        return list(self._shards)

    def shard_of(self, product_id: int) -> SimulatedShard:
        """The open shard that a key's changes go to."""
        point = product_id * 2_654_435_761 % _HASHES
        return next(shard for shard in self._shards.values() if shard.is_open and shard.low <= point < shard.high)

    def split(self, shard: SimulatedShard) -> None:
        """Close a shard; two children share its keys."""
        middle = (shard.low + shard.high) // 2
        first = self._close(shard)
        self._open(shard.shard_id, shard.low, middle, first + self._rng.randrange(1_000))
        self._open(shard.shard_id, middle, shard.high, first + self._rng.randrange(1_000))

    def rotate(self, shard: SimulatedShard) -> None:
        """Close a shard; one child has all its keys."""
        first = self._close(shard)
        self._open(shard.shard_id, shard.low, shard.high, first + self._rng.randrange(1_000))

    def merge(self, one: SimulatedShard, other: SimulatedShard) -> None:
        """Close two shards whose keys are neighbours; one child, of the first alone, has the keys of both."""
        self.merged = True
        first = max(self._close(one), self._close(other))
        low, high = min(one.low, other.low), max(one.high, other.high)
        self._open(one.shard_id, low, high, first + self._rng.randrange(1_000))

    def trim(self, before: datetime) -> None:
        """Forget what was written before a moment, and shards that were closed by then."""
        for shard in list(self._shards.values()):
            self.trimmed += shard.trim(before)
            if shard.closed_at is not None and shard.closed_at <= before:
                del self._shards[shard.shard_id]

    def trim_what_is_old(self) -> None:
        """Forget what was kept long enough; it is looked for once a minute."""
        if self._clock.monotonic() >= self._trim_due:
            self.trim(self._clock.aws_now() - RETENTION)
            self._trim_due = self._clock.monotonic() + 60

    def vanish(self, shard_id: str) -> None:
        """Forget a shard with all that is in it."""
        self.trimmed += len(self._shards.pop(shard_id).records)

    def _open(self, parent_id: str | None, low: int, high: int, first: int) -> None:
        shard_id = f"shardId-{len(self._ranks):020d}-{self._rng.getrandbits(32):08x}"
        rank = self._ranks[shard_id] = self._rng.random()
        self._shards[shard_id] = SimulatedShard(
            shard_id, self.arn, parent_id, low, high, rank, self._clock.aws_now(), starting=first, next_number=first
        )
        if parent_id is not None:  # of a first shard that is not listed nobody could know
            self._list_late(self._shards[shard_id])

    def _close(self, shard: SimulatedShard) -> int:
        shard.ending = shard.next_number
        shard.closed_at = self._clock.aws_now()
        self._list_late(shard)
        return shard.ending + 1

    def _list_late(self, shard: SimulatedShard) -> None:
        if self._rng.random() < self.faults.late_listing:
            shard.listed_from = self._clock.monotonic() + self._rng.uniform(0, 5)

    def _list_children(self, shard_id: str) -> None:
        """Assumed of AWS: whoever has read a shard's end finds its children listed."""
        for shard in self._shards.values():
            if shard.parent_id == shard_id:
                shard.listed_from = 0.0

    # The client.

    def describe_stream(self, **parameters: Any) -> dict[str, Any]:
        """DescribeStream: the shards in an order of their own, a page at a time."""
        # A listing of many pages would hardly ever come to its end otherwise.
        attempts = _ATTEMPTS if "ExclusiveStartShardId" in parameters else self.attempts
        self._call("DescribeStream", parameters["StreamArn"], attempts)
        self._limit_listings()
        after = self._ranks.get(parameters.get("ExclusiveStartShardId", ""), -1.0)
        arn, now = parameters["StreamArn"], self._clock.monotonic()
        listed = [shard for shard in self._shards.values() if shard.listed_from <= now and shard.stream_arn == arn]
        if "ShardFilter" in parameters and self.filters == "refused":
            raise refusal("ValidationException", "DescribeStream")
        if "ShardFilter" in parameters and self.filters == "taken":
            assert parameters["ShardFilter"]["Type"] == "CHILD_SHARDS"
            listed = [shard for shard in listed if shard.parent_id == parameters["ShardFilter"]["ShardId"]]
        rest = sorted((shard for shard in listed if shard.rank > after), key=lambda shard: shard.rank)
        page = rest[: self._listed_a_page]
        description: dict[str, Any] = {
            "StreamArn": arn,
            "StreamLabel": arn.rpartition("/")[2],
            "StreamStatus": "ENABLED" if self.is_on and arn == self.arn else "DISABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "TableName": "Products",
            "KeySchema": [{"AttributeName": "ProductId", "KeyType": "HASH"}],
            "Shards": [_listed(shard) for shard in page],
        }
        if len(rest) > len(page):
            description["LastEvaluatedShardId"] = page[-1].shard_id
        return {"StreamDescription": description}

    def _limit_listings(self) -> None:
        """As the client does it, a throttled call is made again a few times, with pauses."""
        for attempt in range(_ATTEMPTS):
            now = self._clock.monotonic()
            while self._listed_at and self._listed_at[0] <= now - 1:
                self._listed_at.popleft()
            if self.listings_a_second is None or len(self._listed_at) < self.listings_a_second:
                self._listed_at.append(now)
                return
            self.throttled_listings += 1
            if attempt < _ATTEMPTS - 1:
                self._clock.sleep(self._rng.uniform(0, 2**attempt))
        raise refusal("LimitExceededException", "DescribeStream")

    def get_shard_iterator(self, **parameters: Any) -> dict[str, Any]:
        """GetShardIterator. An iterator's text is all there is to it: shard, position, birth, and whether it is new."""
        self._call("GetShardIterator", parameters["StreamArn"])
        shard = self._shard(parameters["ShardId"], "GetShardIterator")
        kind = parameters["ShardIteratorType"]
        self.iterator_types.append(kind)
        if kind == "TRIM_HORIZON":
            after = shard.trimmed_through
        elif kind == "LATEST":
            after = shard.numbers[-1] if shard.numbers else shard.trimmed_through
        else:
            asked = parameters["SequenceNumber"]
            assert asked == written(int(asked)), "emulators know a sequence number only as they wrote it"
            after = int(asked) - (kind == "AT_SEQUENCE_NUMBER")
            _refuse_trimmed(shard, after - (self.strict and kind == "AFTER_SEQUENCE_NUMBER"), "GetShardIterator")
        return {"ShardIterator": self._iterator(shard, after, new=True)}

    def get_records(self, **parameters: Any) -> dict[str, Any]:
        """GetRecords: a page of a shard; without NextShardIterator where it was the closed shard's last."""
        self._call("GetRecords", self.arn)
        shard_id, number, born, new = parameters["ShardIterator"].split("|")
        after = int(number)
        age_seconds = self._clock.monotonic() - float(born)
        if age_seconds > ITERATOR_LIFE_SECONDS or (new != "new" and self._rng.random() < self.faults.expired):
            raise refusal("ExpiredIteratorException", "GetRecords")
        shard = self._shard(shard_id, "GetRecords")
        _refuse_trimmed(shard, after, "GetRecords")
        begin = bisect_right(shard.numbers, after)
        there = bisect_right(shard.readable_from, self._clock.monotonic())
        end = max(begin, min(begin + self._records_a_page, begin + int(parameters.get("Limit", 1_000)), there))
        if end > begin and self._withheld(shard_id, after):
            end = begin
        if end > begin and self._rng.random() < self.faults.repeated:
            begin = max(0, begin - self._rng.randint(1, 3))
        at_end = not shard.is_open and end == len(shard.numbers)
        if at_end and end > begin and self._rng.random() < self.faults.separate_end:
            at_end = False
        if at_end and self.lists_children_of_ended:
            self._list_children(shard_id)
        self.served.append((shard_id, end - begin, at_end))
        answer: dict[str, Any] = {"Records": shard.records[begin:end]}
        if not at_end:
            answer["NextShardIterator"] = self._iterator(shard, shard.numbers[end - 1] if end > begin else after)
        return answer

    def _withheld(self, shard_id: str, after: int) -> bool:
        """Whether a page is empty though there are records."""
        most = MOST_EMPTY_PAGES if self._shards[shard_id].is_open else MOST_EMPTY_PAGES_OF_A_CLOSED_SHARD
        if self._rng.random() >= self.faults.empty_page or self._empty_pages[shard_id, after] >= most:
            return False
        self._empty_pages[shard_id, after] += 1
        return True

    def _iterator(self, shard: SimulatedShard, after: int, *, new: bool = False) -> str:
        return f"{shard.shard_id}|{after}|{self._clock.monotonic()}|{'new' if new else 'next'}"

    def _shard(self, shard_id: str, operation: str) -> SimulatedShard:
        if shard_id not in self._shards or shard_id in self.stale:
            raise refusal("ResourceNotFoundException", operation)
        return self._shards[shard_id]

    def _call(self, operation: str, stream_arn: str, attempts: int | None = None) -> None:
        """What happens at each call: it takes its time, it may fail, and what is too old is gone by then."""
        self.calls[operation] += 1
        if self.faults.call_seconds:
            self._clock.sleep(self.faults.call_seconds)
        if self._clock.monotonic() < self.denied_until:
            raise refusal("AccessDeniedException", operation)
        if self.outage in {operation, "all"}:
            raise refusal("InternalServerError", operation, status=500)
        chance = max(self._rng.random() for _ in range(attempts or self.attempts))
        if chance < self.faults.throttled:
            code = (
                "LimitExceededException" if operation == "DescribeStream" else "ProvisionedThroughputExceededException"
            )
            raise refusal(code, operation)
        chance -= self.faults.throttled
        if chance < self.faults.failed:
            raise refusal("InternalServerError", operation, status=500)
        chance -= self.faults.failed
        if chance < self.faults.unreachable:
            endpoint = "https://streams.dynamodb.eu-central-1.amazonaws.com"
            error = self._rng.choice([EndpointConnectionError, ReadTimeoutError])
            raise error(endpoint_url=endpoint, error="simulated")
        self.trim_what_is_old()
        if stream_arn not in self.arns:
            raise refusal("ResourceNotFoundException", operation)


def _refuse_trimmed(shard: SimulatedShard, after: int, operation: str) -> None:
    if after < shard.trimmed_through:
        raise refusal("TrimmedDataAccessException", operation)


def refusal(code: str, operation: str, *, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "simulated"}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


def written(number: int) -> str:
    """A sequence number as the stream writes it: with zeros in front, as DynamoDB Local does."""
    return f"{number:030}"


def _listed(shard: SimulatedShard) -> dict[str, Any]:
    numbers = {"StartingSequenceNumber": written(shard.starting)}
    if shard.ending is not None:
        numbers["EndingSequenceNumber"] = written(shard.ending)
    listed: dict[str, Any] = {"ShardId": shard.shard_id, "SequenceNumberRange": numbers}
    if shard.parent_id is not None:
        listed["ParentShardId"] = shard.parent_id
    return listed


def item_of(product_id: int, product: Product) -> dict[str, dict[str, Any]]:
    return {
        "ProductId": {"N": str(product_id)},
        "Name": {"S": product.name},
        "Price": {"N": str(product.price)},
        "OutOfStock": {"BOOL": product.out_of_stock},
    }
