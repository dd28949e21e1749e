"""The four operations of DynamoDB Streams, and the listing of a stream's shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cqrsctl.aws import aws_errors, error_code
from cqrsctl.change import SequenceNumber
from cqrsctl.errors import AwsError
from cqrsctl.stream.lineage import Shard
from cqrsctl.wire import member

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime


class StreamsClient(Protocol):
    """boto3's client of DynamoDB Streams, as far as it is used here. The simulator of the tests has it too."""

    def describe_stream(self, **parameters: Any) -> Any: ...
    def get_shard_iterator(self, **parameters: Any) -> Any: ...
    def get_records(self, **parameters: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream and all its shards, by id."""

    arn: str
    status: str
    view_type: str
    created_at: datetime | None
    key: tuple[str, ...]
    shards: Mapping[str, Shard]


def describe(
    client: StreamsClient, stream_arn: str, *, pace: Callable[[], None] = lambda: None, children_of: str | None = None
) -> Stream:
    """The stream with all its shards, or with the children of one: every page is read (a page lists at most 100).

    `pace` is called before each call: AWS takes ten a second. Raises AwsError.
    """
    parameters: dict[str, Any] = {"StreamArn": stream_arn}
    if children_of is not None:
        parameters["ShardFilter"] = {"Type": "CHILD_SHARDS", "ShardId": children_of}
    shards: dict[str, Shard] = {}
    while True:
        pace()
        page = _describe_page(client, parameters)
        for listed in page.get("Shards", []):
            shard = _shard(listed)
            shards[shard.shard_id] = shard
        if not page.get("LastEvaluatedShardId"):
            break
        parameters["ExclusiveStartShardId"] = page["LastEvaluatedShardId"]
    return Stream(
        arn=stream_arn,
        status=page.get("StreamStatus", "ENABLED"),
        view_type=page["StreamViewType"],
        created_at=page.get("CreationRequestDateTime"),
        key=tuple(part["AttributeName"] for part in page.get("KeySchema", [])),
        shards=shards,
    )


def exists(client: StreamsClient, stream_arn: str, shard_id: str) -> bool:
    """Whether a stream has a shard, though a listing may not show it yet. Raises AwsError."""
    try:
        with aws_errors("dynamodbstreams GetShardIterator"):
            client.get_shard_iterator(StreamArn=stream_arn, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    except AwsError as error:
        if error_code(error) == "ResourceNotFoundException":
            return False
        raise
    return True


def _describe_page(client: StreamsClient, parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        with aws_errors("dynamodbstreams DescribeStream"):
            answer = client.describe_stream(**parameters)
    except AwsError as error:
        if error_code(error) == "ResourceNotFoundException":
            raise AwsError(
                f"There is no stream {parameters['StreamArn']}.",
                hint="Look at it with `cqrsctl table status`.",
                code="stream_missing",
            ) from error
        raise
    description: dict[str, Any] = member(answer, "StreamDescription", "DescribeStream")
    return description


def _shard(listed: Mapping[str, Any]) -> Shard:
    numbers = listed.get("SequenceNumberRange") or {}
    ending = numbers.get("EndingSequenceNumber")
    return Shard(
        shard_id=listed["ShardId"],
        parent_id=listed.get("ParentShardId"),
        starting=SequenceNumber(numbers.get("StartingSequenceNumber") or "0"),
        ending=SequenceNumber(ending) if ending else None,
    )
