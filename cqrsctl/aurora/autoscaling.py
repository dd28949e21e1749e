"""Autoscaling of a cluster's readers: one scalable target, and a target-tracking policy for each metric.

Source of names and limits: "Amazon Aurora Auto Scaling with Aurora Replicas", Aurora User Guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.aurora.cluster import MOST_READERS
from cqrsctl.aws import ApiCall
from cqrsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "application-autoscaling"
_NAMESPACE = "rds"
_DIMENSION = "rds:cluster:ReadReplicaCount"
DEFAULT_COOLDOWN_SECONDS = 300


class Metric(StrEnum):
    """What the readers are scaled by: the average over all of them."""

    CPU = "cpu"
    CONNECTIONS = "connections"

    @property
    def predefined(self) -> str:
        return {
            Metric.CPU: "RDSReaderAverageCPUUtilization",
            Metric.CONNECTIONS: "RDSReaderAverageDatabaseConnections",
        }[self]

    @property
    def most(self) -> int:
        """The highest target: percent of CPU, or Aurora's limit of max_connections."""
        return 100 if self is Metric.CPU else 16_000


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy in force. `metric` is the predefined metric's name if it is none of ours."""

    name: str
    metric: str
    target: float
    scale_in_cooldown_seconds: int
    scale_out_cooldown_seconds: int


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """What is in force for a cluster; without a scalable target, nothing is."""

    cluster: str
    minimum: int | None = None
    maximum: int | None = None
    suspended: bool = False
    policies: tuple[Policy, ...] = ()
    alarms: int = 0
    """The alarms in CloudWatch that AWS made for the policies."""

    def policy(self, metric: Metric) -> Policy | None:
        return next((policy for policy in self.policies if policy.metric == metric.value), None)


@dataclass(frozen=True, slots=True)
class Wish:
    """The requested autoscaling; None keeps the present value, or takes the default if there is none."""

    metric: Metric
    target: float
    minimum: int | None = None
    maximum: int | None = None
    scale_in_cooldown_seconds: int | None = None
    scale_out_cooldown_seconds: int | None = None

    def calls(self, now: Autoscaling) -> list[ApiCall]:
        """The calls that change what differs. Raises UsageError if a limit is broken."""
        low = now.minimum if self.minimum is None else self.minimum
        high = now.maximum if self.maximum is None else self.maximum
        if low is None or high is None:
            raise UsageError("There is no autoscaling yet: give --min and --max.")
        self._check(low, high)
        calls = []
        if (low, high) != (now.minimum, now.maximum):
            capacity = {"MinCapacity": low, "MaxCapacity": high}
            calls.append(ApiCall(SERVICE, "RegisterScalableTarget", {**_resource(now.cluster), **capacity}))
        before = now.policy(self.metric)
        wanted = self._policy(now.cluster, before)
        if wanted != before:
            calls.append(_put_call(now.cluster, wanted, self.metric))
        return calls

    def _check(self, low: int, high: int) -> None:
        if not 0 <= low <= MOST_READERS or not 0 <= high <= MOST_READERS:
            raise UsageError(f"--min {low} and --max {high}: Aurora has 0 to {MOST_READERS} readers.")
        if low > high:
            raise UsageError(f"--min {low} is above --max {high}.")
        if not 1 <= self.target <= self.metric.most:
            raise UsageError(f"--target {self.target:g}: a target for {self.metric} is from 1 to {self.metric.most}.")

    def _policy(self, cluster: str, before: Policy | None) -> Policy:
        def chosen(asked: int | None, there: int | None) -> int:
            return next(value for value in (asked, there, DEFAULT_COOLDOWN_SECONDS) if value is not None)

        return Policy(
            name=before.name if before else f"{cluster}-{self.metric}",
            metric=self.metric.value,
            target=float(self.target),
            scale_in_cooldown_seconds=chosen(
                self.scale_in_cooldown_seconds, before.scale_in_cooldown_seconds if before else None
            ),
            scale_out_cooldown_seconds=chosen(
                self.scale_out_cooldown_seconds, before.scale_out_cooldown_seconds if before else None
            ),
        )


def describe(client: Any, cluster: str) -> Autoscaling:
    """What is in force. Raises AwsError."""
    targets = ApiCall(
        SERVICE,
        "DescribeScalableTargets",
        {"ServiceNamespace": _NAMESPACE, "ResourceIds": [f"cluster:{cluster}"], "ScalableDimension": _DIMENSION},
    ).make(client)["ScalableTargets"]
    policies = ApiCall(SERVICE, "DescribeScalingPolicies", _resource(cluster)).make(client)["ScalingPolicies"]
    target = targets[0] if targets else {}
    return Autoscaling(
        cluster=cluster,
        minimum=target.get("MinCapacity"),
        maximum=target.get("MaxCapacity"),
        suspended=any((target.get("SuspendedState") or {}).values()),
        policies=tuple(
            sorted(
                (_policy(policy) for policy in policies if policy["PolicyType"] == "TargetTrackingScaling"),
                key=lambda policy: policy.metric,
            )
        ),
        alarms=sum(len(policy.get("Alarms") or ()) for policy in policies),
    )


def off_calls(now: Autoscaling) -> list[ApiCall]:
    """The calls that end autoscaling: its policies with their alarms, then the target. The readers it made stay."""
    calls = [
        ApiCall(SERVICE, "DeleteScalingPolicy", {"PolicyName": policy.name, **_resource(now.cluster)})
        for policy in now.policies
    ]
    if now.maximum is not None:
        calls.append(ApiCall(SERVICE, "DeregisterScalableTarget", _resource(now.cluster)))
    return calls


def activities(client: Any, cluster: str, most: int = 10) -> list[dict[str, Any]]:
    """What autoscaling did of late, the newest first. Raises AwsError."""
    call = ApiCall(SERVICE, "DescribeScalingActivities", {**_resource(cluster), "MaxResults": most})
    return [
        {
            "started": activity["StartTime"],
            "status": activity["StatusCode"],
            "description": activity["Description"],
            "cause": activity["Cause"],
        }
        for activity in call.make(client)["ScalingActivities"]
    ]


def _resource(cluster: str) -> dict[str, str]:
    return {"ServiceNamespace": _NAMESPACE, "ResourceId": f"cluster:{cluster}", "ScalableDimension": _DIMENSION}


def _put_call(cluster: str, policy: Policy, metric: Metric) -> ApiCall:
    return ApiCall(
        SERVICE,
        "PutScalingPolicy",
        {
            "PolicyName": policy.name,
            **_resource(cluster),
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": policy.target,
                "PredefinedMetricSpecification": {"PredefinedMetricType": metric.predefined},
                "ScaleInCooldown": policy.scale_in_cooldown_seconds,
                "ScaleOutCooldown": policy.scale_out_cooldown_seconds,
            },
        },
    )


def _policy(described: Mapping[str, Any]) -> Policy:
    configuration = described["TargetTrackingScalingPolicyConfiguration"]
    predefined = (configuration.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType", "custom")
    return Policy(
        name=described["PolicyName"],
        metric=next((metric.value for metric in Metric if metric.predefined == predefined), predefined),
        target=float(configuration["TargetValue"]),
        scale_in_cooldown_seconds=configuration.get("ScaleInCooldown", DEFAULT_COOLDOWN_SECONDS),
        scale_out_cooldown_seconds=configuration.get("ScaleOutCooldown", DEFAULT_COOLDOWN_SECONDS),
    )
