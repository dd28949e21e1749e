"""The entry points of the two Lambda functions: `command` and `projector`.

Importing this opens nothing. Clients and connections are made at the first invocation, and kept for the next ones.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from cqrsctl.aws import aws_errors
from cqrsctl.functions import settings
from cqrsctl.functions.command import CommandFunction
from cqrsctl.functions.logins import SecretLogin, TokenLogin
from cqrsctl.functions.projector_function import ProjectorFunction
from cqrsctl.functions.telemetry import Telemetry
from cqrsctl.read_model import heartbeat
from cqrsctl.read_model.connection import Endpoint

if TYPE_CHECKING:
    from cqrsctl.functions.telemetry import Context

_CONNECT_SECONDS = 5
_READ_SECONDS = 10
_ATTEMPTS = 4


def command(event: Any, context: Context) -> dict[str, Any]:
    """ProductCommandFunction."""
    return Telemetry().invoke(lambda: command_function()(event), context)


def projector(event: Any, context: Context) -> dict[str, Any]:
    """ProductHandlerFunction."""
    holder = f"{heartbeat.FUNCTION} {context.function_name}, request {context.aws_request_id}"
    return Telemetry().invoke(lambda: projector_function()(event, holder), context)


@cache
def command_function() -> CommandFunction:
    """The command function as this environment sets it. Raises ConfigurationError."""
    return CommandFunction(settings.table(os.environ), _client("dynamodb"))


@cache
def projector_function() -> ProjectorFunction:
    """The projector function as this environment sets it. Raises ConfigurationError."""
    table, database = settings.table(os.environ), settings.database(os.environ)
    login = (
        SecretLogin(_client("secretsmanager"), database.secret, database.user)
        if database.secret
        else TokenLogin(_client("rds"), database)
    )
    return ProjectorFunction(
        table=table,
        projections=settings.projections(),
        endpoint=Endpoint(database.host, database.port, database.name, login, settings.ca_bundle()),
        login=login,
        now=lambda: datetime.now(UTC),
    )


def _client(service: str) -> Any:
    """A client with the role's credentials. boto3 itself reads AWS_ENDPOINT_URL and its kin."""
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        user_agent_extra="cqrsctl",
    )
    with aws_errors(service):
        return boto3.client(service, config=config)
