"""The template's alarms: what somebody should look at."""

from __future__ import annotations

from typing import Any

from cqrsctl.cloudformation.intrinsics import attribute, ref, when

_LATE_PERIODS = 5
_STOPPED_PERIODS = 15
"""A mapping that is created or switched comes up within a few minutes."""
_PERIOD_SECONDS = 60


def resources() -> dict[str, Any]:
    """The alarms. A mapping that stopped is seen by its polls: it sends a number for each, 0 for an empty one.

    A disabled mapping sends none, and the age of its reading is unknown then, which is no alarm. Source: "Types of
    metrics for Lambda functions", AWS Lambda Developer Guide.
    """
    projector = {"Name": "FunctionName", "Value": ref("ProjectorFunction")}
    mapping = {"Name": "EventSourceMappingUUID", "Value": ref("Mapping")}
    queue = {"Name": "QueueName", "Value": attribute("FailureQueue", "QueueName")}
    return {
        "IteratorAgeAlarm": _alarm(
            "The projector is behind: the read model is older than it should be",
            ("AWS/Lambda", "IteratorAge", projector),
            statistic="Maximum",
            threshold=ref("IteratorAgeAlarmMilliseconds"),
            periods=_LATE_PERIODS,
        ),
        "MappingAlarm": _alarm(
            "The stream is not read: its mapping is disabled, or may not read it",
            ("AWS/Lambda", "PolledEventCount", mapping),
            statistic="SampleCount",
            threshold=1,
            periods=_STOPPED_PERIODS,
            comparison="LessThanThreshold",
            missing="breaching",
        ),
        "ProjectorErrorAlarm": _alarm(
            "The projector fails again and again, or runs into its time-out",
            ("AWS/Lambda", "Errors", projector),
            statistic="Sum",
            periods=_LATE_PERIODS,
        ),
        "FailureQueueAlarm": _alarm(
            "Batches failed for good: their changes are not in the read model",
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue),
            statistic="Maximum",
        ),
        "DeadLetterAlarm": _alarm(
            "Changes do not fit the read model and became dead letters",
            ("cqrsctl", "DeadLettered", projector),
            statistic="Sum",
        ),
    }


def _alarm(
    description: str,
    metric: tuple[str, str, dict[str, Any]],
    *,
    statistic: str,
    threshold: Any = 0,
    periods: int = 1,
    comparison: str = "GreaterThanThreshold",
    missing: str = "notBreaching",
) -> dict[str, Any]:
    """An alarm. By default no number is no problem: a function that is not called, and an unused queue, send none."""
    namespace, name, dimension = metric
    notify = when("AlarmTopicGiven", [ref("AlarmTopicArn")])
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": description,
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": [dimension],
            "Statistic": statistic,
            "Period": _PERIOD_SECONDS,
            "EvaluationPeriods": periods,
            "Threshold": threshold,
            "ComparisonOperator": comparison,
            "TreatMissingData": missing,
            "AlarmActions": notify,
            "OKActions": notify,
        },
    }
