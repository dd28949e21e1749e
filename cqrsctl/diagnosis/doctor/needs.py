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
from cqrsctl.functions.parts import PROJECTOR, log_group, queue_name, role_name
from cqrsctl.functions.roles import POLICY_NAME
from cqrsctl.functions.secret import secret_name

if TYPE_CHECKING:
    from cqrsctl.functions.parts import Place


EXAMPLE_SUFFIX = "AbCdEf"
"""Secrets Manager ends a secret's ARN with six characters of its own; IAM is asked about some."""


class Purpose(Enum):
    """What actions are needed for; the value is how it is said."""

    PROJECTING = "to project and to verify"
    PRODUCTS = "to put, get and import products"
    TABLE = "to create and change the table"
    CLUSTER = "to find and operate the cluster"
    COSTS = "for cost"
    FUNCTIONS = "to deploy and operate the functions"
    SELDOM = "for a KMS key of one's own, and what an account has its first of"
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
    """One action. `arn` is what IAM is asked about: * where the action is on nothing by itself.

    `tried` makes the call that tries the action and changes nothing, if there is one; None: there is nothing to try.
    """

    name: str
    purpose: Purpose
    arn: Arn = lambda _: "*"
    tried: Try | None = None


def _table(target: Target) -> str:
    return target.table_arn


def _stream(target: Target) -> str:
    return target.stream_arn or f"{target.table_arn}/stream/*"


def _cluster(target: Target) -> str:
    return target.place.arn("rds", f"cluster:{target.cluster}")


def _instance(target: Target) -> str:
    return target.place.arn("rds", f"db:{target.instance or f'{target.cluster}-1'}")


def _function(target: Target) -> str:
    return target.place.arn("lambda", f"function:{PROJECTOR}")


def _role(target: Target) -> str:
    return target.place.role(PROJECTOR)


def _log_group(target: Target) -> str:
    return target.place.log_group(PROJECTOR)


def _queue(target: Target) -> str:
    return target.place.queue(PROJECTOR)


def _secret(target: Target) -> str:
    named = target.secret or secret_name(target.environment)
    return named if named.startswith("arn:") else target.place.arn("secretsmanager", f"secret:{named}-{EXAMPLE_SUFFIX}")


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
    """A call on the stream; none where what it needs is not there."""

    def call(target: Target) -> ApiCall | None:
        parameters = given(target)
        return None if None in parameters.values() else ApiCall("dynamodbstreams", operation, parameters)

    return call


def _simulated(service: str, operations: str, purpose: Purpose, arn: Arn = _anything) -> list[Action]:
    """Actions that IAM is asked about: to try them would change something, or read a secret."""
    return [Action(f"{service}:{operation}", purpose, arn) for operation in operations.split()]


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
    *_simulated("dynamodb", "PutItem DeleteItem BatchWriteItem", Purpose.PRODUCTS, _table),
    Action("dynamodb:DescribeContinuousBackups", Purpose.TABLE, _table, _on_table("DescribeContinuousBackups")),
    *_simulated(
        "dynamodb",
        "CreateTable UpdateTable DeleteTable UpdateContinuousBackups ListTagsOfResource TagResource",
        Purpose.TABLE,
        _table,
    ),
    Action("rds:DescribeDBClusters", Purpose.CLUSTER, _cluster, _call("rds", "DescribeDBClusters", **_FIRST)),
    Action("rds:DescribeDBInstances", Purpose.CLUSTER, _instance, _call("rds", "DescribeDBInstances", **_FIRST)),
    Action(
        "rds:DescribeOrderableDBInstanceOptions",
        Purpose.CLUSTER,
        _anything,
        _call("rds", "DescribeOrderableDBInstanceOptions", Engine=ENGINE, **_FIRST),
    ),
    Action(
        "rds:DescribePendingMaintenanceActions",
        Purpose.CLUSTER,
        _anything,
        _call("rds", "DescribePendingMaintenanceActions", **_FIRST),
    ),
    Action(
        "rds:DescribeDBMajorEngineVersions",
        Purpose.CLUSTER,
        _anything,
        _call("rds", "DescribeDBMajorEngineVersions", Engine=ENGINE, **_FIRST),
    ),
    *_simulated("rds", "CreateDBCluster ModifyDBCluster DeleteDBCluster FailoverDBCluster", Purpose.CLUSTER, _cluster),
    *_simulated("rds", "CreateDBInstance DeleteDBInstance", Purpose.CLUSTER, _instance),
    *_simulated("rds", "AddTagsToResource", Purpose.CLUSTER, _cluster),
    *_simulated("kms", "DescribeKey", Purpose.CLUSTER),
    *_simulated("secretsmanager", "CreateSecret TagResource", Purpose.CLUSTER, _managed_secret),
    *_simulated("kms", "DescribeKey CreateGrant", Purpose.SELDOM),
    *_simulated("iam", "CreateServiceLinkedRole", Purpose.SELDOM),
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
    *_simulated("secretsmanager", "DescribeSecret", Purpose.COSTS, _secret),
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
        "InvokeFunction TagResource",
        Purpose.FUNCTIONS,
        _function,
    ),
    *_simulated(
        "lambda",
        "CreateEventSourceMapping UpdateEventSourceMapping DeleteEventSourceMapping",
        Purpose.FUNCTIONS,
    ),
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
        _secret,
        lambda on: ApiCall("secretsmanager", "DescribeSecret", {"SecretId": on.secret or secret_name(on.environment)}),
    ),
    *_simulated(
        "secretsmanager",
        "GetSecretValue CreateSecret TagResource PutSecretValue RestoreSecret DeleteSecret",
        Purpose.FUNCTIONS,
        _secret,
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
