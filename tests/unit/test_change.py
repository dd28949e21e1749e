"""Versions: which of two changes is the later one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrsctl.change import SEQUENCE_RANGE, ChangeRecord, Event, SequenceNumber, stream_label_micros, version_of

TABLE = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products"
OLD = f"{TABLE}/stream/2024-03-01T10:00:00.000"
ANEW = f"{TABLE}/stream/2024-03-01T10:00:00.001"
LONGEST_SEQUENCE_NUMBER = SEQUENCE_RANGE - 1


def test_a_label_is_the_streams_creation_time_in_microseconds() -> None:
    assert stream_label_micros(f"{TABLE}/stream/1970-01-01T00:00:01.500") == 1_500_000


def test_a_label_without_a_zone_is_utc() -> None:
    expected = int(datetime(2024, 3, 1, 10, tzinfo=UTC).timestamp()) * 1_000_000
    assert stream_label_micros(OLD) == expected


def test_a_label_with_a_zone_is_taken_at_its_word() -> None:
    assert stream_label_micros(f"{TABLE}/stream/2024-03-01T12:00:00.000+02:00") == stream_label_micros(OLD)


def test_all_six_decimals_of_a_label_count() -> None:
    assert stream_label_micros(f"{TABLE}/stream/1970-01-01T00:00:00.000001") == 1


def test_the_label_is_what_follows_the_last_stream_part() -> None:
    assert stream_label_micros("arn:aws:dynamodb:x:1:table/a/stream/b/stream/1970-01-01T00:00:01.000") == 1_000_000


@pytest.mark.parametrize("arn", ["", TABLE, f"{TABLE}/stream/", f"{TABLE}/stream/latest"])
def test_what_is_not_the_arn_of_a_stream_is_refused(arn: str) -> None:
    with pytest.raises(ValueError, match=r"not the ARN|is no time"):
        stream_label_micros(arn)


def test_a_table_made_anew_wins_with_smaller_sequence_numbers() -> None:
    assert version_of(ANEW, 1) > version_of(OLD, LONGEST_SEQUENCE_NUMBER)


def test_within_a_stream_the_sequence_number_decides() -> None:
    assert version_of(OLD, 101) > version_of(OLD, 100)


def test_sequence_numbers_compare_as_integers_not_as_text() -> None:
    nine, ten = "900000000000000000001", "1000000000000000000000"
    assert ten < nine
    assert version_of(OLD, int(ten)) > version_of(OLD, int(nine))


def test_the_largest_version_fits_a_decimal_of_65_digits() -> None:
    last = f"{TABLE}/stream/9999-12-31T23:59:59.999"
    assert len(str(version_of(last, LONGEST_SEQUENCE_NUMBER))) <= 65


@given(
    older=st.integers(0, LONGEST_SEQUENCE_NUMBER),
    newer=st.integers(0, LONGEST_SEQUENCE_NUMBER),
)
def test_no_sequence_number_reaches_into_the_next_streams_versions(older: int, newer: int) -> None:
    assert version_of(ANEW, newer) > version_of(OLD, older)


def test_a_change_has_the_version_of_its_stream_and_sequence_number() -> None:
    change = ChangeRecord(OLD, 7, Event.REMOVE, {"ProductId": None}, None, None, datetime(2024, 3, 1, tzinfo=UTC))
    assert change.version == stream_label_micros(OLD) * 10**40 + 7


def test_a_change_names_its_event_key_and_sequence_number() -> None:
    change = ChangeRecord(OLD, 7, Event.REMOVE, {"ProductId": "a1"}, None, None, datetime(2024, 3, 1, tzinfo=UTC))
    assert str(change) == "REMOVE of ProductId a1 (sequence number 7)"


def test_a_sequence_number_compares_as_an_integer_and_keeps_the_zeros_it_came_with() -> None:
    padded = SequenceNumber("000000000000000000042")

    assert padded == 42
    assert padded < SequenceNumber("100")
    assert f"{padded}" == str(padded) == "000000000000000000042"
    for text in ("", "-1", "1.5", "x", "１"):
        with pytest.raises(ValueError, match="not a sequence number"):
            SequenceNumber(text)
