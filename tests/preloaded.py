"""What a process that others are forked from has ready: the descriptions of AWS's services, read once.

Imported last, by the server of `tests.forked`. Nothing is collected as garbage in its children that was there before
them: that would copy the memory which they share with it.
"""

from __future__ import annotations

import functools
import gc

import boto3
import botocore.session

SERVICES = (
    "application-autoscaling",
    "cloudwatch",
    "dynamodb",
    "dynamodbstreams",
    "iam",
    "lambda",
    "logs",
    "rds",
    "secretsmanager",
    "sqs",
    "sts",
)

create_loader = functools.cache(botocore.session.create_loader)


def read() -> None:
    """Read what a client of each service reads, for all sessions of this process and of its children."""
    botocore.session.create_loader = create_loader
    session = boto3.Session("key", "secret", region_name="eu-west-1")
    for service in SERVICES:
        session.client(service)
    gc.collect()
    gc.freeze()


if __name__ != "__main__":
    read()
