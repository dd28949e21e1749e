"""The template's two functions: roles, logs, the mapping of the stream and the failure queue."""

from __future__ import annotations

from typing import Any

from cqrsctl.functions.deploy import COMMAND_SECONDS, PROJECTOR_SECONDS
from cqrsctl.functions.function import MEMORY_MB, RUNTIME
from cqrsctl.functions.intrinsics import arn, attribute, ref, sub
from cqrsctl.functions.mapping import BATCH_SIZE, MOST_AGE_SECONDS, WINDOW_SECONDS

_QUEUE_SECONDS = 14 * 86_400
_INTERFACE_ACTIONS = [
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
]
_LOOKING_ACTIONS = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]


def resources() -> dict[str, Any]:
    return {**_command(), **_projector(), **_mapping()}


def _command() -> dict[str, Any]:
    """The command side: it needs the table only, so it stays outside the VPC."""
    return {
        "CommandLogs": _logs("CommandFunctionName"),
        "CommandRole": _role(
            _allow("PutProducts", ["dynamodb:PutItem"], attribute("Table", "Arn")),
            _write_logs("CommandLogs"),
        ),
        "CommandFunction": _function(
            "CommandFunctionName",
            "Puts a product into the write model",
            handler="command",
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
        handler="projector",
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
            _allow(
                "ReadStream",
                ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
                attribute("Table", "StreamArn"),
            ),
            _allow("FindStream", ["dynamodb:ListStreams"], "*"),
            _allow("ReadLogin", ["secretsmanager:GetSecretValue"], attribute("Cluster", "MasterUserSecret.SecretArn")),
            _allow("ReportFailures", ["sqs:SendMessage"], attribute("FailureQueue", "Arn")),
            _write_logs("ProjectorLogs"),
            *_use_network(),
        ),
        "ProjectorFunction": function,
    }


def _use_network() -> list[dict[str, Any]]:
    """What Lambda needs to put the projector into the VPC, and the projector's own code does not.

    DeleteNetworkInterface has to be allowed on all kinds of resources: naming interfaces only is not enough. Source:
    "Giving Lambda functions access to resources in an Amazon VPC", AWS Lambda Developer Guide.
    """
    create, *others = _INTERFACE_ACTIONS
    return [
        _allow(
            "MakeInterfaces",
            [create],
            [
                arn("ec2", "network-interface/*"),
                arn("ec2", "subnet/*"),
                arn("ec2", "security-group/${ProjectorGroup.GroupId}"),
            ],
        ),
        _allow("KeepInterfaces", others, arn("ec2", "*/*")),
        _allow("LookAtNetwork", _LOOKING_ACTIONS, "*"),
        {
            "Sid": "NotByCode",
            "Effect": "Deny",
            "Action": [*_INTERFACE_ACTIONS, *_LOOKING_ACTIONS],
            "Resource": "*",
            "Condition": {
                "ArnEquals": {"lambda:SourceFunctionArn": arn("lambda", "function:${ProjectorFunctionName}")}
            },
        },
    ]


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


def _role(*statements: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "lambda.amazonaws.com"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            },
            "Policies": [
                {
                    "PolicyName": "pipeline",
                    "PolicyDocument": {"Version": "2012-10-17", "Statement": list(statements)},
                }
            ],
        },
    }


def _allow(reason: str, actions: list[str], resource: Any) -> dict[str, Any]:
    return {"Sid": reason, "Effect": "Allow", "Action": actions, "Resource": resource}


def _write_logs(logs: str) -> dict[str, Any]:
    """The group is the stack's, so the function need not make it."""
    return _allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], attribute(logs, "Arn"))


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
            "Handler": f"cqrsctl.functions.handlers.{handler}",
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
                "DestinationConfig": {"OnFailure": {"Destination": attribute("FailureQueue", "Arn")}},
            },
        },
    }
