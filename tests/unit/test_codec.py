"""Records from the API and from Lambda, and change records as JSON lines.

golden/api_record.json is the body of a GetRecords response, golden/lambda_event.json the event of a Lambda
function for the same two changes: a MODIFY with every attribute type, and a delete made by time-to-live.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import botocore.parsers
import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrsctl.change import ChangeRecord, Event
from cqrsctl.codec import decode_item, decode_record, decode_value, encode_value, from_json, to_json

GOLDEN = Path(__file__).parent / "golden"
STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2024-03-01T10:00:00.000"


def api_records() -> list[dict[str, Any]]:
    """The records of the API's answer, as boto3 hands them out."""
    service = botocore.session.get_session().get_service_model("dynamodbstreams")
    parser = botocore.parsers.create_parser(service.resolved_protocol)
    response = {"body": (GOLDEN / "api_record.json").read_bytes(), "headers": {}, "status_code": 200}
    records: list[dict[str, Any]] = parser.parse(response, service.operation_model("GetRecords").output_shape)[
        "Records"
    ]
    return records


def lambda_records() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((GOLDEN / "lambda_event.json").read_text(encoding="utf-8"))["Records"]
    return records


class TestGoldenPair:
    def test_the_api_and_lambda_tell_the_same_changes(self) -> None:
        from_api = [decode_record(record, STREAM) for record in api_records()]
        from_lambda = [decode_record(record) for record in lambda_records()]
        assert len(from_api) == 2
        assert from_api == from_lambda

    def test_every_attribute_type_is_there_and_exact(self) -> None:
        modified = decode_record(api_records()[0], STREAM)
        assert modified.new_image == {
            "ProductId": Decimal(7),
            "Name": "Lámpara 😀",
            "Price": Decimal("19.90"),
            "OutOfStock": False,
            "Discontinued": None,
            "Exact": Decimal(12345678901234567890123456789012345678),
            "Thumbnail": b"\x00\x01\xfe\xff",
            "Maker": {"Name": "Bright & Sons", "Address": {"City": "Ulm", "Floors": [Decimal(1), Decimal("-0.0025")]}},
            "Reviews": ["good", Decimal(5), None, True, b"\x01", [], {}],
            "Tags": frozenset({"oak", "brass"}),
            "Sizes": frozenset({Decimal(1), Decimal("2.5"), Decimal(100)}),
            "Digests": frozenset({b"\x01\x02", b"\x03\x04"}),
        }
        assert modified.old_image == {**modified.new_image, "Price": Decimal("24.90"), "OutOfStock": True}

    @pytest.mark.parametrize("records", [api_records, lambda_records])
    def test_the_records_frame_is_decoded(self, records: Any) -> None:
        modified, removed = (decode_record(record, STREAM) for record in records())
        assert (modified.event, modified.sequence_number) == (Event.MODIFY, 4421584500000000017450439091)
        assert modified.keys == removed.keys == {"ProductId": Decimal(7)}
        assert modified.created_at == datetime(2024, 3, 1, 10, 5, 5, tzinfo=UTC)
        assert modified.created_at.tzinfo is UTC
        assert (removed.event, removed.new_image) == (Event.REMOVE, None)
        assert modified.stream_arn == removed.stream_arn == STREAM

    @pytest.mark.parametrize("records", [api_records, lambda_records])
    def test_only_the_delete_of_time_to_live_is_by_a_service(self, records: Any) -> None:
        assert [decode_record(record, STREAM).by_service for record in records()] == [False, True]

    def test_a_given_stream_goes_before_the_one_that_an_event_names(self) -> None:
        assert decode_record(lambda_records()[0], "another").stream_arn == "another"


class TestMalformedRecords:
    @pytest.mark.parametrize("name", ["dynamodb", "eventName", "eventSourceARN"])
    def test_a_record_that_lacks_a_part_is_refused_naming_it(self, name: str) -> None:
        record = lambda_records()[0]
        del record[name]
        with pytest.raises(ValueError, match=f"not a record of a DynamoDB stream: '{name}' is missing"):
            decode_record(record)

    @pytest.mark.parametrize("name", ["SequenceNumber", "Keys"])
    def test_a_body_that_lacks_a_part_is_refused_naming_it(self, name: str) -> None:
        record = lambda_records()[0]
        del record["dynamodb"][name]
        with pytest.raises(ValueError, match=f"'{name}' is missing"):
            decode_record(record)

    def test_a_record_without_a_time_counts_as_made_when_it_was_received(self) -> None:
        """AWS's reference calls the time optional, and its own sample event has none."""
        record = lambda_records()[0]
        del record["dynamodb"]["ApproximateCreationDateTime"]
        received_at = datetime(2026, 3, 1, tzinfo=UTC)
        change = decode_record(record, received_at=received_at)
        assert (change.created_at, change.is_dated) == (received_at, False)

    def test_an_unknown_event_is_refused(self) -> None:
        with pytest.raises(ValueError, match="UPSERT"):
            decode_record({**lambda_records()[0], "eventName": "UPSERT"})


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False)
SETS = st.one_of(
    st.frozensets(st.text(), min_size=1),
    st.frozensets(NUMBERS, min_size=1),
    st.frozensets(st.binary(), min_size=1),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), NUMBERS, st.binary(), SETS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=20,
)
ITEMS = st.dictionaries(st.text(min_size=1), VALUES, max_size=4)
CHANGES = st.builds(
    ChangeRecord,
    stream_arn=st.just(STREAM),
    sequence_number=st.integers(0, 10**40 - 1),
    event=st.sampled_from(Event),
    keys=ITEMS,
    old_image=st.none() | ITEMS,
    new_image=st.none() | ITEMS,
    created_at=st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 -- the zone is beside
    by_service=st.booleans(),
)


def line_of(change: ChangeRecord) -> str:
    """A change as a JSON line: the only type in it that JSON does not know is the time."""
    return json.dumps(to_json(change, "shard-1"), default=datetime.isoformat)


class TestRoundTrips:
    @given(VALUES)
    def test_a_value_comes_back_from_its_encoding(self, value: Any) -> None:
        assert decode_value(encode_value(value)) == value

    @given(NUMBERS)
    def test_a_number_comes_back_with_all_its_digits(self, number: Decimal) -> None:
        decoded = decode_value(encode_value(number))
        assert isinstance(decoded, Decimal)
        assert decoded.as_tuple() == number.as_tuple()

    @given(CHANGES)
    def test_a_change_comes_back_from_a_line_of_json(self, change: ChangeRecord) -> None:
        assert from_json(json.loads(line_of(change))) == change

    def test_true_and_one_stay_apart(self) -> None:
        assert encode_value(True) == {"BOOL": True}
        assert encode_value(Decimal(1)) == {"N": "1"}

    def test_a_line_names_its_shard_and_writes_the_sequence_number_as_text(self) -> None:
        line = json.loads(line_of(decode_record(lambda_records()[1])))
        assert line["shard_id"] == "shard-1"
        assert line["sequence_number"] == "4421584500000000017450439092"
        assert line["created_at"] == "2024-03-01T10:06:00+00:00"
        assert line["new_image"] is None

    def test_the_order_of_a_set_does_not_change_its_line(self) -> None:
        assert encode_value(frozenset({"b", "a", "c"})) == {"SS": ["a", "b", "c"]}


GOOD_LINE: dict[str, Any] = {
    "stream_arn": STREAM,
    "shard_id": "shard-1",
    "sequence_number": "100",
    "event": "INSERT",
    "created_at": "2024-03-01T10:00:00Z",
    "by_service": False,
    "keys": {"ProductId": {"N": "1"}},
    "old_image": None,
    "new_image": {"ProductId": {"N": "1"}},
}


class TestMalformedLines:
    def test_the_line_that_these_tests_spoil_is_good(self) -> None:
        change = from_json(GOOD_LINE)
        assert (change.sequence_number, change.new_image) == (100, {"ProductId": Decimal(1)})

    @pytest.mark.parametrize("name", sorted(GOOD_LINE.keys() - {"shard_id", "by_service"}))
    def test_a_missing_key_is_named(self, name: str) -> None:
        line = {key: value for key, value in GOOD_LINE.items() if key != name}
        with pytest.raises(ValueError, match=f"not a change record: '{name}' is missing"):
            from_json(line)

    @pytest.mark.parametrize("line", [[], "text", 1, None, True])
    def test_what_is_no_object_is_no_change_record(self, line: Any) -> None:
        with pytest.raises(ValueError, match="not a change record: it is no object"):
            from_json(line)

    @pytest.mark.parametrize(
        ("attribute", "reason"),
        [
            ({"X": "1"}, "unknown attribute type 'X'"),
            ({"n": "1"}, "unknown attribute type 'n'"),
            ({"BOOL": "false"}, "'false' is not a boolean"),
            ({"BOOL": 0}, "0 is not a boolean"),
            ({"S": 1}, "1 is not text"),
            ({"S": "\ud800"}, "half of a character"),
            ({"N": "NaN"}, "'NaN' is not a number that DynamoDB holds"),
            ({"N": "-Infinity"}, "is not a number that DynamoDB holds"),
            ({"N": "sNaN"}, "is not a number that DynamoDB holds"),
            ({"N": "twelve"}, "'twelve' is not a number"),
            ({"N": None}, "None is not text"),
            ({"B": "a"}, "is not base64"),
            ({"B": "****"}, "is not base64"),
            ({"L": [{"N": "x"}]}, "'x' is not a number"),
            ({"M": {"deep": {"BOOL": 1}}}, "1 is not a boolean"),
            ({"NS": ["1", "x"]}, "'x' is not a number"),
            ({"BS": ["a"]}, "is not base64"),
            ("text", "'text' is not an attribute of one type"),
        ],
    )
    def test_a_malformed_attribute_is_refused_with_the_reason(self, attribute: Any, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            from_json({**GOOD_LINE, "new_image": {"A": attribute}})

    @pytest.mark.parametrize("number", [0.1, True])
    def test_a_number_that_is_not_text_is_refused_since_it_may_have_lost_digits(self, number: object) -> None:
        with pytest.raises(ValueError, match="is not text"):
            from_json({**GOOD_LINE, "new_image": {"A": {"N": number}}})

    @pytest.mark.parametrize("members", [[1], "abc", [None]])
    def test_a_set_of_text_holds_nothing_but_text(self, members: object) -> None:
        with pytest.raises(ValueError, match=r"text|list"):
            from_json({**GOOD_LINE, "new_image": {"A": {"SS": members}}})

    @pytest.mark.parametrize("attribute", [{}, {"S": "a", "N": "1"}])
    def test_an_attribute_with_none_or_two_types_is_refused_in_our_own_words(self, attribute: dict[str, str]) -> None:
        with pytest.raises(ValueError) as caught:
            from_json({**GOOD_LINE, "new_image": {"A": attribute}})
        assert "unpack" not in str(caught.value)

    @pytest.mark.parametrize(
        "spoiled",
        [
            {"sequence_number": "ten"},
            {"sequence_number": None},
            {"sequence_number": "1" * 41},
            {"event": "UPSERT"},
            {"created_at": "yesterday"},
            {"created_at": None},
            {"created_at": 1e300},
            {"keys": None},
            {"keys": []},
            {"new_image": "x"},
        ],
    )
    def test_a_malformed_frame_is_a_value_error(self, spoiled: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            from_json({**GOOD_LINE, **spoiled})

    def test_an_item_is_decoded_attribute_by_attribute(self) -> None:
        assert decode_item({"A": {"S": "x"}, "B": {"NULL": True}}) == {"A": "x", "B": None}
