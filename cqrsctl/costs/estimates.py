"""What the pipeline, a new cluster and a reader cost a month: quantities times prices, from AWS or the table."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from cqrsctl.costs import monthly, prices
from cqrsctl.costs.monthly import NOT_COUNTED, NOTHING, Capacity, Meter, Quantity
from cqrsctl.costs.quantities import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cqrsctl.aurora.cluster import CapacityRange, Cluster, ClusterSpec
    from cqrsctl.costs.monthly import CostLine, Estimate, PriceBook
    from cqrsctl.costs.quantities import Given
    from cqrsctl.wiring import Wiring

_NO_CLUSTER = "the database server, as the environment names no Aurora cluster"


def capacity_of(cluster: Cluster | None, table: str, region: str) -> Capacity:
    """What of a cluster costs money; of none if the environment names none."""
    if cluster is None:
        return Capacity(None, (), None, "", None, table, region)
    return Capacity(
        writer_class=cluster.writer.instance_class if cluster.writer else None,
        reader_classes=tuple(reader.instance_class for reader in cluster.readers),
        serverless=_range(cluster.capacity),
        storage_type=cluster.storage_type,
        cluster_id=cluster.name,
        table=table,
        region=region,
        secret=cluster.secret_arn,
    )


def capacity_asked(spec: ClusterSpec, table: str, region: str) -> Capacity:
    """What of a cluster that is to be made will cost money."""
    return Capacity(
        writer_class=spec.writer_class,
        reader_classes=(),
        serverless=_range(spec.capacity),
        storage_type="aurora",
        cluster_id=spec.name,
        table=table,
        region=region,
    )


@dataclass(frozen=True, slots=True)
class Costs:
    """A month as it stands, and with one reader more (None without a writer).

    `capacity` and `prices` are None for what costs nothing.
    """

    capacity: Capacity | None
    now: Estimate
    with_reader: Estimate | None = None
    prices: PriceBook | None = None
    not_counted: tuple[str, ...] = ()


OF_NOTHING = Costs(None, NOTHING)
"""What an embedded environment costs: it runs on this machine."""


@dataclass(frozen=True, slots=True)
class ReaderCost:
    """What one reader more costs a month, and where its price comes from."""

    line: CostLine
    prices: PriceBook


def estimate(wiring: Wiring, capacity: Capacity, given: Given, now: datetime) -> Costs:
    """What the pipeline costs a month. What cannot be read is unknown, and its line says why.

    Raises ConfigurationError if there are no usable credentials.
    """
    quantities = Usage(wiring, capacity, given, now).quantities()
    book = _prices(wiring, monthly.products(capacity, quantities), capacity.region, now)
    return Costs(
        capacity=capacity,
        now=monthly.monthly(capacity, quantities, book),
        with_reader=monthly.monthly_with_reader(capacity, quantities, book),
        prices=book,
        not_counted=NOT_COUNTED if capacity.cluster_id else (*NOT_COUNTED, _NO_CLUSTER),
    )


def creation(wiring: Wiring, capacity: Capacity, now: datetime) -> tuple[Estimate, PriceBook]:
    """What a new cluster costs a month before it is used: its writer, and the secret with the managed password.

    Source for the secret: "How Amazon Aurora uses AWS Secrets Manager", Secrets Manager user guide.
    """
    quantities = {Meter.SECRET_MONTH: Quantity(Decimal(1), "the managed password")}
    book = _prices(wiring, monthly.products(capacity, quantities), capacity.region, now)
    return monthly.monthly(capacity, quantities, book), book


def reader(wiring: Wiring, capacity: Capacity, instance_class: str, now: datetime) -> ReaderCost:
    """What one reader more of a class costs a month, without the I/O that it causes."""
    book = _prices(wiring, [monthly.computing(instance_class, capacity)], capacity.region, now)
    return ReaderCost(monthly.reader_a_month(instance_class, capacity, book), book)


def _prices(wiring: Wiring, wanted: Iterable[monthly.PricedProduct], region: str, now: datetime) -> PriceBook:
    """An embedded stack's endpoint has no price list, and its commands do not speak with AWS."""
    client = None if wiring.environment.embedded else lambda: wiring.client("pricing", prices.PRICE_LIST_REGION)
    return prices.look_up(client, wanted, region, now.date())


def _range(units: CapacityRange | None) -> tuple[Decimal, Decimal] | None:
    return (Decimal(str(units.least)), Decimal(str(units.most))) if units else None
