"""The fast way from DynamoDB's answers to change records and items.

botocore's parser builds an answer attribute by attribute in Python, which is where a projector would spend its time.
A client with `keep_raw_bodies` hands out the raw body of GetRecords and Scan instead, and msgspec decodes it by type.
All other operations are parsed as ever. The functions take either kind of answer, so that a plain client works too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal  # noqa: TC003 -- msgspec reads the annotations
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, DecodeError, Struct, UnsetType
from msgspec.json import Decoder

from cqrsctl.change import ChangeRecord, Event, SequenceNumber
from cqrsctl.codec import decode_item, decode_record, encode_key
from cqrsctl.errors import UNEXPECTED_ANSWER, TransientAwsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.change import Item, Value

_RAW_OPERATIONS = ("dynamodb-streams.GetRecords", "dynamodb.Scan")


def keep_raw_bodies(client: Any) -> Any:
    """The same boto3 client, whose answers of GetRecords and Scan are from now on `{"Body": bytes, …}`."""
    for operation in _RAW_OPERATIONS:
        client.meta.events.register(f"before-parse.{operation}", _keep_body)
    return client


def _keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take the body out before botocore parses it. The checksum was, and status and headers are, looked at as ever."""
    if response_dict["status_code"] < 300:
        customized_response_dict["Body"] = response_dict["body"]
        response_dict["body"] = b"{}"


@dataclass(frozen=True, slots=True)
class RecordsPage:
    """What a GetRecords call brought. `next_iterator` None: it was the last page of a closed shard."""

    changes: tuple[ChangeRecord, ...]
    size_bytes: int
    next_iterator: str | None


@dataclass(frozen=True, slots=True)
class ScanPage:
    """What a Scan call brought. `last_key`: where the next one starts, as boto3 takes it; None at the end.

    `units`: the read capacity units that it used, None if that was not asked for.
    """

    items: list[Item]
    last_key: dict[str, Any] | None
    units: float | None = None


def records_page(answer: Mapping[str, Any], stream_arn: str, received_at: datetime | None = None) -> RecordsPage:
    """The page in an answer of GetRecords; `received_at` (None: now) is for records without a time.

    Raises TransientAwsError if it is none.
    """
    received_at = received_at or datetime.now(UTC)
    if "Body" not in answer:
        records = member(answer, "Records", "GetRecords")
        return RecordsPage(
            tuple(decode_record(record, stream_arn, received_at=received_at) for record in records),
            sum(record["dynamodb"].get("SizeBytes", 0) for record in records),
            answer.get("NextShardIterator"),
        )
    try:
        page = _RECORDS.decode(answer["Body"])
        return RecordsPage(
            tuple(_change(record, stream_arn, received_at) for record in page.Records),
            sum(record.dynamodb.SizeBytes for record in page.Records),
            page.NextShardIterator,
        )
    except (DecodeError, ValueError, OverflowError, OSError) as error:
        raise _unexpected("GetRecords", error) from error


def scan_page(answer: Mapping[str, Any]) -> ScanPage:
    """The page in an answer of Scan. Raises TransientAwsError if it is none."""
    if "Body" not in answer:
        return ScanPage(
            [decode_item(item) for item in member(answer, "Items", "Scan")],
            answer.get("LastEvaluatedKey"),
            answer.get("ConsumedCapacity", {}).get("CapacityUnits"),
        )
    try:
        page = _SCAN.decode(answer["Body"])
        last_key = encode_key(_item(page.LastEvaluatedKey)) if page.LastEvaluatedKey else None
        units = page.ConsumedCapacity.CapacityUnits if page.ConsumedCapacity else None
        return ScanPage([_item(item) for item in page.Items], last_key, units)
    except (DecodeError, ValueError) as error:
        raise _unexpected("Scan", error) from error


def member(answer: Mapping[str, Any], name: str, operation: str) -> Any:
    """A member that every answer of an operation has. Raises TransientAwsError (`unexpected_answer`) if it is missing.

    boto3 makes an empty answer of a page of HTML that a proxy sends with status 200.
    """
    try:
        return answer[name]
    except KeyError as error:
        raise _unexpected(operation, error) from error


def _unexpected(operation: str, error: Exception) -> TransientAwsError:
    return TransientAwsError(
        f"dynamodb {operation}: the response is not valid ({error}).",
        hint="Is this endpoint AWS, or an emulator of DynamoDB? Check the endpoint URL and proxies.",
        code=UNEXPECTED_ANSWER,
    )


class _Attribute(Struct, gc=False):
    """An attribute value: one of these is set (DynamoDB API reference, AttributeValue)."""

    S: str | UnsetType = UNSET
    N: Decimal | UnsetType = UNSET
    BOOL: bool | UnsetType = UNSET
    M: dict[str, _Attribute] | UnsetType = UNSET
    L: list[_Attribute] | UnsetType = UNSET
    B: bytes | UnsetType = UNSET
    SS: frozenset[str] | UnsetType = UNSET
    NS: frozenset[Decimal] | UnsetType = UNSET
    BS: frozenset[bytes] | UnsetType = UNSET
    NULL: bool | UnsetType = UNSET


class _StreamRecord(Struct, gc=False):
    Keys: dict[str, _Attribute]
    SequenceNumber: str
    ApproximateCreationDateTime: float | None = None
    NewImage: dict[str, _Attribute] | None = None
    OldImage: dict[str, _Attribute] | None = None
    SizeBytes: int = 0


class _Identity(Struct, gc=False):
    Type: str | None = None


class _Record(Struct, gc=False):
    eventName: Event  # noqa: N815 -- as DynamoDB names it
    dynamodb: _StreamRecord
    userIdentity: _Identity | None = None  # noqa: N815


class _RecordsBody(Struct, gc=False):
    Records: list[_Record]
    NextShardIterator: str | None = None


class _Capacity(Struct, gc=False):
    CapacityUnits: float | None = None


class _ScanBody(Struct, gc=False):
    Items: list[dict[str, _Attribute]]
    LastEvaluatedKey: dict[str, _Attribute] | None = None
    ConsumedCapacity: _Capacity | None = None


_RECORDS = Decoder(_RecordsBody)
_SCAN = Decoder(_ScanBody)
_TYPES = _Attribute.__struct_fields__


def _change(record: _Record, stream_arn: str, received_at: datetime) -> ChangeRecord:
    body = record.dynamodb
    created_at = body.ApproximateCreationDateTime
    return ChangeRecord(
        stream_arn=stream_arn,
        sequence_number=SequenceNumber(body.SequenceNumber),
        event=record.eventName,
        keys=_item(body.Keys),
        old_image=None if body.OldImage is None else _item(body.OldImage),
        new_image=None if body.NewImage is None else _item(body.NewImage),
        created_at=received_at if created_at is None else datetime.fromtimestamp(created_at, UTC),
        by_service=record.userIdentity is not None and record.userIdentity.Type == "Service",
        is_dated=created_at is not None,
    )


def _item(attributes: Mapping[str, _Attribute]) -> Item:
    item: Item = {}
    for name, attribute in attributes.items():
        value: Value | UnsetType = attribute.S  # inlined for the most frequent types
        if value is UNSET:
            value = attribute.N
            if value is UNSET:
                value = _value(attribute)
        item[name] = value
    return item


def _value(attribute: _Attribute) -> Value:
    for name in _TYPES:
        value: Any = getattr(attribute, name)
        if value is not UNSET:
            break
    else:
        raise ValueError("an attribute is of an unknown type")
    match name:
        case "M":
            return _item(value)
        case "L":
            return [_value(member) for member in value]
        case "NULL":
            return None
        case _:
            return value  # type: ignore[no-any-return]
