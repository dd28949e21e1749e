"""The permissions that cqrsctl needs in AWS: the actions, what each is needed for, and how it is tried. A table.

Some are needed by what AWS does in turn for a call: tags and keys of what is made, secrets and roles of services.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from cqrsctl.aurora.cluster import ENGINE
from cqrsctl.aws import ApiCall
from cqrsctl.functions.parts import COMMAND, PROJECTOR, log_group, queue_name, role_name
from cqrsctl.functions.roles import POLICY_NAME
from cqrsctl.functions.secret import secret_name

if TYPE_CHECKING:
    from cqrsctl.functions.parts import Place


EXAMPLE_SUFFIX = "AbCdEf"
"""Secrets Manager ends a secret's ARN with six characters of its own; IAM is asked about some."""


class Purpose(Enum):
    """What actions are needed for; the value is how it is said."""

    PROJECTING = "to project and to verify"
    PRODUCTS = "to put, update, get and import products"
    TABLE = "to create and change the table"
    CLUSTER = "to find and operate the cluster"
    COSTS = "for cost"
    FUNCTIONS = "to deploy and operate the functions"
    KEYS = "to use a table, or to read a secret, with a KMS key of its own"
    TABLE_KEY = "to create a table with a KMS key of its own"
    CLUSTER_ONCE = "to create and delete the cluster, and to set its autoscaling"
    VIA_FUNCTION = "to put products through the command function"


SELDOM = frozenset({Purpose.KEYS, Purpose.TABLE_KEY, Purpose.CLUSTER_ONCE, Purpose.VIA_FUNCTION})
"""What most accounts need never or once, so that its absence is nothing to find."""


@dataclass(frozen=True, slots=True)
class Target:
    """What actions are made on. `key` is one of an item; `shard` and `iterator` are of the stream, if it has any;
    `instance` is a member of the cluster, by default its first."""

    place: Place
    environment: str
    table_arn: str
    key: dict[str, Any]
    stream_arn: str | None = None
    shard: str | None = None
    iterator: str | None = None
    cluster: str | None = None
    secret: str | None = None
    instance: str | None = None

    @property
    def table(self) -> str:
        return self.table_arn.rpartition("/")[2]


Arn = Callable[[Target], str]
Try = Callable[[Target], ApiCall | None]


@dataclass(frozen=True, slots=True)
class Action:
    """One action. `arn` is what IAM is asked about: * if the action is on nothing by itself.

    `tried` makes the call that tries the action and changes nothing, if there is one; None: there is nothing to try.
    `via` are the services that an action on a key is made through, if it is never made directly.
    """

    name: str
    purpose: Purpose
    arn: Arn = lambda _: "*"
    tried: Try | None = None
    via: tuple[str, ...] = ()


def _table(target: Target) -> str:
    return target.table_arn


def _stream(target: Target) -> str:
    return target.stream_arn or f"{target.table_arn}/stream/*"


def _cluster(target: Target) -> str:
    return target.place.arn("rds", f"cluster:{target.cluster}")


def _instance(target: Target) -> str:
    return target.place.arn("rds", f"db:{target.instance or f'{target.cluster}-1'}")


def _rds(resource: str) -> Arn:
    """Other resources of a creation: each has to be allowed too."""
    return lambda target: target.place.arn("rds", resource)


def _instances_anywhere(target: Target) -> str:
    """Application Auto Scaling tries the action on an instance of another account, which cannot be there.

    Source: "Permissions validation for Application Auto Scaling API calls on target resources", its User Guide.
    """
    return f"arn:{target.place.partition}:rds:{target.place.region}:*:db:*"


def _keys(target: Target) -> str:
    return target.place.arn("kms", "key/*")


def _function(target: Target) -> str:
    return target.place.arn("lambda", f"function:{PROJECTOR}")


def _command_function(target: Target) -> str:
    return target.place.arn("lambda", f"function:{COMMAND}")


def _mapping(target: Target) -> str:
    return target.place.arn("lambda", "event-source-mapping:*")


def _role(target: Target) -> str:
    return target.place.role(PROJECTOR)


def _log_group(target: Target) -> str:
    return target.place.log_group(PROJECTOR)


def _queue(target: Target) -> str:
    return target.place.queue(PROJECTOR)


def _own_secret(target: Target) -> str:
    return target.place.arn("secretsmanager", f"secret:{secret_name(target.environment)}-{EXAMPLE_SUFFIX}")


def _secret_of_login(target: Target) -> str:
    """The secret that is named, else the one that RDS manages."""
    if target.secret is None:
        return _managed_secret(target)
    if target.secret.startswith("arn:"):
        return target.secret
    return target.place.arn("secretsmanager", f"secret:{target.secret}-{EXAMPLE_SUFFIX}")


def _managed_secret(target: Target) -> str:
    """The secret that RDS makes for a cluster's master user."""
    return target.place.arn("secretsmanager", "secret:rds!cluster-*")


def _anything(_: Target) -> str:
    return "*"


def _call(service: str, operation: str, **parameters: Any) -> Try:
    return lambda _: ApiCall(service, operation, parameters)


def _on_table(operation: str, **parameters: Any) -> Try:
    return lambda target: ApiCall("dynamodb", operation, {"TableName": target.table, **parameters})


def _on_role(operation: str, **parameters: Any) -> Try:
    return lambda target: ApiCall(
        "iam", operation, {"RoleName": role_name(PROJECTOR, target.place.region), **parameters}
    )


def _on_stream(operation: str, given: Callable[[Target], dict[str, Any]]) -> Try:
    """A call on the stream; none if what it needs is not there."""

    def call(target: Target) -> ApiCall | None:
        parameters = given(target)
        return None if None in parameters.values() else ApiCall("dynamodbstreams", operation, parameters)

    return call


def _simulated(
    service: str, operations: str, purpose: Purpose, arn: Arn = _anything, via: tuple[str, ...] = ()
) -> list[Action]:
    """Actions that IAM is asked about: to try them would change something, or read a secret."""
    return [Action(f"{service}:{operation}", purpose, arn, via=via) for operation in operations.split()]


_FIRST = {"MaxRecords": 20}
_SCALING = "application-autoscaling"

ACTIONS: tuple[Action, ...] = (
    Action("dynamodb:DescribeTable", Purpose.PROJECTING, _table, _on_table("DescribeTable")),
    Action(
        "dynamodb:DescribeStream",
        Purpose.PROJECTING,
        _stream,
        _on_stream("DescribeStream", lambda on: {"StreamArn": on.stream_arn, "Limit": 1}),
    ),
    Action(
        "dynamodb:GetShardIterator",
        Purpose.PROJECTING,
        _stream,
        _on_stream(
            "GetShardIterator",
            lambda on: {"StreamArn": on.stream_arn, "ShardId": on.shard, "ShardIteratorType": "LATEST"},
        ),
    ),
    Action(
        "dynamodb:GetRecords",
        Purpose.PROJECTING,
        _stream,
        _on_stream("GetRecords", lambda on: {"ShardIterator": on.iterator, "Limit": 1}),
    ),
    Action("dynamodb:Scan", Purpose.PROJECTING, _table, _on_table("Scan", Limit=1)),
    Action(
        "dynamodb:BatchGetItem",
        Purpose.PROJECTING,
        _table,
        lambda on: ApiCall("dynamodb", "BatchGetItem", {"RequestItems": {on.table: {"Keys": [on.key]}}}),
    ),
    Action(
        "dynamodb:GetItem",
        Purpose.PRODUCTS,
        _table,
        lambda on: ApiCall("dynamodb", "GetItem", {"TableName": on.table, "Key": on.key}),
    ),
    *_simulated("dynamodb", "PutItem UpdateItem DeleteItem BatchWriteItem", Purpose.PRODUCTS, _table),
    Action("dynamodb:DescribeContinuousBackups", Purpose.TABLE, _table, _on_table("DescribeContinuousBackups")),
    *_simulated(
        "dynamodb",
        "CreateTable UpdateTable DeleteTable UpdateContinuousBackups ListTagsOfResource TagResource",
        Purpose.TABLE,
        _table,
    ),
    *_simulated("kms", "Decrypt", Purpose.KEYS, _keys, ("dynamodb", "secretsmanager")),
    *_simulated(
        "kms",
        "Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey CreateGrant",
        Purpose.TABLE_KEY,
        _keys,
        ("dynamodb",),
    ),
    *_simulated("kms", "DescribeKey", Purpose.TABLE_KEY, _keys),
    Action(
        "rds:DescribeDBClusters",
        Purpose.CLUSTER,
        _cluster,
        lambda on: ApiCall("rds", "DescribeDBClusters", {"DBClusterIdentifier": on.cluster}),
    ),
    Action("rds:DescribeDBInstances", Purpose.CLUSTER, _instance, _call("rds", "DescribeDBInstances", **_FIRST)),
    *(
        Action(f"rds:{name}", Purpose.CLUSTER, _anything, _call("rds", name, **_FIRST, **asked))
        for name, asked in (
            ("DescribeOrderableDBInstanceOptions", {"Engine": ENGINE}),
            ("DescribePendingMaintenanceActions", {}),
            ("DescribeDBMajorEngineVersions", {"Engine": ENGINE}),
        )
    ),
    *_simulated("rds", "CreateDBCluster ModifyDBCluster DeleteDBCluster FailoverDBCluster", Purpose.CLUSTER, _cluster),
    *_simulated("rds", "CreateDBInstance DeleteDBInstance", Purpose.CLUSTER, _instance),
    *_simulated("rds", "CreateDBInstance AddTagsToResource", Purpose.CLUSTER, _cluster),
    *(
        action
        for group in ("subgrp:*", "og:default*")
        for action in _simulated("rds", "CreateDBCluster CreateDBInstance", Purpose.CLUSTER_ONCE, _rds(group))
    ),
    *_simulated("rds", "CreateDBCluster", Purpose.CLUSTER_ONCE, _rds("cluster-pg:default*")),
    *_simulated("rds", "CreateDBInstance", Purpose.CLUSTER_ONCE, _rds("pg:default*")),
    *_simulated("rds", "CreateDBClusterSnapshot", Purpose.CLUSTER_ONCE, _cluster),
    *_simulated(
        "rds",
        "CreateDBClusterSnapshot DeleteDBCluster AddTagsToResource",
        Purpose.CLUSTER_ONCE,
        _rds("cluster-snapshot:*"),
    ),
    *_simulated("rds", "AddTagsToResource", Purpose.CLUSTER_ONCE, _instances_anywhere),
    *_simulated("cloudwatch", "PutMetricAlarm DescribeAlarms DeleteAlarms", Purpose.CLUSTER_ONCE),
    *_simulated("kms", "DescribeKey", Purpose.CLUSTER),
    *_simulated("secretsmanager", "CreateSecret TagResource", Purpose.CLUSTER, _managed_secret),
    *_simulated("kms", "CreateGrant", Purpose.CLUSTER_ONCE, _keys),
    *_simulated("iam", "CreateServiceLinkedRole", Purpose.CLUSTER_ONCE),
    *(
        Action(
            f"{_SCALING}:{name}",
            Purpose.CLUSTER,
            _anything,
            _call(_SCALING, name, ServiceNamespace="rds"),
        )
        for name in ("DescribeScalableTargets", "DescribeScalingPolicies", "DescribeScalingActivities")
    ),
    *_simulated(
        _SCALING,
        "RegisterScalableTarget DeregisterScalableTarget PutScalingPolicy DeleteScalingPolicy",
        Purpose.CLUSTER,
    ),
    *_simulated("pricing", "GetProducts", Purpose.COSTS),
    *_simulated("cloudwatch", "GetMetricData", Purpose.COSTS),
    *_simulated("lambda", "GetFunctionConfiguration", Purpose.COSTS, _function),
    *_simulated("secretsmanager", "DescribeSecret", Purpose.COSTS, _secret_of_login),
    *_simulated("secretsmanager", "DescribeSecret", Purpose.COSTS, _own_secret),
    *_simulated(_SCALING, "DescribeScalableTargets DescribeScalingPolicies", Purpose.COSTS),
    *_simulated("cloudwatch", "GetMetricData", Purpose.FUNCTIONS),
    Action("lambda:GetFunction", Purpose.FUNCTIONS, _function, _call("lambda", "GetFunction", FunctionName=PROJECTOR)),
    Action(
        "lambda:ListEventSourceMappings",
        Purpose.FUNCTIONS,
        _anything,
        _call("lambda", "ListEventSourceMappings", MaxItems=1),
    ),
    Action(
        "lambda:ListTags",
        Purpose.FUNCTIONS,
        _function,
        lambda on: ApiCall("lambda", "ListTags", {"Resource": _function(on)}),
    ),
    *_simulated(
        "lambda",
        "CreateFunction UpdateFunctionCode UpdateFunctionConfiguration PutFunctionConcurrency DeleteFunction "
        "TagResource",
        Purpose.FUNCTIONS,
        _function,
    ),
    *_simulated("lambda", "CreateEventSourceMapping", Purpose.FUNCTIONS),
    *_simulated("lambda", "UpdateEventSourceMapping DeleteEventSourceMapping TagResource", Purpose.FUNCTIONS, _mapping),
    *_simulated("lambda", "InvokeFunction", Purpose.FUNCTIONS, _command_function),
    *_simulated("lambda", "InvokeFunction", Purpose.VIA_FUNCTION, _command_function),
    *(
        Action(f"iam:{name}", Purpose.FUNCTIONS, _role, _on_role(name))
        for name in ("GetRole", "ListRolePolicies", "ListAttachedRolePolicies")
    ),
    Action(
        "iam:GetRolePolicy",
        Purpose.FUNCTIONS,
        _role,
        _on_role("GetRolePolicy", PolicyName=POLICY_NAME),
    ),
    *_simulated(
        "iam",
        "CreateRole TagRole PassRole UpdateAssumeRolePolicy PutRolePermissionsBoundary DeleteRole PutRolePolicy "
        "DeleteRolePolicy",
        Purpose.FUNCTIONS,
        _role,
    ),
    Action("logs:DescribeLogGroups", Purpose.FUNCTIONS, _anything, _call("logs", "DescribeLogGroups", limit=1)),
    Action(
        "logs:FilterLogEvents",
        Purpose.FUNCTIONS,
        _log_group,
        _call("logs", "FilterLogEvents", logGroupName=log_group(PROJECTOR), limit=1),
    ),
    *_simulated("logs", "CreateLogGroup TagResource PutRetentionPolicy DeleteLogGroup", Purpose.FUNCTIONS, _log_group),
    Action("sqs:GetQueueUrl", Purpose.FUNCTIONS, _queue, _call("sqs", "GetQueueUrl", QueueName=queue_name(PROJECTOR))),
    *_simulated(
        "sqs",
        "GetQueueAttributes ListQueueTags CreateQueue TagQueue SetQueueAttributes DeleteQueue",
        Purpose.FUNCTIONS,
        _queue,
    ),
    *_simulated("sns", "GetTopicAttributes", Purpose.FUNCTIONS),
    *_simulated("s3", "GetEncryptionConfiguration", Purpose.FUNCTIONS),
    Action(
        "secretsmanager:DescribeSecret",
        Purpose.FUNCTIONS,
        _own_secret,
        lambda on: ApiCall("secretsmanager", "DescribeSecret", {"SecretId": secret_name(on.environment)}),
    ),
    Action(
        "secretsmanager:DescribeSecret",
        Purpose.FUNCTIONS,
        _secret_of_login,
        lambda on: ApiCall("secretsmanager", "DescribeSecret", {"SecretId": on.secret}) if on.secret else None,
    ),
    *_simulated(
        "secretsmanager",
        "GetSecretValue CreateSecret TagResource PutSecretValue RestoreSecret DeleteSecret",
        Purpose.FUNCTIONS,
        _own_secret,
    ),
    Action(
        "rds:DescribeDBSubnetGroups", Purpose.FUNCTIONS, _anything, _call("rds", "DescribeDBSubnetGroups", **_FIRST)
    ),
    *(
        Action(f"ec2:{name}", Purpose.FUNCTIONS, _anything, _call("ec2", name, DryRun=True))
        for name in ("DescribeSubnets", "DescribeSecurityGroups", "DescribeVpcs")
    ),
)
"""All that cqrsctl asks of AWS. `rds-db:connect` is not among them: the database itself refuses without."""
