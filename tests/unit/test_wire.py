"""The fast decoder against boto3's own parsing: the same records and items, whatever is in them."""

from __future__ import annotations

import io
import json
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from cqrsctl.change import Event
from cqrsctl.codec import encode_item
from cqrsctl.errors import AwsError
from cqrsctl.wire import keep_raw_bodies, records_page, scan_page
from tests.unit.test_codec import ITEMS, NUMBERS, STREAM

GOLDEN = Path(__file__).parent / "golden"


class Answers:
    """Two boto3 clients of a service, one of them with raw bodies, that both get the same answer."""

    def __init__(self, service: str) -> None:
        session = boto3.Session("key", "secret", region_name="eu-central-1")
        self.plain, self.raw = session.client(service), keep_raw_bodies(session.client(service))
        self.body = b""
        self.status = 200
        for client in (self.plain, self.raw):
            client.meta.events.register("before-send", self._answer)

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        headers = {"x-amz-crc32": str(zlib.crc32(self.body))}
        return AWSResponse(request.url, self.status, headers, _Raw(self.body))


class _Raw(io.BytesIO):
    """A response's body as urllib3 streams it."""

    def stream(self) -> Any:
        yield self.read()


STREAMS, DYNAMODB = Answers("dynamodbstreams"), Answers("dynamodb")
RECORDS = st.fixed_dictionaries(
    {
        "eventName": st.sampled_from([event.value for event in Event]),
        "dynamodb": st.fixed_dictionaries(
            {
                "Keys": ITEMS.map(encode_item),
                "SequenceNumber": st.integers(0, 10**40 - 1).map(str) | st.just("000000000000000000042"),
                "ApproximateCreationDateTime": st.integers(0, 4 * 10**9) | st.just(1.7e9),
                "StreamViewType": st.just("NEW_AND_OLD_IMAGES"),
            },
            optional={
                "NewImage": ITEMS.map(encode_item),
                "OldImage": ITEMS.map(encode_item),
                "SizeBytes": st.integers(1, 400_000),
            },
        ),
    },
    optional={
        "eventID": st.text(),
        "awsRegion": st.text(),
        "userIdentity": st.sampled_from(
            [{"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}, {"PrincipalId": "someone"}]
        ),
    },
)
KEYS = st.dictionaries(st.text(min_size=1), st.text() | NUMBERS | st.binary(), min_size=1, max_size=2)


def get_records(body: object) -> tuple[Any, Any]:
    """GetRecords by both clients."""
    STREAMS.body = json.dumps(body).encode()
    return STREAMS.plain.get_records(ShardIterator="i"), STREAMS.raw.get_records(ShardIterator="i")


@given(st.lists(RECORDS, max_size=3), st.none() | st.text(min_size=1))
def test_records_are_decoded_as_boto3_parses_them(records: list[Any], next_iterator: str | None) -> None:
    body = {"Records": records} | ({"NextShardIterator": next_iterator} if next_iterator else {})
    plain, raw = get_records(body)

    assert "Body" in raw
    assert records_page(raw, STREAM) == records_page(plain, STREAM)
    assert records_page(raw, STREAM).next_iterator == next_iterator


@given(st.lists(ITEMS.map(encode_item), max_size=3), st.none() | KEYS.map(encode_item))
def test_items_are_decoded_as_boto3_parses_them(items: list[Any], last_key: Any) -> None:
    DYNAMODB.body = json.dumps({"Items": items} | ({"LastEvaluatedKey": last_key} if last_key else {})).encode()
    plain, raw = (scan_page(client.scan(TableName="t")) for client in (DYNAMODB.plain, DYNAMODB.raw))

    assert raw == plain


def test_every_attribute_type_is_decoded() -> None:
    body = json.loads((GOLDEN / "api_record.json").read_bytes())
    used = {tag for attribute in body["Records"][0]["dynamodb"]["NewImage"].values() for tag in attribute}
    plain, raw = get_records(body)

    assert used == {"S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"}
    assert records_page(raw, STREAM) == records_page(plain, STREAM)


def test_a_sequence_number_keeps_its_leading_zeros_and_a_number_its_digits() -> None:
    number = "-1234567890123456789012345678.9012345670"
    record = {
        "eventName": "INSERT",
        "dynamodb": {
            "Keys": {"Id": {"N": number}},
            "SequenceNumber": "000000000000000000007",
            "ApproximateCreationDateTime": 1.7e9,
        },
    }
    (change,) = records_page(get_records({"Records": [record]})[1], STREAM).changes

    assert str(change.sequence_number) == "000000000000000000007"
    assert change.sequence_number == 7
    assert isinstance(change.keys["Id"], Decimal)
    assert str(change.keys["Id"]) == number


def test_a_refusal_is_parsed_as_ever() -> None:
    STREAMS.status = 400
    STREAMS.body = b'{"__type": "com.amazonaws.dynamodb#ExpiredIteratorException", "message": "too old"}'
    try:
        with pytest.raises(ClientError) as caught:
            STREAMS.raw.get_records(ShardIterator="i")
    finally:
        STREAMS.status = 200

    assert caught.value.response["Error"]["Code"] == "ExpiredIteratorException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_other_operations_are_parsed_as_ever() -> None:
    DYNAMODB.body = b'{"Item": {"ProductId": {"N": "7"}}}'

    assert DYNAMODB.raw.get_item(TableName="t", Key={"ProductId": {"N": "7"}})["Item"] == {"ProductId": {"N": "7"}}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Not Found</html>",
        b"{}",
        b'{"Records": [{"eventName": "UPSERT", "dynamodb": {}}]}',
        b'{"Records": [{"eventName": "INSERT", "dynamodb": {"Keys": {"Id": {"X": "1"}}, "SequenceNumber": "1",'
        b' "ApproximateCreationDateTime": 1}}]}',
        b'{"Records": [{"eventName": "INSERT", "dynamodb": {"Keys": {}, "SequenceNumber": "1",'
        b' "ApproximateCreationDateTime": 1e300}}]}',
        b'{"Records": [{"eventName": "INSERT", "dynamodb": {"Keys": {}, "SequenceNumber": "one",'
        b' "ApproximateCreationDateTime": 1}}]}',
    ],
)
def test_an_answer_that_is_none_of_dynamodb_is_an_error_with_a_hint(body: bytes) -> None:
    STREAMS.body = body
    with pytest.raises(AwsError, match="the response is not valid") as caught:
        records_page(STREAMS.raw.get_records(ShardIterator="i"), STREAM)

    assert caught.value.code == "unexpected_answer"
    assert "Is this endpoint AWS" in str(caught.value.hint)
