"""The requests that IAM decides on when a call is made: its own, and those of what AWS does in turn for the caller.

The types of resources that an action has to be allowed on are AWS's own facts; here is which they are, by the call's
parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.aws.policy_judge import Request, Unjudged, facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cqrsctl.aws import ApiCall
    from cqrsctl.functions.parts import Place

UUID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
SUFFIX = "AbCdEf"
LABEL = "2024-03-01T10:00:00.000"
_PREFIXES = {"dynamodbstreams": "dynamodb"}
_ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction", "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration"}
_READS_AND_WRITES = {
    *("GetItem", "BatchGetItem", "Scan", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"),
    *("DescribeStream", "GetShardIterator", "GetRecords"),
}

_NEED_NO_PERMISSION = {"sts:GetCallerIdentity"}
"""Source: "GetCallerIdentity", AWS Security Token Service API Reference."""

Parameters = dict[str, Any]
Resources = Callable[["World", Parameters], list[str]]


@dataclass(frozen=True)
class World:
    """Where calls are made, of which table, and the KMS keys of what they are on, by the service that uses them."""

    place: Place
    table: str = "Products"
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        return self.place.arn("dynamodb", f"table/{self.table}/stream/{LABEL}")

    def of(self, call: ApiCall) -> Iterator[Request]:
        """All requests of a call."""
        yield from self.own(call)
        yield from self.in_turn(call)

    def own(self, call: ApiCall) -> Iterator[Request]:
        """The requests of the call itself: on each resource that its action is on, and of the keys of those."""
        action, prefix = action_of(call), _prefix(call)
        if action in _NEED_NO_PERMISSION:
            return
        found = facts(action)
        types = found.required or frozenset(found.arns)
        if not types:
            yield Request(action, "*")
        for each in sorted(types | _ALSO.get(action, frozenset())):
            for arn in self.resources(prefix, each, call.parameters):
                yield Request(action, arn)
        if prefix == "dynamodb" and call.operation in _READS_AND_WRITES:
            yield from self.uses_key("dynamodb", "Decrypt")
        if action == "secretsmanager:GetSecretValue":
            yield from self.uses_key("secretsmanager", "Decrypt")

    def in_turn(self, call: ApiCall) -> Iterator[Request]:
        """What the caller has to be allowed besides, because AWS does it for the call."""
        action = action_of(call)
        if (tagging := _TAGGING.get(action)) and (call.parameters.get("Tags") or call.parameters.get("tags")):
            name, kind = tagging
            yield from (Request(name, arn) for arn in self.resources(_prefix(call), kind, call.parameters))
        if action in _IN_TURN:
            yield from _IN_TURN[action](self, call.parameters)

    def uses_key(self, service: str, *operations: str) -> Iterator[Request]:
        """The use of a key through a service; none if what is there has no key of its own."""
        key = self.keys.get(service)
        if key is not None:
            context = {"kms:ViaService": (f"{service}.{self.place.region}.amazonaws.com",)}
            yield from (Request(f"kms:{operation}", key, context) for operation in operations)

    def resources(self, prefix: str, kind: str, parameters: Parameters) -> list[str]:
        """The ARNs of one type that a call is on. Raises Unjudged for a type that is unknown here."""
        if f"{prefix}:{kind}" not in _RESOURCES:
            raise Unjudged(f"which {prefix}:{kind} a call with {parameters.keys()} is on")
        return _RESOURCES[f"{prefix}:{kind}"](self, parameters)


def action_of(call: ApiCall) -> str:
    """The action that IAM knows a call as."""
    name = f"{_prefix(call)}:{call.operation}"
    return _ACTIONS.get(name, name)


def _prefix(call: ApiCall) -> str:
    return _PREFIXES.get(call.service, call.service)


def _tables(world: World, of: Parameters) -> list[str]:
    if "ResourceArn" in of:
        return [of["ResourceArn"]]
    names = [of["TableName"]] if "TableName" in of else list(of["RequestItems"])
    return [world.place.arn("dynamodb", f"table/{name}") for name in names]


def _secrets(world: World, of: Parameters) -> list[str]:
    name = of.get("SecretId") or of["Name"]
    return [name if name.startswith("arn:") else world.place.arn("secretsmanager", f"secret:{name}-{SUFFIX}")]


def _named(service: str, kind: str, *parameters: str, default: str | None = None) -> Resources:
    """A resource that one of these parameters names, by name or ARN; without it the default, or none."""

    def found(world: World, of: Parameters) -> list[str]:
        name = next((of[each] for each in parameters if of.get(each)), default)
        if name is None:
            return []
        return [name if name.startswith("arn:") else world.place.arn(service, f"{kind}{name.rpartition('/')[2]}")]

    return found


def _log_groups(world: World, of: Parameters) -> list[str]:
    """Most actions know a log group by the ARN with `:*`, some by the other: both have to be allowed.

    Source: "CloudWatch Logs resources and operations", Amazon CloudWatch Logs User Guide.
    """
    arn = world.place.arn("logs", f"log-group:{of['logGroupName']}")
    return [arn, f"{arn}:*"]


def _keys(world: World, of: Parameters) -> list[str]:
    return [of["KeyId"] if of["KeyId"].startswith("arn:") else world.place.arn("kms", "key/of-an-alias")]


def _roles(world: World, of: Parameters) -> list[str]:
    return [world.place.arn("iam", f"role/{of['RoleName']}", regional=False)]


_ALSO: dict[str, frozenset[str]] = {"rds:CreateDBInstance": frozenset({"cluster", "og", "pg", "subgrp"})}
"""Types that the call's parameters bring in.

Source: "Permission policies to create, modify and, delete resources in Amazon RDS", Amazon RDS User Guide.
"""
_RESOURCES: dict[str, Resources] = {
    "dynamodb:table": _tables,
    "dynamodb:stream": lambda world, of: [of.get("StreamArn", world.stream)],
    "secretsmanager:Secret": _secrets,
    "rds:cluster": _named("rds", "cluster:", "DBClusterIdentifier", default="*"),
    "rds:db": _named("rds", "db:", "DBInstanceIdentifier", default="*"),
    "rds:subgrp": _named("rds", "subgrp:", "DBSubnetGroupName", default="default"),
    "rds:cluster-pg": lambda world, _: [world.place.arn("rds", "cluster-pg:default.aurora-mysql8.0")],
    "rds:pg": lambda world, _: [world.place.arn("rds", "pg:default.aurora-mysql8.0")],
    "rds:og": lambda world, _: [world.place.arn("rds", "og:default:aurora-mysql-8-0")],
    "rds:cluster-snapshot": _named("rds", "cluster-snapshot:", "FinalDBSnapshotIdentifier"),
    "lambda:function": _named("lambda", "function:", "FunctionName", "Resource"),
    "lambda:eventSourceMapping": lambda world, of: (
        [] if "Resource" in of else [world.place.arn("lambda", f"event-source-mapping:{of.get('UUID', UUID)}")]
    ),
    "lambda:capacityProvider": lambda *_: [],
    "lambda:code signing config": lambda *_: [],
    "iam:role": _roles,
    "logs:log-group": _log_groups,
    "sqs:queue": _named("sqs", "", "QueueName", "QueueUrl"),
    "sns:topic": _named("sns", "", "TopicArn"),
    "s3:bucket": lambda _, of: [f"arn:aws:s3:::{of['Bucket']}"],
    "kms:key": _keys,
    "application-autoscaling:ScalableTarget": lambda world, _: [
        world.place.arn("application-autoscaling", "scalable-target/0123")
    ],
}
_TAGGING = {
    "dynamodb:CreateTable": ("dynamodb:TagResource", "table"),
    "lambda:CreateFunction": ("lambda:TagResource", "function"),
    "lambda:CreateEventSourceMapping": ("lambda:TagResource", "eventSourceMapping"),
    "iam:CreateRole": ("iam:TagRole", "role"),
    "logs:CreateLogGroup": ("logs:TagResource", "log-group"),
    "sqs:CreateQueue": ("sqs:TagQueue", "queue"),
    "secretsmanager:CreateSecret": ("secretsmanager:TagResource", "Secret"),
    "rds:CreateDBCluster": ("rds:AddTagsToResource", "cluster"),
    "rds:CreateDBInstance": ("rds:AddTagsToResource", "db"),
}
"""What a creation with tags needs too. Source for Lambda: "Using tags on event source mappings", Developer Guide."""


def _create_table(world: World, of: Parameters) -> Iterator[Request]:
    """Source: "Authorizing use of your customer managed key", Amazon DynamoDB Developer Guide."""
    if (key := of.get("SSESpecification", {}).get("KMSMasterKeyId")) and key.startswith("arn:"):
        used = World(world.place, keys={"dynamodb": key})
        names = ("Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKey", "DescribeKey", "CreateGrant")
        yield from used.uses_key("dynamodb", *names)


def _create_cluster(world: World, of: Parameters) -> Iterator[Request]:
    """Sources: "Password management with Amazon Aurora and AWS Secrets Manager", "AWS KMS key management", and
    "Using service-linked roles for Amazon Aurora", Amazon Aurora User Guide."""
    secret = world.place.arn("secretsmanager", f"secret:rds!cluster-{UUID}-{SUFFIX}")
    assert of["ManageMasterUserPassword"]
    yield Request("secretsmanager:CreateSecret", secret)
    yield Request("secretsmanager:TagResource", secret)
    yield Request("kms:DescribeKey", world.place.arn("kms", "key/of-secrets-manager"))
    if "KmsKeyId" in of:
        yield from (Request(f"kms:{name}", of["KmsKeyId"]) for name in ("CreateGrant", "DescribeKey"))
    yield _service_role(world, "rds.amazonaws.com", "AWSServiceRoleForRDS")


def _service_role(world: World, service: str, name: str) -> Request:
    role = world.place.arn("iam", f"role/aws-service-role/{service}/{name}", regional=False)
    return Request("iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": (service,)})


def _delete_cluster(world: World, of: Parameters) -> Iterator[Request]:
    """The last snapshot, which has the cluster's tags."""
    for snapshot in world.resources("rds", "cluster-snapshot", of):
        for arn in (*world.resources("rds", "cluster", of), snapshot):
            yield Request("rds:CreateDBClusterSnapshot", arn)
        yield Request("rds:AddTagsToResource", snapshot)


def _register(world: World, of: Parameters) -> Iterator[Request]:
    """Application Auto Scaling tries what it will do, as the caller, also on what cannot be there.

    Source: "Permissions validation for Application Auto Scaling API calls on target resources", its User Guide.
    """
    cluster = world.place.arn("rds", of["ResourceId"])
    nothing = world.place.arn("rds", "db:")
    elsewhere = f"arn:{world.place.partition}:rds:{world.place.region}:12345:db:non-existing-db"
    yield from (Request("rds:CreateDBInstance", arn) for arn in (cluster, nothing))
    yield Request("rds:DeleteDBInstance", nothing)
    yield Request("rds:AddTagsToResource", elsewhere)
    yield Request("rds:DescribeDBClusters", cluster)
    yield Request("rds:DescribeDBInstances", world.place.arn("rds", "db:*"))
    yield from _alarms(world, of)
    yield _service_role(
        world, "rds.application-autoscaling.amazonaws.com", "AWSServiceRoleForApplicationAutoScaling_RDSCluster"
    )


def _alarms(world: World, _: Parameters) -> Iterator[Request]:
    """The same of CloudWatch: the alarms that a policy works by."""
    alarm = world.place.arn("cloudwatch", f"alarm:TargetTracking-cluster:products-AlarmHigh-{UUID}")
    yield from (Request(f"cloudwatch:{name}", alarm) for name in ("PutMetricAlarm", "DescribeAlarms", "DeleteAlarms"))


def _configure(world: World, of: Parameters) -> Iterator[Request]:
    """Source: "Required IAM permissions" of "Giving Lambda functions access to resources in an Amazon VPC", AWS Lambda
    Developer Guide."""
    if "Role" in of:
        yield Request("iam:PassRole", of["Role"], {"iam:PassedToService": ("lambda.amazonaws.com",)})
    if of.get("VpcConfig", {}).get("SubnetIds"):
        yield from (Request(f"ec2:Describe{name}", "*") for name in ("SecurityGroups", "Subnets", "Vpcs"))


_IN_TURN: dict[str, Callable[[World, Parameters], Iterator[Request]]] = {
    "dynamodb:CreateTable": _create_table,
    "rds:CreateDBCluster": _create_cluster,
    "rds:DeleteDBCluster": _delete_cluster,
    "application-autoscaling:RegisterScalableTarget": _register,
    "application-autoscaling:PutScalingPolicy": _alarms,
    "lambda:CreateFunction": _configure,
    "lambda:UpdateFunctionConfiguration": _configure,
    # A function's tags are in its description.
    "lambda:GetFunction": lambda world, of: (
        Request("lambda:ListTags", arn) for arn in world.resources("lambda", "function", of)
    ),
}
NOT_IN_TURN: dict[str, dict[str, str]] = {
    "rds:CreateDBCluster": {
        "iam:PassRole": "no role is given to the cluster",
        "rds:CreateDBInstance": "a Multi-AZ cluster's members only",
        "kms:Decrypt": "the master user's secret has AWS's own key",
        "kms:GenerateDataKey": "the master user's secret has AWS's own key",
    },
    "rds:CreateDBInstance": {
        "iam:PassRole": "no role is given to the member",
        "rds:CreateTenantDatabase": "Oracle only",
        **dict.fromkeys(
            (
                *("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"),
                *("secretsmanager:CreateSecret", "secretsmanager:TagResource"),
            ),
            "the cluster has the key and the secret",
        ),
    },
    "rds:ModifyDBCluster": dict.fromkeys(
        (
            *("iam:PassRole", "rds:ModifyDBInstance"),
            *("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"),
            *("secretsmanager:CreateSecret", "secretsmanager:RotateSecret", "secretsmanager:TagResource"),
        ),
        "only the deletion protection is changed",
    ),
    "rds:DeleteDBCluster": {"rds:DeleteDBInstance": "the members are deleted before"},
    "rds:DeleteDBInstance": dict.fromkeys(
        ("rds:AddTagsToResource", "rds:CreateDBSnapshot", "rds:DeleteTenantDatabase"), "a member has no snapshot"
    ),
    "application-autoscaling:RegisterScalableTarget": {
        "application-autoscaling:TagResource": "the target gets no tags",
    },
    "lambda:CreateFunction": {"lambda:PassCapacityProvider": "the function runs on Lambda's own capacity"},
}
"""Actions that AWS names as possible consequences, and why the calls of cqrsctl do not have them."""
