"""Stand-ins for boto3's clients whose pages are asked for as boto3's paginator asks."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3

_SERVICES = ("cloudwatch", "dynamodb", "iam", "lambda", "logs", "pricing", "rds")


class Paginated:
    """A stand-in whose operations are its attributes."""

    def get_paginator(self, operation: str) -> Any:
        """boto3's paginator of the operation, which calls the stand-in's."""
        found = next(each for each in map(client, _SERVICES) if hasattr(each, operation))
        paginator = found.get_paginator(operation)
        paginator._method = getattr(self, operation)
        return paginator


@cache
def client(service: str) -> Any:
    """A client that is never used to call."""
    return boto3.client(service, "eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret")
