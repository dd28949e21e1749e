"""What the pipeline costs a month: quantities times unit prices, in exact decimals. Pure.

List prices, on demand: without free allowances, which an account has only once, and without volume discounts,
reservations, savings plans and taxes. NOT_COUNTED names what is not in it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

HOURS_A_MONTH = Decimal(730)
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
SERVERLESS = "db.serverless"
"""The class of an instance that is paid for by the Aurora capacity unit (ACU)."""
IO_OPTIMIZED = "aurora-iopt1"
NOT_COUNTED = (
    "backups and snapshots",
    "data transfer",
    "NAT gateways and VPC endpoints",
    "KMS keys and requests",
    "requests to Secrets Manager",
    "CloudWatch logs, metrics and alarms other than those of autoscaling",
    "SQS",
    "secondary indexes of the table",
    "RDS Extended Support",
)
"""What a pipeline may cost besides, and what no line is about."""
_CENT = Decimal("0.01")


class Meter(StrEnum):
    """What AWS meters. The values are the names in prices.toml."""

    INSTANCE_HOUR = "instance_hour"
    ACU_HOUR = "acu_hour"
    STORAGE_GB = "storage_gb"
    IO_MILLION = "io_million"
    TABLE_GB = "table_gb"
    WRITE_MILLION = "write_million"
    READ_MILLION = "read_million"
    WRITE_CAPACITY_HOUR = "write_capacity_hour"
    READ_CAPACITY_HOUR = "read_capacity_hour"
    STREAM_READ_MILLION = "stream_read_million"
    LAMBDA_REQUEST_MILLION = "lambda_request_million"
    LAMBDA_GB_SECOND = "lambda_gb_second"
    SECRET_MONTH = "secret_month"  # noqa: S105 -- the name of a meter
    ALARM_MONTH = "alarm_month"

    @property
    def label(self) -> str:
        return _LABELS[self][0]

    @property
    def unit(self) -> str:
        return _LABELS[self][1]


_LABELS = {
    Meter.INSTANCE_HOUR: ("instances", "hours"),
    Meter.ACU_HOUR: ("serverless capacity", "ACU hours"),
    Meter.STORAGE_GB: ("Aurora storage", "GB"),
    Meter.IO_MILLION: ("Aurora I/O", "million requests"),
    Meter.TABLE_GB: ("DynamoDB storage", "GB"),
    Meter.WRITE_MILLION: ("DynamoDB writes (on demand)", "million write units"),
    Meter.READ_MILLION: ("DynamoDB reads (on demand)", "million read units"),
    Meter.WRITE_CAPACITY_HOUR: ("DynamoDB write capacity (provisioned)", "unit hours"),
    Meter.READ_CAPACITY_HOUR: ("DynamoDB read capacity (provisioned)", "unit hours"),
    Meter.STREAM_READ_MILLION: ("DynamoDB stream reads", "million reads"),
    Meter.LAMBDA_REQUEST_MILLION: ("Lambda requests", "million requests"),
    Meter.LAMBDA_GB_SECOND: ("Lambda duration (arm64)", "GB seconds"),
    Meter.SECRET_MONTH: ("secrets", "secrets"),
    Meter.ALARM_MONTH: ("autoscaling's alarms", "alarms"),
}


@dataclass(frozen=True, slots=True)
class PricedProduct:
    """Something that has one price in a region. `io_optimized` counts for instances, ACUs and storage only."""

    meter: Meter
    instance_class: str = ""
    io_optimized: bool = False

    def __str__(self) -> str:
        return f"{self.instance_class or self.meter.label}{' (I/O-Optimized)' if self.io_optimized else ''}"


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """USD a unit of the product's meter; None if it is unknown, and then `reason` says why."""

    dollars: Decimal | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Unit prices of one region and where they come from. `date` is the day of their source, None without prices.

    `reason` says why they are not AWS's own of today.
    """

    prices: Mapping[PricedProduct, UnitPrice]
    source: str
    region: str
    date: date | None
    reason: str = ""

    def of(self, product: PricedProduct) -> UnitPrice:
        return self.prices.get(product, UnitPrice(None, f"no price of {product} was asked for"))


@dataclass(frozen=True, slots=True)
class Range:
    """From low to high; the same if there is nothing to choose."""

    low: Decimal
    high: Decimal

    @classmethod
    def exactly(cls, value: Decimal) -> Range:
        return cls(value, value)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: Decimal) -> Range:
        return Range(self.low * factor, self.high * factor)

    def in_cents(self) -> Range:
        return Range(*(value.quantize(_CENT, ROUND_HALF_UP) for value in (self.low, self.high)))


@dataclass(frozen=True, slots=True)
class Capacity:
    """The cluster as it stands, and the place of the table. `serverless` is the least and the most ACUs of an instance.

    `cluster_id` is None without a cluster. `secret` is the ARN of the secret with the cluster's managed password.
    """

    writer_class: str | None
    reader_classes: tuple[str, ...]
    serverless: tuple[Decimal, Decimal] | None
    storage_type: str
    cluster_id: str | None
    table: str
    region: str
    secret: str | None = None

    @property
    def io_optimized(self) -> bool:
        return self.storage_type == IO_OPTIMIZED

    def with_reader(self, instance_class: str) -> Capacity:
        return replace(self, reader_classes=(*self.reader_classes, instance_class))


@dataclass(frozen=True, slots=True)
class Quantity:
    """How much of something a month; None if it is unknown. `source` says where it comes from, or why not."""

    value: Decimal | None
    source: str


@dataclass(frozen=True, slots=True)
class CostLine:
    """One line of the estimate. `monthly` is in whole cents; None if quantity or price is unknown."""

    what: str
    quantity: Range | None
    unit: str
    unit_price: Decimal | None
    monthly: Range | None
    source: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """All lines, and their total: a lower bound if `without` names lines that are not in it, None if no line is."""

    lines: tuple[CostLine, ...]
    total: Range | None
    without: tuple[str, ...]

    def keeps(self, budget: Decimal) -> bool | None:
        """Whether a month costs no more than the budget, by the upper end; None if an unknown part decides it."""
        if self.total is not None and self.total.high > budget:
            return False
        return None if self.without else True


NOTHING = Estimate((), Range.exactly(Decimal("0.00")), ())
"""What an embedded environment costs."""


def products(capacity: Capacity, meters: Iterable[Meter]) -> tuple[PricedProduct, ...]:
    """Everything that has to have a price for an estimate, each once."""
    classes = [name for name in (capacity.writer_class, *capacity.reader_classes) if name]
    metered = [computing(name, capacity) for name in classes]
    return tuple(dict.fromkeys([*metered, *(_used(meter, capacity) for meter in meters)]))


def computing(instance_class: str, capacity: Capacity) -> PricedProduct:
    """What an instance of a class in this cluster is paid for."""
    if instance_class == SERVERLESS:
        return PricedProduct(Meter.ACU_HOUR, io_optimized=capacity.io_optimized)
    return PricedProduct(Meter.INSTANCE_HOUR, instance_class, capacity.io_optimized)


def _used(meter: Meter, capacity: Capacity) -> PricedProduct:
    return PricedProduct(meter, io_optimized=capacity.io_optimized and meter is Meter.STORAGE_GB)


def monthly(capacity: Capacity, quantities: Mapping[Meter, Quantity], prices: PriceBook) -> Estimate:
    """What the pipeline costs a month as it stands, with a month's use of each meter."""
    lines = _instances(capacity, prices) + _usage(capacity, quantities, prices)
    known = [line.monthly for line in lines if line.monthly is not None]
    total = sum(known, start=Range.exactly(Decimal("0.00"))) if known else None
    return Estimate(tuple(lines), total, tuple(line.what for line in lines if line.monthly is None))


def monthly_with_reader(capacity: Capacity, quantities: Mapping[Meter, Quantity], prices: PriceBook) -> Estimate | None:
    """The same with one reader more, of the writer's class; None without a writer.

    Readers share the storage. What the new one will read of it is unknown, so I/O stays as it is.
    """
    if capacity.writer_class is None:
        return None
    return monthly(capacity.with_reader(capacity.writer_class), quantities, prices)


def reader_a_month(instance_class: str, capacity: Capacity, prices: PriceBook) -> CostLine:
    """What one reader more of a class costs a month, without the I/O that it causes."""
    return _computing_line("reader", instance_class, 1, capacity, prices)


def _instances(capacity: Capacity, prices: PriceBook) -> list[CostLine]:
    lines = []
    if capacity.writer_class:
        lines.append(_computing_line("writer", capacity.writer_class, 1, capacity, prices))
    for name, count in Counter(capacity.reader_classes).items():
        what = "reader" if count == 1 else f"{count} readers"
        lines.append(_computing_line(what, name, count, capacity, prices))
    return lines


def _computing_line(what: str, instance_class: str, count: int, capacity: Capacity, prices: PriceBook) -> CostLine:
    hours = HOURS_A_MONTH * count
    product = computing(instance_class, capacity)
    quantity: Range | None = Range.exactly(hours)
    source = "the cluster"
    if product.meter is Meter.ACU_HOUR:
        quantity = Range(*capacity.serverless).times(hours) if capacity.serverless else None
        source = "the cluster" if capacity.serverless else "the cluster's range of ACUs is unknown"
    return _line(f"{what} {instance_class}", quantity, source, product, prices)


def _usage(capacity: Capacity, quantities: Mapping[Meter, Quantity], prices: PriceBook) -> list[CostLine]:
    return [
        _line(
            meter.label,
            None if used.value is None else Range.exactly(used.value),
            used.source,
            _used(meter, capacity),
            prices,
        )
        for meter, used in quantities.items()
    ]


def _line(what: str, quantity: Range | None, source: str, product: PricedProduct, prices: PriceBook) -> CostLine:
    price = prices.of(product)
    missing = [*([source] if quantity is None else []), *([price.reason] if price.dollars is None else [])]
    return CostLine(
        what=what,
        quantity=quantity,
        unit=product.meter.unit,
        unit_price=price.dollars,
        monthly=None if quantity is None or price.dollars is None else quantity.times(price.dollars).in_cents(),
        source="" if quantity is None else source,
        reason="; ".join(missing),
    )
