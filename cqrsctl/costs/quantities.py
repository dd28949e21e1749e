"""What the pipeline costs: quantities from options, CloudWatch and the stream; prices from AWS or the table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from cqrsctl.aws import ApiCall
from cqrsctl.costs import monthly, prices, usage
from cqrsctl.costs.monthly import SECONDS_A_MONTH, Capacity, Quantities, Quantity
from cqrsctl.costs.usage import UsageMetric
from cqrsctl.errors import AwsError
from cqrsctl.functions.parts import COMMAND, PROJECTOR
from cqrsctl.stream import shards
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cqrsctl.aurora.cluster import Cluster
    from cqrsctl.costs.monthly import CostLine, Estimate, PriceBook
    from cqrsctl.costs.usage import Point
    from cqrsctl.wiring import Wiring

FUNCTIONS = (COMMAND, PROJECTOR)
_GIB = Decimal(2**30)
_MILLION = Decimal(1_000_000)
_SIX_DIGITS = Decimal("0.000001")
_PRICED_ARCHITECTURE = "arm64"


def capacity_of(cluster: Cluster, table: str, region: str) -> Capacity:
    """What of a cluster costs money."""
    units = cluster.capacity
    return Capacity(
        writer_class=cluster.writer.instance_class if cluster.writer else None,
        reader_classes=tuple(reader.instance_class for reader in cluster.readers),
        serverless=(Decimal(str(units.least)), Decimal(str(units.most))) if units else None,
        storage_type=cluster.storage_type,
        cluster_id=cluster.name,
        table=table,
        region=region,
    )


@dataclass(frozen=True, slots=True)
class Given:
    """The quantities that were given; None where they are to be read. They win over what is read."""

    polls_per_second: Decimal
    storage_gb: Decimal | None = None
    io_millions: Decimal | None = None
    writes_millions: Decimal | None = None
    shards: int | None = None
    lambda_requests_millions: Decimal | None = None
    lambda_gb_seconds: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """A month as it stands, and with one reader more (None without a writer)."""

    capacity: Capacity
    now: Estimate
    with_reader: Estimate | None
    prices: PriceBook


@dataclass(frozen=True, slots=True)
class ReaderCost:
    """What one reader more costs a month, and where its price comes from."""

    line: CostLine
    prices: PriceBook


def estimate(wiring: Wiring, capacity: Capacity, given: Given, now: datetime) -> Costs:
    """What the pipeline costs a month. What cannot be read is unknown, and its line says why.

    Raises ConfigurationError where there are no usable credentials.
    """
    book = _prices(wiring, monthly.products(capacity), capacity.region, now)
    quantities = _Usage(wiring, capacity, given, now).quantities()
    return Costs(
        capacity=capacity,
        now=monthly.monthly(capacity, quantities, book),
        with_reader=monthly.monthly_with_reader(capacity, quantities, book),
        prices=book,
    )


def reader(wiring: Wiring, capacity: Capacity, instance_class: str, now: datetime) -> ReaderCost:
    """What one reader more of a class costs a month, without the I/O that it causes."""
    book = _prices(wiring, [monthly.computing(instance_class, capacity)], capacity.region, now)
    return ReaderCost(monthly.reader_a_month(instance_class, capacity, book), book)


def _prices(wiring: Wiring, wanted: Iterable[monthly.PricedProduct], region: str, now: datetime) -> PriceBook:
    """An embedded stack's endpoint has no price list, and its commands do not speak with AWS."""
    client = None if wiring.environment.embedded else lambda: wiring.client("pricing", prices.PRICE_LIST_REGION)
    return prices.look_up(client, wanted, region, now.date())


@dataclass
class _Usage:
    """Reads the quantities that were not given."""

    wiring: Wiring
    capacity: Capacity
    given: Given
    now: datetime

    def quantities(self) -> Quantities:
        given = self.given
        return Quantities(
            storage_gb=_given(given.storage_gb, "--storage-gb") or self._storage(),
            io_millions=_given(given.io_millions, "--io-millions") or self._io(),
            writes_millions=self._writes(),
            stream_reads_millions=self._stream_reads(),
            lambda_requests_millions=_given(given.lambda_requests_millions, "--lambda-requests-millions")
            or self._millions(self._invocations, "--lambda-requests-millions"),
            lambda_gb_seconds=_given(given.lambda_gb_seconds, "--lambda-gb-seconds") or self._lambda_gb_seconds(),
        )

    def _storage(self) -> Quantity:
        points = self._points([self._stored], "--storage-gb")
        if isinstance(points, Quantity):
            return points
        at, stored = points[0][-1]
        return Quantity((stored / _GIB).quantize(_SIX_DIGITS), f"CloudWatch, {at:%Y-%m-%d %H:%M} UTC")

    def _io(self) -> Quantity:
        if self.capacity.io_optimized:
            return Quantity(None, "included in I/O-Optimized storage")
        return self._millions(self._ios, "--io-millions")

    def _writes(self) -> Quantity:
        """Only writes on demand have a price by the write; capacity that is provisioned costs by the hour."""
        if given := _given(self.given.writes_millions, "--writes-millions"):
            return given
        described = self._table
        if isinstance(described, table.Table) and not described.on_demand:
            return Quantity(None, f"table {described.name} has provisioned capacity, which is not priced here")
        return self._millions([self._written], "--writes-millions")

    def _stream_reads(self) -> Quantity:
        """Every GetRecords is charged for, empty or not, but not those that Lambda makes.

        See "Evaluate your DynamoDB streams usage" in the DynamoDB developer guide.
        """
        polls = self.given.polls_per_second
        if not polls:
            return Quantity(Decimal(0), "--polls-per-second")
        count = self.given.shards if self.given.shards is not None else self._open_shards()
        if isinstance(count, str):
            return Quantity(None, f"{count}; give --shards")
        reads = count * polls * SECONDS_A_MONTH / _MILLION
        return Quantity(reads, f"{count} {'shard' if count == 1 else 'shards'} × {polls:f} a second")

    def _open_shards(self) -> int | str:
        described = self._table
        if isinstance(described, str):
            return described
        if described.stream_arn is None:
            return f"the stream of table {described.name} is off"
        try:
            stream = shards.describe(self.wiring.streams, described.stream_arn)
        except AwsError as error:
            return str(error)
        return sum(shard.is_open for shard in stream.shards.values())

    def _lambda_gb_seconds(self) -> Quantity:
        """Memory times duration. Only functions that ran are asked for their memory."""
        option = "--lambda-gb-seconds"
        points = self._points(self._durations, option)
        if isinstance(points, Quantity):
            return points
        sized = []
        for metric, milliseconds in zip(self._durations, points, strict=True):
            if not milliseconds:
                continue
            function = metric.dimension[1]
            try:
                call = ApiCall("lambda", "GetFunctionConfiguration", {"FunctionName": function})
                described = call.make(self.wiring.client("lambda"))
            except AwsError as error:
                return Quantity(None, f"{error}; give {option}")
            if described.get("Architectures") != [_PRICED_ARCHITECTURE]:
                return Quantity(None, f"{function} does not run on {_PRICED_ARCHITECTURE}, the one that is priced here")
            gigabytes = Decimal(described["MemorySize"]) / 1024
            sized.append([(at, value / 1000 * gigabytes) for at, value in milliseconds])
        return self._scaled(sized, Decimal(1))

    def _millions(self, metrics: Sequence[UsageMetric], option: str) -> Quantity:
        points = self._points(metrics, option)
        return points if isinstance(points, Quantity) else self._scaled(points, _MILLION)

    def _scaled(self, points: Sequence[Sequence[Point]], unit: Decimal) -> Quantity:
        found = usage.monthly(points, self.now)
        value = (found.value / unit).quantize(_SIX_DIGITS)
        return Quantity(value, f"CloudWatch, {_span(found.covered)} scaled to a month")

    def _points(self, metrics: Sequence[UsageMetric], option: str) -> list[list[Point]] | Quantity:
        """The metrics' data; where there is none, the unknown quantity."""
        if isinstance(self._metrics, str):
            return Quantity(None, f"{self._metrics}; give {option}")
        points = [self._metrics[metric] for metric in metrics]
        if not any(points):
            names = " and ".join(dict.fromkeys(metric.name for metric in metrics))
            return Quantity(None, f"CloudWatch has no data of {names} of the last 30 days; give {option}")
        return points

    @cached_property
    def _metrics(self) -> dict[UsageMetric, list[Point]] | str:
        """All that is to be read, in one call; a sentence where CloudWatch refused."""
        given = self.given
        wanted = [
            *([self._stored] if given.storage_gb is None else []),
            *(self._ios if given.io_millions is None and not self.capacity.io_optimized else []),
            *([self._written] if given.writes_millions is None else []),
            *(self._invocations if given.lambda_requests_millions is None else []),
            *(self._durations if given.lambda_gb_seconds is None else []),
        ]
        try:
            return usage.read(self.wiring.client("cloudwatch"), wanted, self.now)
        except AwsError as error:
            return str(error)

    @cached_property
    def _table(self) -> table.Table | str:
        try:
            return table.describe(self.wiring.dynamodb, self.capacity.table)
        except AwsError as error:
            return str(error)

    @property
    def _stored(self) -> UsageMetric:
        return UsageMetric("AWS/RDS", "VolumeBytesUsed", ("DBClusterIdentifier", self.capacity.cluster_id), "Average")

    @property
    def _ios(self) -> list[UsageMetric]:
        cluster = ("DBClusterIdentifier", self.capacity.cluster_id)
        return [UsageMetric("AWS/RDS", name, cluster) for name in ("VolumeReadIOPs", "VolumeWriteIOPs")]

    @property
    def _written(self) -> UsageMetric:
        return UsageMetric("AWS/DynamoDB", "ConsumedWriteCapacityUnits", ("TableName", self.capacity.table))

    @property
    def _invocations(self) -> list[UsageMetric]:
        return [UsageMetric("AWS/Lambda", "Invocations", ("FunctionName", name)) for name in FUNCTIONS]

    @property
    def _durations(self) -> list[UsageMetric]:
        return [UsageMetric("AWS/Lambda", "Duration", ("FunctionName", name)) for name in FUNCTIONS]


def _given(value: Decimal | None, option: str) -> Quantity | None:
    return None if value is None else Quantity(value, option)


def _span(covered: timedelta) -> str:
    hours = round(covered / timedelta(hours=1))
    return f"{hours} hours" if hours < 48 else f"{round(covered / timedelta(days=1))} days"
