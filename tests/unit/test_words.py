"""Times, durations, sizes and counts as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from cqrsctl import words

NOW = datetime(2026, 11, 30, 12, 4, 25, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0, "0 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (250, "4 min 10 s"),
        (7_500, "2 h 5 min"),
        (3 * 86_400 + 3_600, "3 d 1 h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float | None, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (2, "2 s ago"),
        (2.04, "2.0 s ago"),
        (41, "41 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7_199, "119 min ago"),
        (7_200, "2 h ago"),
    ],
)
def test_how_long_ago_is_said_in_one_unit(seconds: float, shown: str) -> None:
    assert words.ago(seconds) == shown


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (NOW - timedelta(hours=12), "00:04:25 UTC"),
        (NOW - timedelta(hours=13), "2026-11-29 23:04:25 UTC"),
        (NOW.astimezone(timezone(timedelta(hours=14))), "12:04:25 UTC"),
        (NOW.replace(tzinfo=None), "12:04:25 UTC"),
    ],
)
def test_a_time_has_its_zone_and_its_date_if_it_is_not_of_today(at: datetime, shown: str) -> None:
    assert words.moment(at, NOW) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_500, "1.5 KB"), (16_384, "16 KB"), (999_600, "1.0 MB")],
)
def test_a_size_has_the_unit_that_leaves_it_short(number: int, shown: str) -> None:
    assert words.size(number) == shown


@pytest.mark.parametrize(
    ("number", "noun", "plural", "shown"),
    [
        (0, "row", None, "0 rows"),
        (1, "row", None, "1 row"),
        (2, "is of", "are of", "2 are of"),
        (1, "dead letter", None, "1 dead letter"),
    ],
)
def test_one_thing_is_singular(number: int, noun: str, plural: str | None, shown: str) -> None:
    assert words.count(number, noun, plural) == shown


def test_dollars_have_two_decimals_or_more() -> None:
    assert words.dollars(Decimal("1234.5")) == "$1,234.50"
    assert words.dollars(Decimal("0.0000133334")) == "$0.0000133334"
