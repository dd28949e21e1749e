"""CloudFormation of the whole pipeline, for teams that deploy from templates. Pure.

Names of types and properties: AWS CloudFormation Template Reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cqrsctl.cloudformation import template_alarms, template_functions, template_stores
from cqrsctl.cloudformation.intrinsics import attribute, given, ref
from cqrsctl.functions.function import MEMORY_MB
from cqrsctl.functions.mapping import MOST_RETRIES
from cqrsctl.functions.parts import COMMAND, PROJECTOR

_LOG_DAYS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
_SWITCH = ["true", "false"]
_FUNCTION_NAME = "[a-zA-Z0-9_-]{1,64}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the parameters' defaults are taken from: the environment's names and numbers."""

    table: str
    database: str
    cluster: str
    port: int = 3306
    instance_class: str = "db.r6g.large"
    """`db.serverless` for Aurora Serverless v2."""


def template(settings: Settings) -> dict[str, Any]:
    """The template, ready for JSON. CloudFormation asks for the capability CAPABILITY_IAM, for the two roles."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": (
            "A CQRS pipeline: a DynamoDB table, its stream, a projector on AWS Lambda, and an Aurora MySQL read model."
        ),
        "Parameters": {
            **_code(),
            **_network(settings),
            **_stores(settings),
            **_readers(),
            **_functions(),
            **_watching(),
        },
        "Conditions": {
            "Serverless": {"Fn::Equals": [ref("InstanceClass"), template_stores.SERVERLESS_CLASS]},
            "ClientGroupGiven": given("ClientSecurityGroupId"),
            "AlarmTopicGiven": given("AlarmTopicArn"),
        },
        "Resources": {**template_stores.resources(), **template_functions.resources(), **template_alarms.resources()},
        "Outputs": _outputs(),
    }


def _code() -> dict[str, Any]:
    return {
        "CodeBucket": _text("The S3 bucket of the functions' code, in this region.", AllowedPattern="[a-z0-9.-]{3,63}"),
        "CodeKey": _text(
            "The key of the zip that `cqrsctl function package` made. New code needs a new key, or it is not noticed.",
            MinLength=1,
            MaxLength=1024,
        ),
    }


def _network(settings: Settings) -> dict[str, Any]:
    return {
        "VpcId": {"Type": "AWS::EC2::VPC::Id", "Description": "The network of the database and the projector."},
        "SubnetIds": {
            "Type": "List<AWS::EC2::Subnet::Id>",
            "Description": (
                "Private subnets in two or more availability zones, with a route to Secrets Manager: NAT, or an "
                "interface endpoint."
            ),
        },
        "ClientSecurityGroupId": _text(
            "A security group that may query the database too; empty for none.",
            Default="",
            AllowedPattern="(sg-[0-9a-f]+)?",
        ),
        "DatabasePort": _number("The port of the database.", settings.port, 1150, 65_535),
    }


def _stores(settings: Settings) -> dict[str, Any]:
    return {
        "TableName": _text("The table of products.", Default=settings.table, AllowedPattern="[a-zA-Z0-9_.-]{3,255}"),
        "ClusterName": _text(
            "The Aurora cluster; its instances are called NAME-1 and NAME-2.",
            Default=settings.cluster.lower(),  # as RDS keeps it
            AllowedPattern="[a-z](-?[a-z0-9])*",
            MaxLength=61,
        ),
        "DatabaseName": _text(
            "The database of the read model.", Default=settings.database, AllowedPattern="[a-zA-Z][a-zA-Z0-9_]{0,63}"
        ),
        "EngineVersion": _text("Aurora MySQL 3; 8.0 is the minor version that is AWS's default.", Default="8.0"),
        "InstanceClass": _text(
            "The class of every instance; db.serverless for Aurora Serverless v2.",
            Default=settings.instance_class,
            AllowedPattern=r"db\.[a-z0-9.-]+",
        ),
        "ServerlessMinCapacity": _number("Aurora capacity units, with db.serverless only.", 0.5, 0, 256),
        "ServerlessMaxCapacity": _number("Aurora capacity units, with db.serverless only.", 16, 1, 256),
        "IamAuthentication": _text(
            "Whether IAM identities may log in to the database.", Default="false", AllowedValues=_SWITCH
        ),
        "DeletionProtection": _text(
            "Whether table and cluster refuse to be deleted. Turn it on once the stack is created: it would block "
            "the rollback of a creation; turn it off before you delete the stack.",
            Default="false",
            AllowedValues=_SWITCH,
        ),
    }


def _readers() -> dict[str, Any]:
    return {
        "ReaderMinimum": _number("Autoscaling keeps at least as many readers, the stack's own among them.", 1, 0, 15),
        "ReaderMaximum": _number("Autoscaling makes no more readers than this.", 4, 0, 15),
        "ReaderCpuTarget": _number("Percent of CPU, averaged over the readers, that autoscaling aims at.", 60, 1, 100),
    }


def _functions() -> dict[str, Any]:
    return {
        "CommandFunctionName": _text("The command side's function.", Default=COMMAND, AllowedPattern=_FUNCTION_NAME),
        "ProjectorFunctionName": _text("The projector's function.", Default=PROJECTOR, AllowedPattern=_FUNCTION_NAME),
        "ProjectorMemory": _number("MB; CPU grows with it.", MEMORY_MB, 128, 10_240),
        "Parallelization": _number("Batches of a shard at a time; order is kept for each product.", 1, 1, 10),
        "RetryAttempts": _number(
            "How often a failed batch comes again before its place in the stream goes to the failure queue.",
            MOST_RETRIES,
            0,
            10_000,
        ),
        "LogRetentionDays": {**_number("How long logs are kept.", 30), "AllowedValues": _LOG_DAYS},
    }


def _watching() -> dict[str, Any]:
    return {
        "IteratorAgeAlarmMilliseconds": _number("The age of the stream's reading that is alarming.", 300_000, 1_000),
        "AlarmTopicArn": _text(
            "The SNS topic that alarms are sent to; empty for none.",
            Default="",
            AllowedPattern="(arn:aws[a-z-]*:sns:[^:]+:[0-9]{12}:.+)?",
        ),
    }


def _outputs() -> dict[str, Any]:
    values = {
        "StreamArn": ("The table's stream", attribute("Table", "StreamArn")),
        "WriterEndpoint": ("The host to write to", attribute("Cluster", "Endpoint.Address")),
        "ReaderEndpoint": ("The host to query", attribute("Cluster", "ReadEndpoint.Address")),
        "SecretArn": ("The database's user and password", attribute("Cluster", "MasterUserSecret.SecretArn")),
        "CommandFunction": ("The command side's function", ref("CommandFunction")),
        "ProjectorFunction": ("The projector's function", ref("ProjectorFunction")),
        "FailureQueueUrl": ("Where failed batches are reported", ref("FailureQueue")),
    }
    return {name: {"Description": description, "Value": value} for name, (description, value) in values.items()}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"Type": "String", "Description": description, **more}


def _number(description: str, default: float, least: float | None = None, most: float | None = None) -> dict[str, Any]:
    limits = {"MinValue": least, "MaxValue": most}
    return {
        "Type": "Number",
        "Description": description,
        "Default": default,
        **{name: limit for name, limit in limits.items() if limit is not None},
    }
