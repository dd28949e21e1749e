"""Items and change records, to and from DynamoDB's typed attribute values and JSON.

One decoder for the three shapes a record comes in: boto3's parsed GetRecords (times are datetimes, binaries
bytes), the Lambda event (times are epoch seconds, binaries base64 text), and our own JSON lines. Pure: standard
library only, also in Lambda.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.change import ChangeRecord, Event, SequenceNumber, stream_label_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqrsctl.change import Item, Value


def decode_record(
    record: Mapping[str, Any], stream_arn: str | None = None, *, received_at: datetime | None = None
) -> ChangeRecord:
    """A record of GetRecords, or of a Lambda event (which names its stream itself), as a ChangeRecord.

    `received_at` (None: now) counts as the time of a record that has none. Raises ValueError if it is neither.
    """
    try:
        body = record["dynamodb"]
        created_at = body.get("ApproximateCreationDateTime")
        identity = record.get("userIdentity") or {}
        return ChangeRecord(
            stream_arn=stream_arn or record["eventSourceARN"],
            sequence_number=SequenceNumber(body["SequenceNumber"]),
            event=Event(record["eventName"]),
            keys=decode_item(body["Keys"]),
            old_image=_image(body.get("OldImage")),
            new_image=_image(body.get("NewImage")),
            created_at=(received_at or datetime.now(UTC)) if created_at is None else _moment(created_at),
            by_service=(identity.get("Type") or identity.get("type")) == "Service",
            is_dated=created_at is not None,
        )
    except KeyError as missing:
        raise ValueError(f"not a record of a DynamoDB stream: {missing} is missing") from None


def decode_item(item: Mapping[str, Mapping[str, Any]]) -> Item:
    """`{"Price": {"N": "19.90"}}` → `{"Price": Decimal("19.90")}`. Raises ValueError on an unknown type."""
    return {name: decode_value(attribute) for name, attribute in item.items()}


def decode_value(attribute: Mapping[str, Any]) -> Value:
    """One typed attribute value. Numbers become Decimals of exactly the digits sent. Raises ValueError."""
    if not isinstance(attribute, dict) or len(attribute) != 1:
        raise ValueError(f"{attribute!r} is not an attribute of one type")
    ((tag, raw),) = attribute.items()
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise ValueError(f"unknown attribute type {tag!r}")
    value: Value = decoder(raw)
    return value


def encode_item(item: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """The reverse of decode_item; binaries become base64 text, as in JSON on the wire."""
    return {name: encode_value(value) for name, value in item.items()}


def encode_value(value: Value) -> dict[str, Any]:  # noqa: PLR0911 -- one line a type
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case Decimal():
            return {"N": str(value)}
        case None:
            return {"NULL": True}
        case bytes():
            return {"B": base64.b64encode(value).decode()}
        case dict():
            return {"M": encode_item(value)}
        case list():
            return {"L": [encode_value(member) for member in value]}
        case _:
            return _encode_set(value)


def encode_key(key: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """A key as boto3 takes it: binaries stay bytes."""
    return {name: {"B": value} if isinstance(value, bytes) else encode_value(value) for name, value in key.items()}


def to_json(change: ChangeRecord, shard_id: str) -> dict[str, Any]:
    """A whole change record as a JSON object: what `stream tail -o jsonl` prints."""
    return {
        "stream_arn": change.stream_arn,
        "shard_id": shard_id,
        "sequence_number": str(change.sequence_number),
        "event": change.event.value,
        "created_at": change.created_at,
        "by_service": change.by_service,
        "keys": encode_item(change.keys),
        "old_image": None if change.old_image is None else encode_item(change.old_image),
        "new_image": None if change.new_image is None else encode_item(change.new_image),
    }


def from_json(line: Mapping[str, Any]) -> ChangeRecord:
    """What `to_json` wrote. Raises ValueError if it is something else."""
    if not isinstance(line, dict):
        raise ValueError("not a change record: it is no object")  # noqa: TRY004 -- as all else that is none
    try:
        stream_label_micros(line["stream_arn"])
        return ChangeRecord(
            stream_arn=line["stream_arn"],
            sequence_number=SequenceNumber(line["sequence_number"]),
            event=Event(line["event"]),
            keys=decode_item(line["keys"]),
            old_image=_image(line["old_image"]),
            new_image=_image(line["new_image"]),
            created_at=_moment(line["created_at"]),
            by_service=bool(line.get("by_service")),
        )
    except KeyError as missing:
        raise ValueError(f"not a change record: {missing} is missing") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not a change record: {error}") from None


def _image(image: Mapping[str, Any] | None) -> Item | None:
    return None if image is None else decode_item(image)


def _moment(value: datetime | float | str) -> datetime:
    try:
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC)
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError):
        raise ValueError(f"{value!r} is not a time") from None


def _typed(kind: type[Any], raw: Any, what: str) -> Any:
    if not isinstance(raw, kind):
        raise ValueError(f"{raw!r} is not {what}")  # noqa: TRY004 -- what a decoder raises is one class
    return raw


def _text(raw: Any) -> str:
    text = str(_typed(str, raw, "text"))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} has half of a character") from None
    return text


def _binary(raw: Any) -> bytes:
    if isinstance(raw, bytes):
        return raw
    try:
        return base64.b64decode(_text(raw), validate=True)
    except binascii.Error as error:
        raise ValueError(f"a binary attribute is not base64: {error}") from None


def _number(raw: Any) -> Decimal:
    try:
        number = Decimal(_text(raw))
    except ArithmeticError:
        raise ValueError(f"{raw!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{raw!r} is not a number that DynamoDB holds")
    return number


def _members(raw: Any) -> list[Any]:
    return list(_typed(list, raw, "a list"))


def _encode_set(members: frozenset[Any]) -> dict[str, Any]:
    encoded = sorted(next(iter(encode_value(member).items())) for member in members)
    return {f"{encoded[0][0]}S": [text for _, text in encoded]}


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "S": _text,
    "N": _number,
    "B": _binary,
    "BOOL": lambda raw: _typed(bool, raw, "a boolean"),
    "NULL": lambda _: None,
    "M": lambda raw: decode_item(_typed(dict, raw, "a map")),
    "L": lambda raw: [decode_value(member) for member in _members(raw)],
    "SS": lambda raw: frozenset(map(_text, _members(raw))),
    "NS": lambda raw: frozenset(map(_number, _members(raw))),
    "BS": lambda raw: frozenset(map(_binary, _members(raw))),
}
