"""Autoscaling as asked for, against what is in force."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cqrsctl.aurora.autoscaling import Autoscaling, Metric, Policy, Wish, off_calls
from cqrsctl.errors import UsageError

NOTHING = Autoscaling("products")
RESOURCE = {
    "ServiceNamespace": "rds",
    "ResourceId": "cluster:products",
    "ScalableDimension": "rds:cluster:ReadReplicaCount",
}
CPU = Policy("products-cpu", "cpu", 60.0, 300, 300)
IN_FORCE = Autoscaling("products", 1, 5, policies=(CPU,))
WISH = Wish(Metric.CPU, 60, 1, 5)


def test_a_first_wish_registers_the_target_and_puts_the_policy() -> None:
    target, policy = replace(WISH, scale_in_cooldown_seconds=600).calls(NOTHING)

    assert (target.service, target.operation) == ("application-autoscaling", "RegisterScalableTarget")
    assert target.parameters == {**RESOURCE, "MinCapacity": 1, "MaxCapacity": 5}
    assert (policy.service, policy.operation) == ("application-autoscaling", "PutScalingPolicy")
    assert policy.parameters == {
        **RESOURCE,
        "PolicyName": "products-cpu",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 60.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "RDSReaderAverageCPUUtilization"},
            "ScaleInCooldown": 600,
            "ScaleOutCooldown": 300,
        },
    }


def test_the_same_wish_again_needs_no_call() -> None:
    assert WISH.calls(IN_FORCE) == []
    assert Wish(Metric.CPU, 60).calls(IN_FORCE) == []


def test_only_what_differs_is_changed() -> None:
    assert [call.operation for call in replace(WISH, target=70).calls(IN_FORCE)] == ["PutScalingPolicy"]
    assert [call.operation for call in replace(WISH, maximum=6).calls(IN_FORCE)] == ["RegisterScalableTarget"]


def test_a_second_metric_keeps_minimum_and_maximum() -> None:
    (policy,) = Wish(Metric.CONNECTIONS, 500).calls(IN_FORCE)

    assert policy.parameters["PolicyName"] == "products-connections"
    configuration = policy.parameters["TargetTrackingScalingPolicyConfiguration"]
    assert configuration["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "RDSReaderAverageDatabaseConnections"
    }


def test_a_policy_made_elsewhere_for_the_metric_is_changed_under_its_own_name_and_keeps_its_cooldowns() -> None:
    theirs = replace(IN_FORCE, policies=(Policy("by-console", "cpu", 50.0, 100, 200),))

    (policy,) = WISH.calls(theirs)

    assert policy.parameters["PolicyName"] == "by-console"
    configuration = policy.parameters["TargetTrackingScalingPolicyConfiguration"]
    assert (configuration["ScaleInCooldown"], configuration["ScaleOutCooldown"]) == (100, 200)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(Metric.CPU, 60), "give --min and --max"),
        (Wish(Metric.CPU, 60, 1), "give --min and --max"),
        (Wish(Metric.CPU, 60, 5, 1), "--min 5 is above --max 1"),
        (Wish(Metric.CPU, 60, -1, 1), "0 to 15 readers"),
        (Wish(Metric.CPU, 60, 1, 16), "0 to 15 readers"),
        (Wish(Metric.CPU, 0, 1, 5), "from 1 to 100"),
        (Wish(Metric.CPU, 101, 1, 5), "from 1 to 100"),
        (Wish(Metric.CPU, float("nan"), 1, 5), "from 1 to 100"),
        (Wish(Metric.CONNECTIONS, 16_001, 1, 5), "from 1 to 16000"),
    ],
)
def test_a_wish_beyond_the_limits_is_refused_before_any_call(wish: Wish, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wish.calls(NOTHING)


def test_off_deletes_the_policies_before_the_target() -> None:
    calls = off_calls(IN_FORCE)

    assert [(call.operation, call.parameters) for call in calls] == [
        ("DeleteScalingPolicy", {"PolicyName": "products-cpu", **RESOURCE}),
        ("DeregisterScalableTarget", RESOURCE),
    ]
    assert off_calls(NOTHING) == []
