"""What CloudWatch knows of a function's last hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

_PERIOD = timedelta(hours=1)
_RECENTLY = timedelta(minutes=15)
_POINT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Metric:
    """One number: a metric's statistic for each minute, and how the minutes make an hour."""

    name: str
    metric: str
    statistic: str
    combined: Callable[[list[float]], float]


_METRICS = (
    _Metric("invocations", "Invocations", "Sum", sum),
    _Metric("errors", "Errors", "Sum", sum),
    _Metric("throttles", "Throttles", "Sum", sum),
    _Metric("duration_p99_ms", "Duration", "p99", max),
    _Metric("iterator_age_ms", "IteratorAge", "Maximum", max),
)
_ITERATOR_AGE = _METRICS[-1]
NAMES = tuple(metric.name for metric in _METRICS)


def last_hour(client: Any, function: str, now: datetime) -> dict[str, float | None]:
    """Each number by name; None if the hour has no point, as where nothing was invoked.

    Errors are those of the code, time-outs among them. The duration is the 99th percentile of the slowest minute.
    """
    asked = _question(_METRICS, function, now - _PERIOD, now)
    values: dict[str, list[float]] = {name: [] for name in NAMES}
    for page in ApiCall("cloudwatch", "GetMetricData", asked).pages(client):
        for result in page["MetricDataResults"]:
            values[result["Id"]] += result["Values"]
    return {metric.name: metric.combined(values[metric.name]) if values[metric.name] else None for metric in _METRICS}


def iterator_age_seconds(client: Any, function: str, now: datetime) -> float | None:
    """How old the last record of a batch was when the function was given it, at most, in the newest minute that has
    a number; None if none of the last 15 has, as where nothing was invoked.

    Source: "Using CloudWatch metrics with Lambda", Lambda Developer Guide.
    """
    asked = _question([_ITERATOR_AGE], function, now - _RECENTLY, now)
    (result,) = ApiCall("cloudwatch", "GetMetricData", asked).make(client)["MetricDataResults"]
    points = list(zip(result["Timestamps"], result["Values"], strict=True))
    return max(points)[1] / 1_000 if points else None


def _question(metrics: Sequence[_Metric], function: str, begin: datetime, end: datetime) -> dict[str, Any]:
    return {
        "MetricDataQueries": [
            {
                "Id": metric.name,
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/Lambda",
                        "MetricName": metric.metric,
                        "Dimensions": [{"Name": "FunctionName", "Value": function}],
                    },
                    "Period": _POINT_SECONDS,
                    "Stat": metric.statistic,
                },
            }
            for metric in metrics
        ],
        "StartTime": begin,
        "EndTime": end,
    }
