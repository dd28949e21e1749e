"""The scan of a table's segments: what is asked for, and how it keeps to a read rate."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from cqrsctl.errors import AwsError
from cqrsctl.write_model.scan import ScanPace, scan, scan_segment


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Table:
    """Answers Scan from prepared answers or refusals, and remembers what was asked."""

    def __init__(self, *answers: dict[str, Any] | str) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def scan(self, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise ClientError({"Error": {"Code": answer, "Message": ""}}, "Scan")
        return answer


def page(*ids: int, last: bool = False, units: float | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"Items": [{"ProductId": {"N": str(number)}} for number in ids]}
    if not last:
        answer["LastEvaluatedKey"] = {"ProductId": {"N": str(ids[-1])}}
    return answer | ({} if units is None else {"ConsumedCapacity": {"CapacityUnits": units}})


def paced(units_a_second: float | None) -> tuple[ScanPace, Clock]:
    clock = Clock()
    return ScanPace(units_a_second, clock.monotonic, clock.sleep), clock


def test_a_segment_is_read_consistently_from_after_a_key_to_its_end() -> None:
    table = Table(page(1, 2), page(3, last=True))
    after = {"ProductId": {"N": "0"}}
    found = list(scan_segment(table, "Products", 3, 8, after, paced(None)[0]))
    assert [[int(str(item["ProductId"])) for item in one.items] for one in found] == [[1, 2], [3]]
    first, second = table.asked
    assert (first["Segment"], first["TotalSegments"], first["ConsistentRead"]) == (3, 8, True)
    assert first["ExclusiveStartKey"] == after
    assert second["ExclusiveStartKey"] == {"ProductId": {"N": "2"}}


def test_a_scan_without_a_pace_waits_for_nothing() -> None:
    pace, clock = paced(None)
    list(scan_segment(Table(page(1, last=True, units=10_000)), "Products", 0, 1, None, pace))
    assert clock.time == 100


def test_a_page_takes_no_more_items_than_memory_allows_however_small_they_are() -> None:
    table = Table(page(*range(100), units=1), page(100, last=True, units=0.5))
    list(scan_segment(table, "Products", 0, 1, None, paced(100_000)[0]))
    assert [asked["Limit"] for asked in table.asked] == [100, 8_000]
    unlimited = Table(page(1, last=True))
    list(scan_segment(unlimited, "Products", 0, 1, None, paced(None)[0]))
    assert unlimited.asked[0]["Limit"] == 8_000


def test_all_segments_together_keep_to_the_rate() -> None:
    pace, clock = paced(50)
    for segment in range(2):
        list(scan_segment(Table(page(1, units=100), page(2, last=True, units=25)), "Products", segment, 2, None, pace))
    assert clock.time - 100 == pytest.approx(250 / 50)


def test_a_page_takes_no_more_than_a_seconds_units_once_the_items_size_is_known() -> None:
    pace, _ = paced(40)
    table = Table(page(*range(100), units=50), page(100, last=True, units=0.5))
    list(scan_segment(table, "Products", 0, 1, None, pace))
    assert [asked["Limit"] for asked in table.asked] == [100, 80]


def test_an_item_that_takes_more_than_a_seconds_units_is_read_alone() -> None:
    pace, _ = paced(1)
    table = Table(page(1, units=100), page(2, last=True))
    list(scan_segment(table, "Products", 0, 1, None, pace))
    assert table.asked[1]["Limit"] == 1


def test_throttling_is_waited_out() -> None:
    pace, clock = paced(1_000)
    table = Table("ProvisionedThroughputExceededException", "ThrottlingException", page(1, last=True))
    assert len(list(scan_segment(table, "Products", 0, 1, None, pace))) == 1
    assert clock.time > 100


def test_an_answer_that_is_none_is_asked_for_again() -> None:
    pace, _ = paced(None)
    table = Table({"Body": b"<html>"}, page(1, last=True))
    assert [len(one.items) for one in scan_segment(table, "Products", 0, 1, None, pace)] == [1]


def test_a_refusal_is_told_at_once() -> None:
    with pytest.raises(AwsError) as raised:
        list(scan(Table("AccessDeniedException"), "Products", Clock().sleep))
    assert raised.value.code == "access_denied"
