"""What was used lately: CloudWatch's metrics, summed and scaled to a month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall
from cqrsctl.costs.monthly import SECONDS_A_MONTH
from cqrsctl.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOK_BACK = timedelta(days=30)
_PERIOD = timedelta(hours=1)

Point = tuple[datetime, Decimal]


@dataclass(frozen=True, slots=True)
class UsageMetric:
    """One metric of one resource, as CloudWatch keeps it."""

    namespace: str
    name: str
    dimension: tuple[str, str]
    statistic: str = "Sum"

    def query(self, query_id: str) -> dict[str, Any]:
        name, value = self.dimension
        metric = {
            "Namespace": self.namespace,
            "MetricName": self.name,
            "Dimensions": [{"Name": name, "Value": value}],
        }
        seconds = int(_PERIOD.total_seconds())
        return {"Id": query_id, "MetricStat": {"Metric": metric, "Period": seconds, "Stat": self.statistic}}


@dataclass(frozen=True, slots=True)
class Monthly:
    """What a month's use comes to at the rate of the time that there is data of."""

    value: Decimal
    covered: timedelta


def read(client: Any, metrics: Iterable[UsageMetric], now: datetime) -> dict[UsageMetric, list[Point]]:
    """The hours of the last 30 days that have data, the oldest first. Raises AwsError."""
    wanted = {f"m{number}": metric for number, metric in enumerate(metrics)}
    found: dict[UsageMetric, list[Point]] = {metric: [] for metric in wanted.values()}
    parameters = {
        "MetricDataQueries": [metric.query(query_id) for query_id, metric in wanted.items()],
        "StartTime": (now - LOOK_BACK).replace(minute=0, second=0, microsecond=0),
        "EndTime": now,
        "ScanBy": "TimestampAscending",
    }
    for page in ApiCall("cloudwatch", "GetMetricData", parameters).pages(client):
        for result in page.get("MetricDataResults", []):
            if result.get("StatusCode") in {"Forbidden", "InternalError"}:
                raise AwsError(f"cloudwatch GetMetricData: {result['StatusCode']}.")
            values = (Decimal(str(value)) for value in result["Values"])
            found[wanted[result["Id"]]] += zip(result["Timestamps"], values, strict=True)
    return {metric: sorted(points) for metric, points in found.items()}


def monthly(series: Iterable[Iterable[Point]], now: datetime) -> Monthly:
    """The sum of some series of sums, scaled to a month from the first hour that has data. There must be some.

    A resource is as old as its first data, as far as can be seen: what is younger than 30 days is scaled up.
    """
    points = sorted(point for points in series for point in points)
    covered = max(now - points[0][0], _PERIOD)
    total = sum((value for _, value in points), start=Decimal(0))
    return Monthly(total * SECONDS_A_MONTH / Decimal(str(covered.total_seconds())), covered)
