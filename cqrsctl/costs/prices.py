"""Unit prices: AWS's Price List, asked each time, else the dated table that comes with the package.

An answer counts only if it is exact: one product with the very attributes that were asked for, and one price. The
Price List lists free allowances and volume discounts as tiers; the first tier that costs something is the list price.
The attributes and usage types are those of AWS's offer files (pricing.us-east-1.amazonaws.com/offers/v1.0/aws).
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib import resources
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall
from cqrsctl.costs.monthly import Meter, PriceBook, PricedProduct, UnitPrice
from cqrsctl.errors import AwsError, CqrsctlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

PRICE_LIST_REGION = "us-east-1"
"""The Price List is served in few regions, and each knows the prices of all."""
PRICE_LIST = "AWS Price List"
TABLE = "table in cqrsctl"
_ENGINES = ("Aurora MySQL", "Any")
"""Some regions list storage and I/O for each engine, others for all of them."""
_REGION_PREFIX = r"([A-Z]{2,4}\d?-)?"
_MILLION = Decimal(1_000_000)
_AMBIGUOUS = "the AWS Price List gives {} for {} in {}, so none is taken"


@dataclass(frozen=True, slots=True)
class Query:
    """How the Price List is asked for a product, and what its answer must look like.

    `usage_type` is a regular expression without the region's prefix; `units` are the listed units, none for any;
    `per` is how many of the listed units make one of the meter's.
    """

    service: str
    attributes: Mapping[str, str]
    usage_type: str
    units: frozenset[str]
    per: Decimal = Decimal(1)

    def call(self, region: str) -> ApiCall:
        fields = {"regionCode": region, **self.attributes}
        filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
        return ApiCall("pricing", "GetProducts", {"ServiceCode": self.service, "Filters": filters})


def query(product: PricedProduct) -> Query:
    """How the Price List is asked for a product."""
    optimized = product.io_optimized
    match product.meter:
        case Meter.INSTANCE_HOUR:
            return Query(
                "AmazonRDS",
                {
                    "productFamily": "Database Instance",
                    "databaseEngine": "Aurora MySQL",
                    "instanceType": product.instance_class,
                    "deploymentOption": "Single-AZ",
                },
                rf"InstanceUsage{'IOOptimized' if optimized else ''}:\S+",
                frozenset({"Hrs"}),
            )
        case Meter.ACU_HOUR:
            return Query(
                "AmazonRDS",
                {"productFamily": "ServerlessV2", "databaseEngine": "Aurora MySQL"},
                f"Aurora:ServerlessV2{'IOOptimized' if optimized else ''}Usage",
                frozenset({"ACU-Hr"}),
            )
        case Meter.STORAGE_GB:
            return Query(
                "AmazonRDS",
                {
                    "productFamily": "Database Storage",
                    "volumeType": "IO Optimized-Aurora" if optimized else "General Purpose-Aurora",
                },
                f"Aurora:{'IO-Optimized' if optimized else ''}StorageUsage",
                frozenset({"GB-Mo"}),
            )
        case _:
            return _QUERIES[product.meter]


_QUERIES = {
    Meter.IO_MILLION: Query(
        "AmazonRDS",
        {"productFamily": "System Operation", "group": "Aurora I/O Operation"},
        "Aurora:StorageIOUsage",
        frozenset({"IOs"}),
        _MILLION,
    ),
    Meter.WRITE_MILLION: Query(
        "AmazonDynamoDB",
        {"productFamily": "Amazon DynamoDB PayPerRequest Throughput", "group": "DDB-WriteUnits"},
        "WriteRequestUnits",
        frozenset({"WriteRequestUnits"}),
        _MILLION,
    ),
    Meter.READ_MILLION: Query(
        "AmazonDynamoDB",
        {"productFamily": "Amazon DynamoDB PayPerRequest Throughput", "group": "DDB-ReadUnits"},
        "ReadRequestUnits",
        frozenset({"ReadRequestUnits"}),
        _MILLION,
    ),
    Meter.TABLE_GB: Query(
        "AmazonDynamoDB",
        {"productFamily": "Database Storage", "volumeType": "Amazon DynamoDB - Indexed DataStore"},
        "TimedStorage-ByteHrs",
        frozenset({"GB-Mo"}),
    ),
    Meter.WRITE_CAPACITY_HOUR: Query(
        "AmazonDynamoDB",
        {"productFamily": "Provisioned IOPS", "group": "DDB-WriteUnits"},
        "WriteCapacityUnit-Hrs",
        frozenset(),
    ),
    Meter.READ_CAPACITY_HOUR: Query(
        "AmazonDynamoDB",
        {"productFamily": "Provisioned IOPS", "group": "DDB-ReadUnits"},
        "ReadCapacityUnit-Hrs",
        frozenset(),
    ),
    Meter.STREAM_READ_MILLION: Query(
        "AmazonDynamoDB",
        {"productFamily": "API Request", "group": "DDB-StreamsReadRequests"},
        "Streams-Requests",
        frozenset(),
        _MILLION,
    ),
    Meter.LAMBDA_REQUEST_MILLION: Query(
        "AWSLambda",
        {"productFamily": "Serverless", "group": "AWS-Lambda-Requests-ARM"},
        "Request-ARM",
        frozenset({"Request", "Requests"}),
        _MILLION,
    ),
    Meter.LAMBDA_GB_SECOND: Query(
        "AWSLambda",
        {"productFamily": "Serverless", "group": "AWS-Lambda-Duration-ARM"},
        "Lambda-GB-Second-ARM",
        frozenset({"Lambda-GB-Second", "Second"}),
    ),
    Meter.SECRET_MONTH: Query(
        "AWSSecretsManager",
        {"productFamily": "Secret"},
        "AWSSecretsManager-Secrets",
        frozenset({"Secrets"}),
    ),
    Meter.ALARM_MONTH: Query(
        "AmazonCloudWatch",
        {"productFamily": "Alarm"},
        "CW:AlarmMonitorUsage",
        frozenset({"Alarms"}),
    ),
}


def look_up(client: Callable[[], Any] | None, wanted: Iterable[PricedProduct], region: str, today: date) -> PriceBook:
    """The prices of a region, from the Price List or, if that fails, from the table with the reason.

    Args:
        client: makes boto3's client of the Price List; None if it must not be asked.
        today: the date that the Price List's answers are given.
    """
    wanted = tuple(wanted)
    if client is None:
        return from_table(wanted, region, "an embedded stack does not ask AWS")
    try:
        made = client()
        return PriceBook({product: ask(made, product, region) for product in wanted}, PRICE_LIST, region, today)
    except CqrsctlError as error:
        return from_table(wanted, region, str(error))


def ask(client: Any, product: PricedProduct, region: str) -> UnitPrice:
    """The Price List's price of one product; unknown if the answer is not exactly one. Raises AwsError."""
    asked = query(product)
    offers = [offer for offer in _offers(client, asked, region) if _fits(offer, asked, region)]
    engines = [offer["product"]["attributes"].get("databaseEngine") for offer in offers]
    if engine := next((name for name in _ENGINES if name in engines), None):
        offers = [offer for offer, listed in zip(offers, engines, strict=True) if listed == engine]
    if not offers:
        return UnitPrice(None, f"the AWS Price List has no price of {product} in {region}")
    if len(offers) > 1:
        return UnitPrice(None, _AMBIGUOUS.format(f"{len(offers)} products", product, region))
    found = _list_prices(offers[0], asked)
    if len(found) != 1:
        return UnitPrice(None, _AMBIGUOUS.format(f"{len(found)} prices", product, region))
    return UnitPrice(found[0] * asked.per)


def from_table(wanted: Iterable[PricedProduct], region: str, reason: str) -> PriceBook:
    """The package's own prices of a region, and why they are used."""
    listed = _table().get(region)
    if listed is None:
        absent = UnitPrice(None, f"the {TABLE} has no prices of region {region}")
        return PriceBook(dict.fromkeys(wanted, absent), TABLE, region, None, reason)
    return PriceBook(
        {product: _from_region(listed, product, region) for product in wanted}, TABLE, region, listed["date"], reason
    )


def _from_region(listed: Mapping[str, Any], product: PricedProduct, region: str) -> UnitPrice:
    prices = listed.get("io_optimized", {}) if product.io_optimized else listed
    price = prices.get(product.meter.value)
    if isinstance(price, dict):
        price = price.get(product.instance_class)
    if price is None:
        return UnitPrice(None, f"the {TABLE} has no price of {product} in {region}")
    return UnitPrice(Decimal(price))


def _table() -> dict[str, Any]:
    text = (resources.files("cqrsctl") / "costs" / "prices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)


def _offers(client: Any, asked: Query, region: str) -> list[dict[str, Any]]:
    """Every page of GetProducts. An emulator without a price list may answer with something else altogether."""
    call = asked.call(region)
    try:
        return [json.loads(text) for page in call.pages(client) for text in page["PriceList"]]
    except (TypeError, ValueError):
        raise AwsError("pricing GetProducts: the answer is no price list.") from None


def _fits(offer: Mapping[str, Any], asked: Query, region: str) -> bool:
    """Whether a product has the very attributes that were asked for: not every endpoint heeds the filters."""
    try:
        product = offer["product"]
        attributes = {**product["attributes"], "productFamily": product["productFamily"]}
    except (KeyError, TypeError):
        return False
    return (
        attributes.get("regionCode") == region
        and all(attributes.get(field) == value for field, value in asked.attributes.items())
        and attributes.get("databaseEngine", "Any") in _ENGINES
        and re.fullmatch(_REGION_PREFIX + asked.usage_type, attributes.get("usagetype", "")) is not None
    )


def _list_prices(offer: Mapping[str, Any], asked: Query) -> list[Decimal]:
    """The first price above zero of each on-demand term; a term that cannot be read has none."""
    found = []
    for term in offer.get("terms", {}).get("OnDemand", {}).values():
        try:
            tiers = sorted(
                (Decimal(tier.get("beginRange", "0")), Decimal(tier["pricePerUnit"]["USD"]))
                for tier in term["priceDimensions"].values()
                if not asked.units or tier["unit"] in asked.units
            )
        except (KeyError, TypeError, AttributeError, InvalidOperation):
            continue
        if len({begin for begin, _ in tiers}) == len(tiers):
            found += [price for _, price in tiers if price > 0][:1]
    return found
