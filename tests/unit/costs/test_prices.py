"""Prices: the Price List's exact answer, else the dated table, else unknown."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cqrsctl.costs import prices
from cqrsctl.costs.monthly import Meter, PricedProduct
from cqrsctl.errors import AwsError
from tests.paginated import Paginated

if TYPE_CHECKING:
    from collections.abc import Callable

TODAY = date(2026, 11, 23)
R6G = PricedProduct(Meter.INSTANCE_HOUR, "db.r6g.large")
R6G_OPTIMIZED = PricedProduct(Meter.INSTANCE_HOUR, "db.r6g.large", io_optimized=True)
STORAGE = PricedProduct(Meter.STORAGE_GB)
STREAM_READS = PricedProduct(Meter.STREAM_READ_MILLION)
Offer = dict[str, Any]


def offer(family: str, unit: str, *tiers: tuple[str, str], region: str = "eu-west-1", **attributes: str) -> Offer:
    """A product as GetProducts gives it. Tiers are where they begin, and the price."""
    dimensions = {
        f"SKU.JRTCKXETXF.{number}": {
            "rateCode": f"SKU.JRTCKXETXF.{number}",
            "unit": unit,
            "beginRange": begin,
            "endRange": tiers[number + 1][0] if number + 1 < len(tiers) else "Inf",
            "pricePerUnit": {"USD": price},
            "appliesTo": [],
        }
        for number, (begin, price) in enumerate(tiers)
    }
    return {
        "product": {"sku": "SKU", "productFamily": family, "attributes": {"regionCode": region, **attributes}},
        "serviceCode": "service",
        "terms": {
            "OnDemand": {"SKU.JRTCKXETXF": {"priceDimensions": dimensions, "termAttributes": {}}},
            "Reserved": {"SKU.RI": {"priceDimensions": {"x": {"unit": unit, "pricePerUnit": {"USD": "0.01"}}}}},
        },
        "version": "20260920",
    }


def instance(price: str, usage: str = "EU-InstanceUsage:db.r6g.large", **more: str) -> Offer:
    return offer(
        "Database Instance",
        "Hrs",
        ("0", price),
        usagetype=usage,
        **{
            "instanceType": "db.r6g.large",
            "databaseEngine": "Aurora MySQL",
            "deploymentOption": "Single-AZ",
            **more,
        },
    )


def storage(price: str, usage: str = "EU-Aurora:StorageUsage", engine: str = "Any") -> Offer:
    return offer(
        "Database Storage",
        "GB-Mo",
        ("0", price),
        usagetype=usage,
        volumeType="General Purpose-Aurora",
        databaseEngine=engine,
    )


def lambdas(group: str, unit: str, usage: str, *tiers: tuple[str, str]) -> Offer:
    return offer("Serverless", unit, *tiers, group=group, usagetype=usage)


STANDARD = instance("0.2900000000")
OPTIMIZED = instance("0.3770000000", "EU-InstanceUsageIOOptimized:db.r6g.large")


class PriceList(Paginated):
    """boto3's client of the Price List, answering with pages of offers, whatever is asked."""

    def __init__(self, *pages: list[Offer], error: Exception | None = None) -> None:
        self.pages = pages
        self.error = error
        self.asked: list[dict[str, Any]] = []

    def get_products(self, **parameters: Any) -> Any:
        self.asked.append(parameters)
        if self.error:
            raise self.error
        number = int(parameters.get("NextToken", "0"))
        page: dict[str, Any] = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(o) for o in self.pages[number]]}
        if number + 1 < len(self.pages):
            page["NextToken"] = str(number + 1)
        return page


@pytest.mark.parametrize(
    ("product", "answer", "dollars"),
    [
        (R6G, [OPTIMIZED, STANDARD], "0.29"),
        (R6G_OPTIMIZED, [STANDARD, OPTIMIZED], "0.377"),
        (
            PricedProduct(Meter.ACU_HOUR),
            [
                offer(
                    "ServerlessV2",
                    "ACU-Hr",
                    ("0", price),
                    usagetype=f"EU-Aurora:ServerlessV2{mode}Usage",
                    databaseEngine="Aurora MySQL",
                )
                for mode, price in (("IOOptimized", "0.19"), ("", "0.14"))
            ],
            "0.14",
        ),
        (STORAGE, [storage("0.11"), storage("0.00", "EU-Aurora:StorageUsage-LimitlessPreview")], "0.11"),
        (
            PricedProduct(Meter.STORAGE_GB, io_optimized=True),
            [
                offer(
                    "Database Storage",
                    "GB-Mo",
                    ("0", "0.248"),
                    usagetype="EU-Aurora:IO-OptimizedStorageUsage",
                    volumeType="IO Optimized-Aurora",
                    databaseEngine="Any",
                )
            ],
            "0.248",
        ),
        (
            PricedProduct(Meter.IO_MILLION),
            [
                offer(
                    "System Operation",
                    "IOs",
                    ("0", "0.0000002200"),
                    usagetype="EU-Aurora:StorageIOUsage",
                    group="Aurora I/O Operation",
                    databaseEngine="Any",
                )
            ],
            "0.22",
        ),
        (
            PricedProduct(Meter.WRITE_MILLION),
            [
                offer(
                    "Amazon DynamoDB PayPerRequest Throughput",
                    "WriteRequestUnits",
                    ("0", "0.0000007050"),
                    usagetype="EU-WriteRequestUnits",
                    group="DDB-WriteUnits",
                )
            ],
            "0.705",
        ),
        (
            PricedProduct(Meter.READ_MILLION),
            [
                offer(
                    "Amazon DynamoDB PayPerRequest Throughput",
                    "ReadRequestUnits",
                    ("0", "0.0000001410"),
                    usagetype="EU-ReadRequestUnits",
                    group="DDB-ReadUnits",
                )
            ],
            "0.141",
        ),
        (
            PricedProduct(Meter.TABLE_GB),  # 25 GB are free, once an account; a class of its own is another product
            [
                offer(
                    "Database Storage",
                    "GB-Mo",
                    ("0", "0.0000000000"),
                    ("25", "0.2830000000"),
                    usagetype="EU-TimedStorage-ByteHrs",
                    volumeType="Amazon DynamoDB - Indexed DataStore",
                ),
                offer(
                    "Database Storage",
                    "GB-Mo",
                    ("0", "0.1130000000"),
                    usagetype="EU-IA-TimedStorage-ByteHrs",
                    volumeType="Amazon DynamoDB - Indexed DataStore - IA",
                ),
            ],
            "0.283",
        ),
        (
            PricedProduct(Meter.WRITE_CAPACITY_HOUR),
            [
                offer(
                    "Provisioned IOPS",
                    "WriteCapacityUnit-Hrs",
                    ("0", "0.0000000000"),
                    ("18600", "0.0007350000"),
                    usagetype="EU-WriteCapacityUnit-Hrs",
                    group="DDB-WriteUnits",
                )
            ],
            "0.000735",
        ),
        (
            PricedProduct(Meter.READ_CAPACITY_HOUR),
            [
                offer(
                    "Provisioned IOPS",
                    "ReadCapacityUnit-Hrs",
                    ("0", "0.0000000000"),
                    ("18600", "0.0001470000"),
                    usagetype="EU-ReadCapacityUnit-Hrs",
                    group="DDB-ReadUnits",
                )
            ],
            "0.000147",
        ),
        (
            PricedProduct(Meter.SECRET_MONTH),
            [offer("Secret", "Secrets", ("0", "0.4000000000"), usagetype="EU-AWSSecretsManager-Secrets")],
            "0.40",
        ),
        (
            PricedProduct(Meter.ALARM_MONTH),
            [
                offer("Alarm", "Alarms", ("0", "0.3000000000"), usagetype="EU-CW:HighResAlarmMonitorUsage"),
                offer("Alarm", "Alarms", ("0", "0.1000000000"), usagetype="EU-CW:AlarmMonitorUsage"),
            ],
            "0.10",
        ),
        (
            STREAM_READS,  # the free allowance of an account is a tier without a price
            [
                offer(
                    "API Request",
                    "Requests",
                    ("0", "0.0000000000"),
                    ("2500000", "0.0000002260"),
                    usagetype="EU-Streams-Requests",
                    group="DDB-StreamsReadRequests",
                )
            ],
            "0.226",
        ),
        (
            PricedProduct(Meter.LAMBDA_REQUEST_MILLION),
            [lambdas("AWS-Lambda-Requests-ARM", "Request", "EU-Request-ARM", ("0", "0.0000002000"))],
            "0.20",
        ),
        (
            PricedProduct(Meter.LAMBDA_GB_SECOND),  # tiers of volume: the first is the list price, in whatever order
            [
                lambdas(
                    "AWS-Lambda-Duration-ARM",
                    "Lambda-GB-Second",
                    "EU-Lambda-GB-Second-ARM",
                    ("18750000000", "0.0000106667"),
                    ("0", "0.0000133334"),
                    ("7500000000", "0.0000120001"),
                )
            ],
            "0.0000133334",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, (PricedProduct, str)) else "",
)
def test_each_kind_of_answer_gives_its_list_price(product: PricedProduct, answer: list[Offer], dollars: str) -> None:
    found = prices.ask(PriceList(answer), product, "eu-west-1")

    assert (found.dollars, found.reason) == (Decimal(dollars), "")


def test_us_east_1_has_usage_types_without_a_prefix_and_with_one() -> None:
    for usage in ("InstanceUsage:db.r6g.large", "USE1-InstanceUsage:db.r6g.large"):
        listed = instance("0.26", usage, regionCode="us-east-1")
        assert prices.ask(PriceList([listed]), R6G, "us-east-1").dollars == Decimal("0.26")


def test_the_filters_name_region_class_and_engine_and_every_page_is_read() -> None:
    client = PriceList([OPTIMIZED], [STANDARD])

    assert prices.ask(client, R6G, "eu-west-1").dollars == Decimal("0.29")

    assert [parameters.get("NextToken") for parameters in client.asked] == [None, "1"]
    assert client.asked[0]["ServiceCode"] == "AmazonRDS"
    assert {asked["Field"]: asked["Value"] for asked in client.asked[0]["Filters"]} == {
        "regionCode": "eu-west-1",
        "productFamily": "Database Instance",
        "databaseEngine": "Aurora MySQL",
        "instanceType": "db.r6g.large",
        "deploymentOption": "Single-AZ",
    }
    assert {asked["Type"] for asked in client.asked[0]["Filters"]} == {"TERM_MATCH"}


def test_the_engines_own_price_comes_before_the_one_of_all_engines() -> None:
    client = PriceList(
        [storage("0.11"), storage("0.12", engine="Aurora MySQL"), storage("9", engine="Aurora PostgreSQL")]
    )

    assert prices.ask(client, STORAGE, "eu-west-1").dollars == Decimal("0.12")


def second_term(listed: Offer) -> Offer:
    terms = listed["terms"]["OnDemand"]
    other = json.loads(json.dumps(terms["SKU.JRTCKXETXF"]).replace("0.2900000000", "0.31"))
    return {**listed, "terms": {"OnDemand": {**terms, "SKU.OTHER": other}}}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([STANDARD, instance("0.31")], "2 products"),
        ([STANDARD, STANDARD], "2 products"),
        ([second_term(STANDARD)], "2 prices"),
        ([instance("0.0000000000")], "0 prices"),
        ([instance("dear")], "0 prices"),
        ([{**STANDARD, "terms": {}}], "0 prices"),
        ([offer("Database Instance", "Months", ("0", "200"), **STANDARD["product"]["attributes"])], "0 prices"),
        ([{**STANDARD, "terms": {"OnDemand": {"x": {"priceDimensions": {"y": {"unit": "Hrs"}}}}}}], "0 prices"),
        ([], "no price of db.r6g.large in eu-west-1"),
        ([OPTIMIZED], "no price of db.r6g.large"),
        ([instance("0.29", instanceType="db.r6g.xlarge")], "no price of db.r6g.large"),
        ([instance("0.29", regionCode="eu-west-2")], "no price of db.r6g.large"),
        ([instance("0.29", databaseEngine="Aurora PostgreSQL")], "no price of db.r6g.large"),
        ([{}], "no price of db.r6g.large"),
    ],
)
def test_an_answer_that_is_not_exactly_one_price_is_unknown(answer: list[Offer], reason: str) -> None:
    found = prices.ask(PriceList(answer), R6G, "eu-west-1")

    assert found.dollars is None
    assert reason in found.reason


def test_two_tiers_that_begin_at_the_same_place_are_no_price() -> None:
    listed = offer(
        "API Request",
        "Requests",
        ("0", "0.1"),
        ("0", "0.2"),
        usagetype="EU-Streams-Requests",
        group="DDB-StreamsReadRequests",
    )

    assert prices.ask(PriceList([listed]), STREAM_READS, "eu-west-1").dollars is None


def test_the_price_lists_answers_are_of_today() -> None:
    book = prices.look_up(lambda: PriceList([STANDARD]), [R6G, STORAGE], "eu-west-1", TODAY)

    assert (book.source, book.region, book.date, book.reason) == ("AWS Price List", "eu-west-1", TODAY, "")
    assert book.of(R6G).dollars == Decimal("0.29")
    assert "no price of Aurora storage in eu-west-1" in book.of(STORAGE).reason


def refused() -> Any:
    error: Any = {"Error": {"Code": "AccessDeniedException", "Message": "no pricing:GetProducts"}}
    return PriceList(error=ClientError(error, "GetProducts"))


def unreachable() -> Any:
    return PriceList(error=EndpointConnectionError(endpoint_url="https://api.pricing.us-east-1.amazonaws.com"))


def not_a_price_list() -> Any:
    class Odd(Paginated):
        def get_products(self, **_: Any) -> Any:
            return {"ListAllMyBucketsResult": {}}

    return Odd()


def unmakeable() -> Any:
    raise AwsError("pricing: no endpoint.")


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (refused, "access denied. no pricing:GetProducts"),
        (unreachable, "Could not connect"),
        (not_a_price_list, "PriceList is missing"),
        (unmakeable, "no endpoint"),
        (None, "embedded stack"),
    ],
)
def test_where_aws_cannot_be_asked_the_table_stands_in_and_says_why(
    client: Callable[[], Any] | None, reason: str
) -> None:
    book = prices.look_up(client, [R6G], "us-east-1", TODAY)

    assert book.source == "table in cqrsctl"
    assert book.date == date(2026, 7, 10)
    assert reason in book.reason
    assert book.of(R6G).dollars == Decimal("0.260")


def test_the_table_knows_each_meter_of_us_east_1_and_some_of_eu_west_1() -> None:
    meters = [PricedProduct(meter, "db.r7g.xlarge" if meter is Meter.INSTANCE_HOUR else "") for meter in Meter]
    for product in [*meters, R6G_OPTIMIZED, PricedProduct(Meter.ACU_HOUR, io_optimized=True)]:
        assert prices.from_table([product], "us-east-1", "").of(product).dollars, product

    ireland = prices.from_table(meters, "eu-west-1", "")
    assert ireland.date == date(2026, 9, 11)
    assert ireland.of(PricedProduct(Meter.WRITE_MILLION)).dollars == Decimal("0.705")
    assert "no price of Aurora storage in eu-west-1" in ireland.of(STORAGE).reason


@pytest.mark.parametrize(
    ("product", "region", "reason"),
    [
        (PricedProduct(Meter.INSTANCE_HOUR, "db.r99g.huge"), "us-east-1", "no price of db.r99g.huge in us-east-1"),
        (PricedProduct(Meter.INSTANCE_HOUR, "date"), "us-east-1", "no price of date"),
        (
            PricedProduct(Meter.INSTANCE_HOUR, "db.r7g.large", io_optimized=True),
            "us-east-1",
            "no price of db.r7g.large (I/O-Optimized) in us-east-1",
        ),
        (R6G, "xx-west-9", "no prices of region xx-west-9"),
    ],
)
def test_what_the_table_does_not_know_is_not_guessed(product: PricedProduct, region: str, reason: str) -> None:
    found = prices.from_table([product], region, "why").of(product)

    assert found.dollars is None
    assert reason in found.reason


def test_an_unknown_region_has_no_date() -> None:
    assert prices.from_table([R6G], "xx-west-9", "why").date is None
