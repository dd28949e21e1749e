"""The template's alarms: what somebody should look at."""

from __future__ import annotations

from typing import Any

from cqrsctl.cloudformation.intrinsics import attribute, ref, when

_LATE_PERIODS = 5
_PERIOD_SECONDS = 60


def resources() -> dict[str, Any]:
    projector = {"Name": "FunctionName", "Value": ref("ProjectorFunction")}
    queue = {"Name": "QueueName", "Value": attribute("FailureQueue", "QueueName")}
    return {
        "IteratorAgeAlarm": _alarm(
            "The projector is behind: the read model is older than it should be",
            ("AWS/Lambda", "IteratorAge", projector),
            statistic="Maximum",
            above=ref("IteratorAgeAlarmMilliseconds"),
            periods=_LATE_PERIODS,
        ),
        "FailureQueueAlarm": _alarm(
            "Batches were given up: their changes are not in the read model",
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
    above: Any = 0,
    periods: int = 1,
) -> dict[str, Any]:
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
            "Threshold": above,
            "ComparisonOperator": "GreaterThanThreshold",
            # A function that is not called, and a queue that is not used, send no numbers.
            "TreatMissingData": "notBreaching",
            "AlarmActions": notify,
            "OKActions": notify,
        },
    }
