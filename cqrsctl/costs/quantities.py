"""A month's use of what AWS meters: from options, CloudWatch, and the pipeline's parts as they are described."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from cqrsctl.aurora import autoscaling
from cqrsctl.aws import ApiCall, error_code
from cqrsctl.costs import usage
from cqrsctl.costs.monthly import HOURS_A_MONTH, SECONDS_A_MONTH, Capacity, Meter, Quantity
from cqrsctl.costs.usage import UsageMetric
from cqrsctl.errors import AwsError
from cqrsctl.functions import secret as secrets
from cqrsctl.functions.parts import COMMAND, PROJECTOR
from cqrsctl.stream import shards
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from cqrsctl.costs.usage import Point
    from cqrsctl.wiring import Wiring

FUNCTIONS = (COMMAND, PROJECTOR)
_GIB = Decimal(2**30)
_MILLION = Decimal(1_000_000)
_SIX_DIGITS = Decimal("0.000001")
_PRICED_ARCHITECTURE = "arm64"
_PRICED_CLASS = "STANDARD"
_MISSING = "ResourceNotFoundException"
_ITEM_OVERHEAD_BYTES = 100
"""What an item is charged for besides its size. Source: "DynamoDB item sizes and formats", developer guide."""


@dataclass(frozen=True, slots=True)
class Given:
    """The quantities that were given; None if they are to be read. They win over what is read."""

    polls_per_second: Decimal
    storage_gb: Decimal | None = None
    io_millions: Decimal | None = None
    table_gb: Decimal | None = None
    writes_millions: Decimal | None = None
    reads_millions: Decimal | None = None
    shards: int | None = None
    lambda_requests_millions: Decimal | None = None
    lambda_gb_seconds: Decimal | None = None


@dataclass
class Usage:
    """A month's use of an environment's pipeline: what was given, and what is read of the rest."""

    wiring: Wiring
    capacity: Capacity
    given: Given
    now: datetime

    def quantities(self) -> dict[Meter, Quantity]:
        """The use of each meter that this pipeline is charged by. Raises ConfigurationError without credentials."""
        return {
            **self._of_cluster(),
            **self._of_table(),
            Meter.STREAM_READ_MILLION: self._stream_reads(),
            **self._of_functions(),
            Meter.SECRET_MONTH: self._secrets(),
            **({Meter.ALARM_MONTH: self._alarms(self.capacity.cluster_id)} if self.capacity.cluster_id else {}),
        }

    def _of_cluster(self) -> dict[Meter, Quantity]:
        """I/O is included in I/O-Optimized storage."""
        if self.capacity.cluster_id is None:
            return {}
        stored = {Meter.STORAGE_GB: _given(self.given.storage_gb, "--storage-gb") or self._storage()}
        if self.capacity.io_optimized:
            return stored
        option = "--io-millions"
        return {**stored, Meter.IO_MILLION: _given(self.given.io_millions, option) or self._millions(self._ios, option)}

    def _of_table(self) -> dict[Meter, Quantity]:
        given = self.given
        return {
            Meter.TABLE_GB: _given(given.table_gb, "--table-gb") or self._table_gb(),
            **self._units(
                _given(given.writes_millions, "--writes-millions"),
                (Meter.WRITE_MILLION, self._written, "--writes-millions"),
                (Meter.WRITE_CAPACITY_HOUR, lambda there: there.write_capacity),
            ),
            **self._units(
                _given(given.reads_millions, "--reads-millions"),
                (Meter.READ_MILLION, self._read, "--reads-millions"),
                (Meter.READ_CAPACITY_HOUR, lambda there: there.read_capacity),
            ),
        }

    def _of_functions(self) -> dict[Meter, Quantity]:
        requests = _given(self.given.lambda_requests_millions, "--lambda-requests-millions")
        duration = _given(self.given.lambda_gb_seconds, "--lambda-gb-seconds")
        if not (requests and duration) and self._has_no_function():
            none = Quantity(Decimal(0), "no function is deployed")
            requests, duration = requests or none, duration or none
        return {
            Meter.LAMBDA_REQUEST_MILLION: requests or self._millions(self._invocations, "--lambda-requests-millions"),
            Meter.LAMBDA_GB_SECOND: duration or self._lambda_gb_seconds(),
        }

    def _storage(self) -> Quantity:
        points = self._points([self._stored], "--storage-gb")
        if isinstance(points, Quantity):
            return points
        at, stored = points[0][-1]
        return Quantity((stored / _GIB).quantize(_SIX_DIGITS), f"CloudWatch, {at:%Y-%m-%d %H:%M} UTC")

    def _table_gb(self) -> Quantity:
        """What the table stores, without its indexes."""
        described = self._table
        if isinstance(described, str):
            return Quantity(None, f"{described}; give --table-gb")
        if described.table_class != _PRICED_CLASS:
            return _other_class(described)
        stored = Decimal(described.bytes + described.items * _ITEM_OVERHEAD_BYTES)
        return Quantity((stored / _GIB).quantize(_SIX_DIGITS), "the table, of the last six hours")

    def _units(
        self,
        given: Quantity | None,
        used: tuple[Meter, UsageMetric, str],
        provisioned: tuple[Meter, Callable[[table.Table], int]],
    ) -> dict[Meter, Quantity]:
        """Units that were used, on demand; capacity that is provisioned costs by the hour, used or not."""
        meter, metric, option = used
        if given:
            return {meter: given}
        described = self._table
        if isinstance(described, table.Table):
            meter = meter if described.on_demand else provisioned[0]
            if described.table_class != _PRICED_CLASS:
                return {meter: _other_class(described)}
            if not described.on_demand:
                units = provisioned[1](described)
                return {meter: Quantity(units * HOURS_A_MONTH, f"{units} units, as provisioned now")}
        return {meter: self._millions([metric], option)}

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
                described = self._function(function)
            except AwsError as error:
                return Quantity(None, f"{error}; give {option}")
            if described.get("Architectures") != [_PRICED_ARCHITECTURE]:
                return Quantity(
                    None, f"{function} is not on {_PRICED_ARCHITECTURE}, the only architecture with a price here"
                )
            gigabytes = Decimal(described["MemorySize"]) / 1024
            sized.append([(at, value / 1000 * gigabytes) for at, value in milliseconds])
        return self._scaled(sized, Decimal(1))

    def _function(self, name: str) -> Mapping[str, Any]:
        """Raises AwsError."""
        call = ApiCall("lambda", "GetFunctionConfiguration", {"FunctionName": name})
        described: Mapping[str, Any] = call.make(self.wiring.client("lambda"))
        return described

    def _has_no_function(self) -> bool:
        """Whether it is certain that neither function is there."""
        for name in FUNCTIONS:
            try:
                self._function(name)
            except AwsError as error:
                if error_code(error) == _MISSING:
                    continue
            return False
        return True

    def _secrets(self) -> Quantity:
        """The cluster's, the one that the settings name, and the functions' own.

        There is no charge for secrets marked for deletion: "What is AWS Secrets Manager?", Secrets Manager user guide.
        """
        environment = self.wiring.environment
        named = {name for name in (environment.database.secret, secrets.secret_name(environment.name)) if name}
        arns = {self.capacity.secret} if self.capacity.secret else set()
        try:
            client = self.wiring.client(secrets.SERVICE)
            described = [secrets.find(client, name) for name in sorted(named)]
        except AwsError as error:
            return Quantity(None, str(error))
        arns |= {found.arn for found in described if found and not found.deleted}
        return Quantity(Decimal(len(arns)), "Secrets Manager")

    def _alarms(self, cluster: str) -> Quantity:
        try:
            scaling = autoscaling.describe(self.wiring.client(autoscaling.SERVICE), cluster)
        except AwsError as error:
            return Quantity(None, str(error))
        return Quantity(Decimal(scaling.alarms), "the scaling policies")

    def _millions(self, metrics: Sequence[UsageMetric], option: str) -> Quantity:
        points = self._points(metrics, option)
        return points if isinstance(points, Quantity) else self._scaled(points, _MILLION)

    def _scaled(self, points: Sequence[Sequence[Point]], unit: Decimal) -> Quantity:
        found = usage.monthly(points, self.now)
        value = (found.value / unit).quantize(_SIX_DIGITS)
        return Quantity(value, f"CloudWatch, {_span(found.covered)} scaled to a month")

    def _points(self, metrics: Sequence[UsageMetric], option: str) -> list[list[Point]] | Quantity:
        """The metrics' data; the unknown quantity if there is none."""
        if isinstance(self._metrics, str):
            return Quantity(None, f"{self._metrics}; give {option}")
        points = [self._metrics[metric] for metric in metrics]
        if not any(points):
            names = " and ".join(dict.fromkeys(metric.name for metric in metrics))
            return Quantity(None, f"CloudWatch has no data of {names} of the last 30 days; give {option}")
        return points

    @cached_property
    def _metrics(self) -> dict[UsageMetric, list[Point]] | str:
        """All that is to be read, in one call; a sentence if CloudWatch refused."""
        given = self.given
        has_cluster = self.capacity.cluster_id is not None
        wanted = [
            *([self._stored] if has_cluster and given.storage_gb is None else []),
            *(self._ios if has_cluster and given.io_millions is None and not self.capacity.io_optimized else []),
            *([self._written] if given.writes_millions is None else []),
            *([self._read] if given.reads_millions is None else []),
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
        return UsageMetric("AWS/RDS", "VolumeBytesUsed", self._cluster, "Average")

    @property
    def _ios(self) -> list[UsageMetric]:
        return [UsageMetric("AWS/RDS", name, self._cluster) for name in ("VolumeReadIOPs", "VolumeWriteIOPs")]

    @property
    def _cluster(self) -> tuple[str, str]:
        return "DBClusterIdentifier", self.capacity.cluster_id or ""

    @property
    def _written(self) -> UsageMetric:
        return UsageMetric("AWS/DynamoDB", "ConsumedWriteCapacityUnits", ("TableName", self.capacity.table))

    @property
    def _read(self) -> UsageMetric:
        return UsageMetric("AWS/DynamoDB", "ConsumedReadCapacityUnits", ("TableName", self.capacity.table))

    @property
    def _invocations(self) -> list[UsageMetric]:
        return [UsageMetric("AWS/Lambda", "Invocations", ("FunctionName", name)) for name in FUNCTIONS]

    @property
    def _durations(self) -> list[UsageMetric]:
        return [UsageMetric("AWS/Lambda", "Duration", ("FunctionName", name)) for name in FUNCTIONS]


def _given(value: Decimal | None, option: str) -> Quantity | None:
    return None if value is None else Quantity(value, option)


def _other_class(described: table.Table) -> Quantity:
    return Quantity(None, f"table {described.name} has the class {described.table_class}, which is not priced here")


def _span(covered: timedelta) -> str:
    hours = round(covered / timedelta(hours=1))
    return f"{hours} hours" if hours < 48 else f"{round(covered / timedelta(days=1))} days"
