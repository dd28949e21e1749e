"""What the functions may do: the policies of their roles, for a deployment and for the template.

A resource is an ARN, or what CloudFormation makes one of. Which actions know a narrower resource than `*`, the Service
Authorization Reference says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_VERSION = "2012-10-17"
_KEEPING_INTERFACES = ("ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses")
_LOOKING_AT_NETWORK = ("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets")
_MAKING_INTERFACES = "ec2:CreateNetworkInterface"

Resource = Any
Statement = dict[str, Any]
Document = dict[str, Any]


def document(statements: Iterable[Statement]) -> Document:
    """A policy of statements."""
    return {"Version": _VERSION, "Statement": [*statements]}


def trust() -> Document:
    """Lambda may take the role, nobody else.

    Its name is the same in every partition; IAM refuses lambda.amazonaws.com.cn. Source:
    https://github.com/aws/aws-cdk/issues/2198.
    """
    principal = {"Service": "lambda.amazonaws.com"}
    return document([{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}])


def command(table: Resource, logs: Resource) -> Document:
    """Put items into the table, and write the log: the put reads nothing."""
    return document([_allow("PutItems", ["dynamodb:PutItem"], table), _write_logs(logs)])


def projector(
    streams: Resource, login: Iterable[Statement], logs: Resource, destination: Iterable[Statement]
) -> list[Statement]:
    """Read the table's stream, log in to the database, write the log, report batches that failed for good."""
    reading = [f"dynamodb:{operation}" for operation in ("DescribeStream", "GetRecords", "GetShardIterator")]
    return [
        _allow("ReadStream", reading, streams),
        _allow("FindStream", ["dynamodb:ListStreams"], "*"),
        *login,
        _write_logs(logs),
        *destination,
    ]


def secret(of_login: Resource) -> Statement:
    """Read the secret with the login."""
    return _allow("ReadLogin", ["secretsmanager:GetSecretValue"], of_login)


def use_key(name: str, operations: Iterable[str], keys: Resource, condition: dict[str, Any]) -> Statement:
    """Use a key of KMS: what is encrypted with a key of its own needs that besides."""
    return {**_allow(name, [f"kms:{operation}" for operation in operations], keys), "Condition": condition}


def token(user: Resource) -> Statement:
    """Log in with IAM tokens."""
    return _allow("LogIn", ["rds-db:connect"], user)


def queue(resource: Resource) -> list[Statement]:
    """Report to a queue what failed."""
    return [_allow("ReportFailures", ["sqs:SendMessage"], resource)]


def destination(arn: str) -> list[Statement]:
    """Report to a queue, a topic or a bucket what failed.

    Source: "Retain discarded batch records for a DynamoDB event source in Lambda", Lambda Developer Guide.
    """
    service = arn.split(":")[2]
    if service == "sqs":
        return queue(arn)
    if service == "sns":
        return [_allow("ReportFailures", ["sns:Publish"], arn)]
    return [
        _allow("FindBucket", ["s3:ListBucket"], arn),
        _allow("ReportFailures", ["s3:PutObject"], f"{arn}/*"),
    ]


def network(arn: Callable[[str, str], Resource], security_groups: Iterable[str], function: str) -> list[Statement]:
    """What Lambda needs to put a function into a VPC, and the function's own code does not.

    `arn` makes one of a service and a resource. Lambda wants DeleteNetworkInterface to be allowed on `*/*`, but for IAM
    a wildcard is no type of resource, so interfaces are named too. Sources: "Giving Lambda functions access to
    resources in an Amazon VPC", AWS Lambda Developer Guide; "Identify AWS resources with Amazon Resource Names (ARNs)",
    IAM User Guide.
    """
    made_of = ["network-interface/*", "subnet/*", *(f"security-group/{group}" for group in security_groups)]
    return [
        _allow("MakeInterfaces", [_MAKING_INTERFACES], [arn("ec2", resource) for resource in made_of]),
        _allow("KeepInterfaces", [*_KEEPING_INTERFACES], [arn("ec2", "network-interface/*"), arn("ec2", "*/*")]),
        _allow("LookAtNetwork", [*_LOOKING_AT_NETWORK], "*"),
        {
            "Sid": "NotByCode",
            "Effect": "Deny",
            "Action": [_MAKING_INTERFACES, *_KEEPING_INTERFACES, *_LOOKING_AT_NETWORK],
            "Resource": "*",
            "Condition": {"ArnEquals": {"lambda:SourceFunctionArn": arn("lambda", f"function:{function}")}},
        },
    ]


def _write_logs(group: Resource) -> Statement:
    """The group is made with the function, with its retention, so the function need not."""
    return _allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], group)


def _allow(name: str, actions: list[str], resource: Resource) -> Statement:
    return {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resource}
