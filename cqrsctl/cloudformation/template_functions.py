"""The template's two functions: roles, logs, the mapping of the stream and the failure queue."""

from __future__ import annotations

from typing import Any

from cqrsctl.cloudformation.intrinsics import arn, attribute, ref, sub
from cqrsctl.functions import policies
from cqrsctl.functions.deploy import COMMAND_SECONDS, PROJECTOR_SECONDS
from cqrsctl.functions.function import MEMORY_MB, RUNTIME
from cqrsctl.functions.mapping import BATCH_SIZE, MOST_AGE_SECONDS, WINDOW_SECONDS
from cqrsctl.functions.parts import COMMAND_HANDLER, PROJECTOR_HANDLER

_QUEUE_SECONDS = 14 * 86_400


def resources() -> dict[str, Any]:
    return {**_command(), **_projector(), **_mapping()}


def _command() -> dict[str, Any]:
    """The command side: it needs the table only, so it stays outside the VPC."""
    return {
        "CommandLogs": _logs("CommandFunctionName"),
        "CommandRole": _role(policies.command(attribute("Table", "Arn"), attribute("CommandLogs", "Arn"))),
        "CommandFunction": _function(
            "CommandFunctionName",
            "Puts a product into the write model",
            handler=COMMAND_HANDLER,
            role="CommandRole",
            logs="CommandLogs",
            seconds=COMMAND_SECONDS,
            megabytes=MEMORY_MB,
            variables={},
        ),
    }


def _projector() -> dict[str, Any]:
    function = _function(
        "ProjectorFunctionName",
        "Applies the changes of the write model to the read model",
        handler=PROJECTOR_HANDLER,
        role="ProjectorRole",
        logs="ProjectorLogs",
        seconds=PROJECTOR_SECONDS,
        megabytes=ref("ProjectorMemory"),
        variables={
            "CQRSCTL_DATABASE_HOST": attribute("Cluster", "Endpoint.Address"),
            "CQRSCTL_DATABASE_PORT": attribute("Cluster", "Endpoint.Port"),
            "CQRSCTL_DATABASE_NAME": ref("DatabaseName"),
            "CQRSCTL_DATABASE_SECRET": attribute("Cluster", "MasterUserSecret.SecretArn"),
        },
    )
    function["Properties"]["VpcConfig"] = {
        "SubnetIds": ref("SubnetIds"),
        "SecurityGroupIds": [attribute("ProjectorGroup", "GroupId")],
    }
    return {
        "ProjectorLogs": _logs("ProjectorFunctionName"),
        "ProjectorRole": _role(
            policies.document(
                [
                    *policies.projector(
                        attribute("Table", "StreamArn"),
                        [policies.secret(attribute("Cluster", "MasterUserSecret.SecretArn"))],
                        attribute("ProjectorLogs", "Arn"),
                        policies.queue(attribute("FailureQueue", "Arn")),
                    ),
                    *policies.network(arn, ["${ProjectorGroup.GroupId}"], "${ProjectorFunctionName}"),
                ]
            )
        ),
        "ProjectorFunction": function,
    }


def _logs(function_name: str) -> dict[str, Any]:
    return {
        "Type": "AWS::Logs::LogGroup",
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Delete",
        "Properties": {
            "LogGroupName": sub(f"/aws/lambda/${{{function_name}}}"),
            "RetentionInDays": ref("LogRetentionDays"),
        },
    }


def _role(policy: policies.Document) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": policies.trust(),
            "Policies": [{"PolicyName": "pipeline", "PolicyDocument": policy}],
        },
    }


def _function(
    name: str,
    description: str,
    *,
    handler: str,
    role: str,
    logs: str,
    seconds: int,
    megabytes: Any,
    variables: dict[str, Any],
) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "FunctionName": ref(name),
            "Description": description,
            "Runtime": RUNTIME,
            "Architectures": ["arm64"],
            "Handler": handler,
            "Code": {"S3Bucket": ref("CodeBucket"), "S3Key": ref("CodeKey")},
            "Role": attribute(role, "Arn"),
            "Timeout": seconds,
            "MemorySize": megabytes,
            "LoggingConfig": {"LogGroup": ref(logs)},
            "Environment": {"Variables": {"CQRSCTL_TABLE": ref("TableName"), **variables}},
        },
    }


def _mapping() -> dict[str, Any]:
    return {
        "FailureQueue": {
            "Type": "AWS::SQS::Queue",
            "DeletionPolicy": "Delete",
            "UpdateReplacePolicy": "Delete",
            "Properties": {"MessageRetentionPeriod": _QUEUE_SECONDS, "SqsManagedSseEnabled": True},
        },
        "Mapping": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "DependsOn": "Writer",
            "Properties": {
                "EventSourceArn": attribute("Table", "StreamArn"),
                "FunctionName": ref("ProjectorFunction"),
                "StartingPosition": "TRIM_HORIZON",
                "BatchSize": BATCH_SIZE,
                "MaximumBatchingWindowInSeconds": WINDOW_SECONDS,
                "ParallelizationFactor": ref("Parallelization"),
                "BisectBatchOnFunctionError": True,
                "MaximumRetryAttempts": ref("RetryAttempts"),
                "MaximumRecordAgeInSeconds": MOST_AGE_SECONDS,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                "MetricsConfig": {"Metrics": ["EventCount"]},
                "DestinationConfig": {"OnFailure": {"Destination": attribute("FailureQueue", "Arn")}},
            },
        },
    }
