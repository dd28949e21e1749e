"""What Lambda hands the projector function: an event of the table's stream, or something to be refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqrsctl.change import stream_label_micros
from cqrsctl.codec import decode_record
from cqrsctl.errors import CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.change import ChangeRecord

_SOURCE = "aws:dynamodb"
_WITHOUT_NEW_IMAGES = {"KEYS_ONLY", "OLD_IMAGE"}
_HINT_FOR_MAPPING = "Check the function's event source mapping: `cqrsctl function status`."


class EventRefused(CqrsctlError):
    """An event that is not one of this table's stream, or not one that a projection can be made from."""

    code = "event_refused"


def changes_of(event: Any, table: str) -> tuple[ChangeRecord, ...]:
    """The changes in an event of the table's stream; none if it is empty.

    Raises EventRefused, for the event as a whole.
    """
    if event == {}:
        return ()
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise EventRefused(
            "The event is not one of DynamoDB Streams: it has no list of records.", hint=_HINT_FOR_MAPPING
        )
    _check_origin(records, table)
    try:
        return tuple(map(decode_record, records))  # a record without a time counts as made now
    except (ValueError, TypeError, AttributeError) as error:
        raise EventRefused(f"A record of the event cannot be decoded: {error}.") from error


def _check_origin(records: Sequence[dict[str, Any]], table: str) -> None:
    """Before anything is decoded; each thing is looked at once, as an event has up to 10,000 records."""
    for source in {str(record.get("eventSource")) for record in records}:
        if source != _SOURCE:
            raise EventRefused(f"The event comes from {source}, not from {_SOURCE}.", hint=_HINT_FOR_MAPPING)
    for arn in {str(record.get("eventSourceARN")) for record in records}:
        _check_stream(arn, table)
    for view_type in {_view_type(record) for record in records}:
        if view_type in _WITHOUT_NEW_IMAGES:
            raise EventRefused(
                f"The stream's records have no new images (view type {view_type}).",
                hint="Switch the stream off and on again with new images: `cqrsctl table disable-stream --yes`, "
                "`cqrsctl table enable-stream`; then `cqrsctl function deploy` and `cqrsctl rebuild`.",
            )


def _check_stream(arn: str, table: str) -> None:
    try:
        stream_label_micros(arn)
    except ValueError as error:
        raise EventRefused(f"A record does not name its stream: {error}.", hint=_HINT_FOR_MAPPING) from None
    found = arn.partition(":table/")[2].partition("/stream/")[0]
    if found != table:
        raise EventRefused(
            f"The event is of table {found!r}; this function projects {table!r}.", hint=_HINT_FOR_MAPPING
        )


def _view_type(record: dict[str, Any]) -> str:
    body = record.get("dynamodb")
    return str(body.get("StreamViewType")) if isinstance(body, dict) else ""
