"""DynamoDB and Lambda around the simulated stream: as many of their operations as cqrsctl's commands make.

The table answers scans and reads of single items, and tells its own time. Lambda keeps a mapping's position in the
stream to itself, hands records to the projector function, and goes on at the horizon where they were trimmed.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cqrsctl.functions.function import ACTIVE, SUCCESSFUL, TABLE_VARIABLE
from cqrsctl.functions.mapping import DISABLED, ENABLED
from cqrsctl.functions.parts import MANAGED_BY, PROJECTOR
from tests.paginated import Paginated
from tests.simulation.stream import item_of, refusal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from datetime import datetime

    from tests.simulation.clock import VirtualClock
    from tests.simulation.stream import Product, SimulatedShard, SimulatedStream

TABLE = "Products"
_HOSTS_DIFFER_SECONDS = 0.45
"""Two hosts of AWS, of which one dates a change and the other an answer, are less than a second apart."""
INCONSISTENT_SECONDS = 2.0
"""For so long a read that is not consistent may show an item as it was before its last change."""
_ROUNDS_OF_A_SCAN = 7
_SECONDS_OF_A_POLL = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class SimulatedDynamoDb:
    """The table's operations, of boto3's client."""

    rng: random.Random
    clock: VirtualClock
    stream: SimulatedStream
    endpoint_url: str
    scanned_a_page: int
    throttled: float
    meta: Any = field(init=False)

    def __post_init__(self) -> None:
        self.meta = SimpleNamespace(endpoint_url=self.endpoint_url, region_name="eu-central-1")

    def describe_table(self, **_: Any) -> dict[str, Any]:
        self._call("DescribeTable")
        described: dict[str, Any] = {
            "TableName": TABLE,
            "TableArn": self.stream.arn.partition("/stream/")[0],
            "TableStatus": "ACTIVE",
            "KeySchema": [{"AttributeName": "ProductId", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "ProductId", "AttributeType": "N"}],
            "ItemCount": len(self.stream.table),
            "LatestStreamArn": self.stream.arn,
            "CreationDateTime": self.stream.created_at,
        }
        if self.stream.is_on:
            described["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        error_seconds = self.rng.uniform(-_HOSTS_DIFFER_SECONDS, _HOSTS_DIFFER_SECONDS)
        told = self.clock.aws_now() + timedelta(seconds=error_seconds)
        return {"Table": described, "ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(told, usegmt=True)}}}

    def scan(self, **parameters: Any) -> dict[str, Any]:
        """Scan of a segment, or of all. What is not asked for consistently may be a moment old."""
        self._call("Scan")
        segments = parameters.get("TotalSegments", 1)
        after = int(parameters.get("ExclusiveStartKey", {"ProductId": {"N": "-1"}})["ProductId"]["N"])
        keys = sorted(
            key
            for key in self.stream.states
            if key % _ROUNDS_OF_A_SCAN % segments == parameters.get("Segment", 0) and key > after
        )
        page = keys[: min(self.scanned_a_page, parameters.get("Limit", 1_000))]
        found = {key: self._read(key, consistent=parameters.get("ConsistentRead", False)) for key in page}
        answer: dict[str, Any] = {"Items": [item_of(key, product) for key, product in found.items() if product]}
        if len(page) < len(keys):
            answer["LastEvaluatedKey"] = {"ProductId": {"N": str(page[-1])}}
        return answer

    def batch_get_item(self, **parameters: Any) -> dict[str, Any]:
        self._call("BatchGetItem")
        (asked,) = parameters["RequestItems"].values()
        assert asked["ConsistentRead"]
        keys = [int(key["ProductId"]["N"]) for key in asked["Keys"]]
        done = self.rng.randint(1, len(keys)) if self.rng.random() < self.throttled else len(keys)
        answer: dict[str, Any] = {
            "Responses": {
                TABLE: [item_of(key, self.stream.table[key]) for key in keys[:done] if key in self.stream.table]
            }
        }
        if done < len(keys):
            answer["UnprocessedKeys"] = {TABLE: {**asked, "Keys": asked["Keys"][done:]}}
        return answer

    def _read(self, key: int, *, consistent: bool) -> Product | None:
        states = self.stream.states[key]
        age_seconds = self.clock.monotonic() - self.stream.changed_at.get(key, 0.0)
        may_be_old = not consistent and len(states) > 1 and age_seconds < INCONSISTENT_SECONDS
        return states[-2 if may_be_old and self.rng.random() < 0.5 else -1]

    def _call(self, operation: str) -> None:
        if self.rng.random() < self.throttled:
            raise refusal("ThrottlingException", operation)


@dataclass(slots=True)
class EventSourceMapping:
    """A stream mapped to the function, and Lambda's own position in each of its shards."""

    uuid: str
    stream_arn: str
    state: str
    modified_at: datetime
    settings: dict[str, Any]
    handled: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def described(self) -> dict[str, Any]:
        return {
            "UUID": self.uuid,
            "FunctionArn": f"arn:aws:lambda:eu-central-1:123456789012:function:{PROJECTOR}",
            "EventSourceArn": self.stream_arn,
            "StartingPosition": "TRIM_HORIZON",
            "State": self.state,
            "LastProcessingResult": "OK",
            "LastModified": self.modified_at,
            **self.settings,
        }


class SimulatedLambda(Paginated):
    """Lambda with the projector function, once it is deployed: `invoke` is what an event is handed to."""

    def __init__(self, rng: random.Random, clock: VirtualClock, stream: SimulatedStream, batch: int) -> None:
        self.invoke: Callable[[dict[str, Any]], object] | None = None
        self.mapping: EventSourceMapping | None = None
        self.meta = SimpleNamespace(
            endpoint_url="https://lambda.eu-central-1.amazonaws.com", region_name="eu-central-1"
        )
        self._rng = rng
        self._clock = clock
        self._stream = stream
        self._batch = batch
        self._numbers = itertools.count(1)

    # The client.

    def get_function(self, **_: Any) -> dict[str, Any]:
        if self.invoke is None:
            raise refusal("ResourceNotFoundException", "GetFunction", status=404)
        configuration = {
            "FunctionName": PROJECTOR,
            "Role": "arn:aws:iam::123456789012:role/simulated",
            "FunctionArn": f"arn:aws:lambda:eu-central-1:123456789012:function:{PROJECTOR}",
            "State": ACTIVE,
            "LastUpdateStatus": SUCCESSFUL,
            "Environment": {"Variables": {TABLE_VARIABLE: TABLE}},
        }
        return {"Configuration": configuration, "Tags": MANAGED_BY}

    def create_function(self, **parameters: Any) -> dict[str, Any]:
        """CreateFunction. The code is what the function does with an event."""
        self.invoke = parameters["Code"]
        return {}

    def update_function_code(self, **parameters: Any) -> dict[str, Any]:
        self.invoke = parameters["ZipFile"]
        return {}

    def list_event_source_mappings(self, **_: Any) -> dict[str, Any]:
        return {"EventSourceMappings": [] if self.mapping is None else [self.mapping.described()]}

    def create_event_source_mapping(self, **parameters: Any) -> dict[str, Any]:
        """CreateEventSourceMapping; the one that was there is to be deleted next."""
        self.mapping = EventSourceMapping(
            str(next(self._numbers)),
            parameters["EventSourceArn"],
            ENABLED if parameters["Enabled"] else DISABLED,
            self._clock.aws_now(),
            {key: value for key, value in parameters.items() if key[0] in "BMPD"},
        )
        return self.mapping.described()

    def update_event_source_mapping(self, **parameters: Any) -> dict[str, Any]:
        mapping = self.mapping
        assert mapping is not None
        if "Enabled" in parameters:
            mapping.state = ENABLED if parameters["Enabled"] else DISABLED
        mapping.modified_at = self._clock.aws_now()
        return mapping.described()

    def delete_event_source_mapping(self, **parameters: Any) -> dict[str, Any]:
        if self.mapping is not None and self.mapping.uuid == parameters["UUID"]:
            self.mapping = None
        return {}

    # What Lambda does by itself.

    @property
    def is_at_work(self) -> bool:
        return self.invoke is not None and self.mapping is not None and self.mapping.state == ENABLED

    @property
    def is_through(self) -> bool:
        """Whether it has handled all that its stream holds."""
        return self.mapping is None or all(
            shard.shard_id in self.mapping.ended
            or (shard.is_open and not self._unread(self.mapping, shard, self._clock.monotonic() + 3600))
            for shard in self._shards(self.mapping)
        )

    def work(self, wait: Callable[[float], None]) -> None:
        """Hand over what comes, for ever, seldom while it is quiet; a batch that fails is tried again after a while."""
        pause_seconds = _SECONDS_OF_A_POLL
        while True:
            wait(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
            if not self.is_at_work or self.mapping is None or self.invoke is None:
                continue
            self._stream.trim_what_is_old()
            mapping = self.mapping
            for shard in self._shards(mapping):
                if shard.parent_id in self._stream.shard_ids and shard.parent_id not in mapping.ended:
                    continue
                place = self._unread(mapping, shard, self._clock.monotonic())
                records = [shard.records[number] for number in place][: self._batch]
                numbers = [shard.numbers[number] for number in place][: self._batch]
                if not records:
                    is_read = self._unread(mapping, shard, self._clock.monotonic() + 3600)
                    mapping.ended |= set() if shard.is_open or is_read else {shard.shard_id}
                    continue
                try:
                    self.invoke({"Records": [_event(record, mapping.stream_arn) for record in records]})
                except Exception:  # noqa: BLE001 -- as Lambda does it, whatever the error is
                    break
                pause_seconds = _SECONDS_OF_A_POLL
                if self._rng.random() < 0.95:  # at least once
                    mapping.handled[shard.shard_id] = numbers[-1]

    def _shards(self, mapping: EventSourceMapping) -> list[SimulatedShard]:
        return [shard for shard in self._stream.shards if shard.stream_arn == mapping.stream_arn]

    def _unread(self, mapping: EventSourceMapping, shard: SimulatedShard, until: float) -> range:
        """The places of the records that it has not handled, as far as they can be read at a time."""
        begin = bisect_right(shard.numbers, mapping.handled.get(shard.shard_id, 0))
        return range(begin, bisect_right(shard.readable_from, until))


def _event(record: dict[str, Any], stream_arn: str) -> dict[str, Any]:
    """A record as Lambda hands it over."""
    body = record["dynamodb"]
    dated = {**body, "ApproximateCreationDateTime": body["ApproximateCreationDateTime"].timestamp()}
    return {**record, "eventSourceARN": stream_arn, "dynamodb": dated}
