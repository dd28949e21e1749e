"""What a stack leaves behind if its first creation fails at any of its resources: nothing that the next try would meet.

CloudFormation makes at once whatever does not need the resource that fails, then deletes what it made, dependents
first. Sources: "DeletionPolicy attribute" and "Stack failure options", AWS CloudFormation User Guide.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from cqrsctl.cloudformation.template import Settings, template
from tests.aws.policy_judge import Decision, Request, Unjudged, decide
from tests.aws.test_role_policies import OF_LAMBDA, PLACE, policy_of_stack

Resources = dict[str, Any]
SETTINGS = Settings(table="Products", database="cqrs", cluster="products")
NAMES = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::RDS::DBCluster": "DBClusterIdentifier",
    "AWS::RDS::DBInstance": "DBInstanceIdentifier",
    "AWS::RDS::DBSubnetGroup": "DBSubnetGroupName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::IAM::Role": "RoleName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::EC2::SecurityGroup": "GroupName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "PolicyName",
    "AWS::ApplicationAutoScaling::ScalableTarget": "ResourceId",
    "AWS::Lambda::EventSourceMapping": None,
    "AWS::EC2::SecurityGroupIngress": None,
}
"""The property that names a resource. A name that the template does not give is a new one in each try."""
REUSABLE = {
    "AWS::DynamoDB::Table",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBInstance",
    "AWS::Logs::LogGroup",
    "AWS::Lambda::Function",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::ApplicationAutoScaling::ScalableTarget",
}
"""Names that can be used again as soon as CloudFormation has deleted the resource; of a queue that takes a minute."""
GLOBAL = {"AWS::IAM::Role"}
"""Names of which an account has one in all its regions."""
PROTECTIONS = ("DeletionProtection", "DeletionProtectionEnabled")


def resources() -> Resources:
    found: Resources = template(SETTINGS)["Resources"]
    return found


def needed(content: Any, names: set[str]) -> set[str]:
    """The resources that a part of the template refers to."""
    match content:
        case {"Ref": str(name)}:
            return {name} & names
        case {"Fn::GetAtt": [str(name), _]}:
            return {name} & names
        case {"Fn::Sub": str(text)}:
            return {found.partition(".")[0] for found in re.findall(r"\$\{(.*?)\}", text)} & names
        case dict():
            return set().union(*(needed(each, names) for each in content.values()))
        case list():
            return set().union(*(needed(each, names) for each in content))
    return set()


def waits_for(resource: dict[str, Any]) -> set[str]:
    """What a resource depends on by itself."""
    named = resource.get("DependsOn", [])
    return {named} if isinstance(named, str) else set(named)


def ancestors(made: Resources) -> dict[str, set[str]]:
    """All that each resource needs, directly or not: it is made later than those, and deleted earlier."""
    names = set(made)
    direct = {name: needed(each["Properties"], names) | waits_for(each) for name, each in made.items()}
    found: dict[str, set[str]] = {}

    def of(name: str) -> set[str]:
        if name not in found:
            found[name] = direct[name].union(*(of(each) for each in direct[name]))
        return found[name]

    return {name: of(name) for name in made}


def left(made: Resources, failing: str, *, protected: str = "false") -> set[str]:
    """What stays if the creation of one resource fails, and why."""
    needs = ancestors(made)
    there = {name for name in made if name != failing and failing not in needs[name]}
    kept = {name: reason for name in there if (reason := keeps(made[name], protected))}
    blocked = {name for name in there if any(name in needs[other] for other in kept)}
    return {f"{name}: {reason}" for name, reason in kept.items()} | {
        f"{name}: in use" for name in blocked - kept.keys()
    }


def keeps(resource: dict[str, Any], protected: str) -> str:
    """Why a rollback of the creation does not delete a resource; empty if it does."""
    if resource["Type"] not in NAMES:
        raise Unjudged(f"what becomes of {resource['Type']}")
    policy = resource.get("DeletionPolicy", "Delete")
    if policy not in {"Delete", "Snapshot", "RetainExceptOnCreate", "Retain"}:
        raise Unjudged(policy)
    if policy == "Retain":
        return "its policy"
    protections = [resource["Properties"][name] for name in PROTECTIONS if name in resource["Properties"]]
    if any(value is True or (value == {"Ref": "DeletionProtection"} and protected == "true") for value in protections):
        return "its protection"
    return ""


def taken(made: Resources) -> set[str]:
    """Resources whose name the next try could not use, though this one was deleted."""
    named = {name: each for name, each in made.items() if (NAMES[each["Type"]] or "-") in each["Properties"]}
    return {name for name, each in named.items() if each["Type"] in GLOBAL or each["Type"] not in REUSABLE}


def beside(made: Resources) -> set[str]:
    """What AWS makes for the resources beside the stack, and a rollback would leave or stumble over."""
    needs = ancestors(made)
    found = set()
    for name, each in made.items():
        if each["Type"] == "AWS::Lambda::Function":
            found |= {f"{name}: {what}" for what in _beside_function(made, name, needs[name])}
        if each["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget":
            # Readers that autoscaling adds are not the stack's, and keep the cluster: nothing may fail once it works.
            later = {other for other in made if name not in needs[other] and other not in needs[name] and other != name}
            found |= {f"{name}: readers, if {other} fails" for other in later if "Condition" not in made[other]}
    return found


def _beside_function(made: Resources, name: str, needs: set[str]) -> set[str]:
    """A log group that Lambda makes itself, and network interfaces that nobody deletes."""
    properties = made[name]["Properties"]
    (role,) = needed(properties["Role"], set(made))
    found = set()
    own = needed(properties.get("LoggingConfig", {}), set(made))
    group = PLACE.arn("logs", "log-group:/aws/lambda/Any")
    if not own or decide(policy_of_stack(role), Request("logs:CreateLogGroup", group)) is Decision.ALLOWED:
        found.add("a log group")
    if "VpcConfig" in properties:
        # CloudFormation waits at the function until Lambda has deleted its interfaces, which it does with the role.
        # Source: "AWS::Lambda::Function VpcConfig", AWS CloudFormation Template Reference.
        (interface,) = OF_LAMBDA["ec2:network-interface"]
        deletes = decide(policy_of_stack(role), Request("ec2:DeleteNetworkInterface", interface)) is Decision.ALLOWED
        groups = needed(properties["VpcConfig"], set(made))
        if not (deletes and groups <= needs and role in needs):
            found.add("network interfaces")
    return found


@pytest.mark.parametrize("failing", resources())
def test_a_creation_that_fails_at_any_resource_leaves_nothing_behind(failing: str) -> None:
    assert left(resources(), failing) == set()


def test_a_name_that_the_template_gives_can_be_used_again_at_once() -> None:
    assert taken(resources()) == set()


def test_nothing_that_aws_makes_beside_the_stack_is_left_or_in_the_way() -> None:
    assert beside(resources()) == set()


def test_the_cluster_s_snapshot_of_a_failed_creation_has_a_name_of_its_own() -> None:
    kept = {name: each["DeletionPolicy"] for name, each in resources().items() if "DeletionPolicy" in each}

    assert {name for name, policy in kept.items() if policy == "Snapshot"} == {"Cluster"}
    assert not any("Snapshot" in key for key in resources()["Cluster"]["Properties"] if key != "CopyTagsToSnapshot")


def test_deletion_protection_from_the_start_would_stay_in_the_way() -> None:
    parameter = template(SETTINGS)["Parameters"]["DeletionProtection"]

    assert "Table: its protection" in left(resources(), "Mapping", protected="true")
    assert parameter["Default"] == "false"
    assert "it would block the rollback of a creation" in parameter["Description"]


def test_the_judge_sees_what_would_be_left() -> None:
    """Each mistake in turn, planted."""
    retained = resources()
    retained["Table"]["DeletionPolicy"] = "Retain"
    assert left(retained, "Cluster") == {"Table: its policy"}

    protected = resources()
    protected["Cluster"]["Properties"]["DeletionProtection"] = True
    assert {"Cluster: its protection", "DatabaseGroup: in use", "SubnetGroup: in use"} <= left(protected, "Reader")

    named = resources()
    named["FailureQueue"]["Properties"]["QueueName"] = "failures"
    named["CommandRole"]["Properties"]["RoleName"] = "command"
    assert taken(named) == {"FailureQueue", "CommandRole"}

    without_logs = resources()
    del without_logs["CommandFunction"]["Properties"]["LoggingConfig"]
    assert "CommandFunction: a log group" in beside(without_logs)

    early = resources()
    early["ReaderTarget"]["DependsOn"] = ["Reader"]
    assert "ReaderTarget: readers, if Mapping fails" in beside(early)
