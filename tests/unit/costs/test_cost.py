"""A month's cost: exact to the cent, and what is not known is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from cqrsctl.costs import monthly, usage
from cqrsctl.costs.monthly import (
    Capacity,
    CostLine,
    Meter,
    PriceBook,
    PricedProduct,
    Quantity,
    Range,
    UnitPrice,
)
from cqrsctl.costs.usage import UsageMetric
from cqrsctl.errors import AwsError
from tests.paginated import Paginated

CLUSTER = Capacity(
    writer_class="db.r6g.large",
    reader_classes=("db.r6g.large", "db.t4g.medium", "db.r6g.large"),
    serverless=None,
    storage_type="aurora",
    cluster_id="cqrs",
    table="Products",
    region="us-east-1",
)
PRICES = {
    PricedProduct(Meter.INSTANCE_HOUR, "db.r6g.large"): "0.26",
    PricedProduct(Meter.INSTANCE_HOUR, "db.t4g.medium"): "0.073",
    PricedProduct(Meter.INSTANCE_HOUR, "db.r6g.large", io_optimized=True): "0.338",
    PricedProduct(Meter.ACU_HOUR): "0.12",
    PricedProduct(Meter.ACU_HOUR, io_optimized=True): "0.16",
    PricedProduct(Meter.STORAGE_GB): "0.10",
    PricedProduct(Meter.STORAGE_GB, io_optimized=True): "0.225",
    PricedProduct(Meter.IO_MILLION): "0.20",
    PricedProduct(Meter.TABLE_GB): "0.25",
    PricedProduct(Meter.WRITE_MILLION): "0.625",
    PricedProduct(Meter.READ_MILLION): "0.125",
    PricedProduct(Meter.SECRET_MONTH): "0.40",
    PricedProduct(Meter.ALARM_MONTH): "0.10",
    PricedProduct(Meter.STREAM_READ_MILLION): "0.20",
    PricedProduct(Meter.LAMBDA_REQUEST_MILLION): "0.20",
    PricedProduct(Meter.LAMBDA_GB_SECOND): "0.0000133334",
}
BOOK = PriceBook(
    {product: UnitPrice(Decimal(dollars)) for product, dollars in PRICES.items()},
    "AWS Price List",
    "us-east-1",
    date(2026, 11, 23),
)
USED = {
    Meter.STORAGE_GB: Quantity(Decimal("123.45"), "--storage-gb"),
    Meter.IO_MILLION: Quantity(Decimal("52.56"), "--io-millions"),
    Meter.TABLE_GB: Quantity(Decimal(20), "--table-gb"),
    Meter.WRITE_MILLION: Quantity(Decimal(3), "--writes-millions"),
    Meter.READ_MILLION: Quantity(Decimal(10), "--reads-millions"),
    Meter.STREAM_READ_MILLION: Quantity(Decimal("10.512"), "4 shards"),
    Meter.LAMBDA_REQUEST_MILLION: Quantity(Decimal("0.5"), "--lambda-requests-millions"),
    Meter.LAMBDA_GB_SECOND: Quantity(Decimal(150_000), "--lambda-gb-seconds"),
    Meter.SECRET_MONTH: Quantity(Decimal(2), "Secrets Manager"),
    Meter.ALARM_MONTH: Quantity(Decimal(4), "the scaling policies"),
}
UNKNOWN = Quantity(None, "CloudWatch has no data; give the option")


def exactly(dollars: str) -> Range:
    return Range.exactly(Decimal(dollars))


def by_name(lines: tuple[CostLine, ...]) -> dict[str, CostLine]:
    return {line.what: line for line in lines}


def test_every_line_is_exact_to_the_cent_and_the_total_is_their_sum() -> None:
    found = monthly.monthly(CLUSTER, USED, BOOK)

    assert {line.what: line.monthly for line in found.lines} == {
        "writer db.r6g.large": exactly("189.80"),
        "2 readers db.r6g.large": exactly("379.60"),
        "reader db.t4g.medium": exactly("53.29"),
        "Aurora storage": exactly("12.35"),  # 12.345, and half a cent goes up
        "Aurora I/O": exactly("10.51"),
        "DynamoDB storage": exactly("5.00"),
        "DynamoDB writes (on demand)": exactly("1.88"),
        "DynamoDB reads (on demand)": exactly("1.25"),
        "DynamoDB stream reads": exactly("2.10"),
        "Lambda requests": exactly("0.10"),
        "Lambda duration (arm64)": exactly("2.00"),
        "secrets": exactly("0.80"),
        "autoscaling's alarms": exactly("0.40"),
    }
    assert found.total == exactly("659.08")
    assert not found.without


def test_one_reader_more_is_of_the_writers_class_and_costs_what_a_reader_costs() -> None:
    now = monthly.monthly(CLUSTER, USED, BOOK)
    more = monthly.monthly_with_reader(CLUSTER, USED, BOOK)

    assert more is not None
    assert (now.total, more.total) == (exactly("659.08"), exactly("848.88"))
    assert by_name(more.lines)["3 readers db.r6g.large"].quantity == exactly("2190")
    assert monthly.reader_a_month("db.r6g.large", CLUSTER, BOOK).monthly == exactly("189.80")
    assert monthly.reader_a_month("db.t4g.medium", CLUSTER, BOOK).monthly == exactly("53.29")


def test_without_a_writer_one_reader_more_has_no_class() -> None:
    empty = replace(CLUSTER, writer_class=None, reader_classes=())

    assert monthly.monthly_with_reader(empty, USED, BOOK) is None
    assert monthly.monthly(empty, USED, BOOK).total == exactly("36.39")


def test_io_optimized_has_dearer_instances_and_storage_but_no_io() -> None:
    optimized = replace(CLUSTER, storage_type="aurora-iopt1", reader_classes=())

    used = dict(USED)
    del used[Meter.IO_MILLION]
    found = by_name(monthly.monthly(optimized, used, BOOK).lines)

    assert found["writer db.r6g.large"].monthly == exactly("246.74")
    assert found["Aurora storage"].monthly == exactly("27.78")
    assert "Aurora I/O" not in found
    assert set(monthly.products(optimized, used)) <= BOOK.prices.keys()
    assert PricedProduct(Meter.STORAGE_GB, io_optimized=True) in monthly.products(optimized, used)


def test_a_serverless_instance_costs_between_its_least_and_its_most_capacity() -> None:
    serverless = replace(
        CLUSTER,
        writer_class="db.serverless",
        reader_classes=("db.t4g.medium",),
        serverless=(Decimal("0.5"), Decimal(4)),
    )

    now = monthly.monthly(serverless, USED, BOOK)
    more = monthly.monthly_with_reader(serverless, USED, BOOK)

    writer = by_name(now.lines)["writer db.serverless"]
    assert (writer.quantity, writer.unit) == (Range(Decimal(365), Decimal(2920)), "ACU hours")
    assert writer.monthly == Range(Decimal("43.80"), Decimal("350.40"))
    assert now.total == Range(Decimal("133.48"), Decimal("440.08"))
    assert more is not None
    assert more.total == Range(Decimal("177.28"), Decimal("790.48"))


def test_a_serverless_cluster_without_a_known_range_has_no_known_cost() -> None:
    serverless = replace(CLUSTER, writer_class="db.serverless", reader_classes=())

    found = monthly.monthly(serverless, USED, BOOK)

    assert found.without == ("writer db.serverless",)
    assert "range of ACUs" in by_name(found.lines)["writer db.serverless"].reason


def test_what_is_unknown_is_named_with_its_reason_and_left_out_of_the_total() -> None:
    capacity = replace(CLUSTER, writer_class="db.r9z.large", reader_classes=())
    book = replace(
        BOOK,
        prices={**BOOK.prices, PricedProduct(Meter.INSTANCE_HOUR, "db.r9z.large"): UnitPrice(None, "no such class")},
    )
    used = {**USED, Meter.STORAGE_GB: UNKNOWN}

    found = monthly.monthly(capacity, used, book)

    assert found.without == ("writer db.r9z.large", "Aurora storage")
    assert found.total == exactly("24.04")
    lines = by_name(found.lines)
    assert (lines["writer db.r9z.large"].unit_price, lines["writer db.r9z.large"].reason) == (None, "no such class")
    assert (lines["Aurora storage"].quantity, lines["Aurora storage"].reason) == (None, UNKNOWN.source)
    assert lines["Aurora storage"].unit_price == Decimal("0.10")


def test_nothing_used_costs_nothing_and_is_known() -> None:
    found = monthly.monthly(CLUSTER, {**USED, Meter.STORAGE_GB: Quantity(Decimal(0), "--storage-gb")}, BOOK)

    assert by_name(found.lines)["Aurora storage"].monthly == exactly("0.00")
    assert not found.without


def test_a_total_of_lines_that_are_all_unknown_is_unknown_and_of_no_lines_nothing() -> None:
    unpriced = replace(BOOK, prices={})

    assert monthly.monthly(CLUSTER, USED, unpriced).total is None
    assert monthly.NOTHING.total == exactly("0.00")


@pytest.mark.parametrize(
    ("total", "without", "kept"),
    [
        (exactly("99.99"), (), True),
        (exactly("100.00"), (), True),
        (exactly("100.01"), (), False),
        (Range(Decimal(50), Decimal(150)), (), False),
        (exactly("99.99"), ("Aurora storage",), None),
        (exactly("100.01"), ("Aurora storage",), False),
        (None, ("Aurora storage",), None),
    ],
)
def test_a_budget_is_kept_only_if_nothing_unknown_can_exceed_it(
    total: Range | None, without: tuple[str, ...], kept: bool | None
) -> None:
    assert monthly.Estimate((), total, without).keeps(Decimal(100)) is kept


def test_a_product_without_a_price_in_the_book_is_unknown() -> None:
    assert BOOK.of(PricedProduct(Meter.INSTANCE_HOUR, "db.x")).reason == "no price of db.x was asked for"


@pytest.mark.parametrize(
    ("hours", "monthly"),
    [
        (720, "730"),  # thirty days of one an hour
        (73, "730"),
        (0, "730"),  # what is younger than an hour counts as an hour
    ],
)
def test_sums_of_a_shorter_time_are_scaled_to_a_month(hours: int, monthly: str) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    points = [(now - timedelta(hours=hour), Decimal("0.5")) for hour in range(1, hours + 1)]

    found = usage.monthly([points, points] if points else [[(now, Decimal(1))], []], now)

    assert found.value == Decimal(monthly)
    assert found.covered == timedelta(hours=max(hours, 1))


class CloudWatch(Paginated):
    """boto3's client, answering with pages of results."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def get_metric_data(self, **parameters: Any) -> Any:
        self.asked.append(parameters)
        number = int(parameters.get("NextToken", "0"))
        more = {"NextToken": str(number + 1)} if number + 1 < len(self.pages) else {}
        return {"MetricDataResults": self.pages[number], **more}


NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
READS = UsageMetric("AWS/RDS", "VolumeReadIOPs", ("DBClusterIdentifier", "cqrs"))
WRITES = UsageMetric("AWS/RDS", "VolumeWriteIOPs", ("DBClusterIdentifier", "cqrs"))


def test_every_page_of_cloudwatchs_answer_is_read_for_the_last_thirty_days() -> None:
    first, second = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    client = CloudWatch(
        [{"Id": "m0", "Timestamps": [second], "Values": [2.5], "StatusCode": "PartialData"}],
        [{"Id": "m0", "Timestamps": [first], "Values": [1.0], "StatusCode": "Complete"}],
    )

    found = usage.read(client, [READS, WRITES], NOW)

    assert found == {READS: [(first, Decimal("1.0")), (second, Decimal("2.5"))], WRITES: []}
    assert [parameters.get("NextToken") for parameters in client.asked] == [None, "1"]
    assert client.asked[0]["StartTime"] == datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert client.asked[0]["MetricDataQueries"][1]["MetricStat"] == {
        "Metric": {
            "Namespace": "AWS/RDS",
            "MetricName": "VolumeWriteIOPs",
            "Dimensions": [{"Name": "DBClusterIdentifier", "Value": "cqrs"}],
        },
        "Period": 3600,
        "Stat": "Sum",
    }


@pytest.mark.parametrize("status", ["Forbidden", "InternalError"])
def test_a_metric_that_cloudwatch_could_not_give_is_not_taken_for_no_data(status: str) -> None:
    client = CloudWatch([{"Id": "m0", "Timestamps": [], "Values": [], "StatusCode": status}])

    with pytest.raises(AwsError, match=status):
        usage.read(client, [READS], NOW)
